/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/frame_rule.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#if defined(__x86_64__) && defined(__GLIBC__) && __GLIBC_PREREQ(2, 35)

/* Registers as the System V ABI's DWARF numbers them. */
#define REGISTER_BP 6
#define REGISTER_SP 7
#define REGISTER_RETURN 16

/* Encodings of pointers (Linux Standard Base, "DWARF Exception Header Encoding"). */
#define ENCODING_U4 0x03
#define ENCODING_S4_RELATIVE 0x1b
#define ENCODING_S4_TO_TABLE 0x3b
#define ENCODING_ALIGNED 0x50

#define STATES_MAX 4

/* Bytes that are being read; `at` is NULL once something did not fit. */
struct reader {
    const uint8_t *at, *end;
};

/* Where a register of the caller is. */
enum saved { SAVED_SAME, SAVED_AT_CFA, SAVED_AT_BP, SAVED_NOWHERE, SAVED_ELSEWHERE };
struct location {
    enum saved saved;
    int64_t offset;
};

/* The row of the table that is being made. */
struct row {
    enum berth_frame_kind kind;
    int64_t offset;
    struct location bp, sp, ret; /* the caller's `sp` is the cfa as long as nothing is said of it */
};

struct program {
    struct row row, first; /* `first`: after the common part */
    struct row kept[STATES_MAX];
    unsigned kept_count;
    uint64_t code_align;
    int64_t data_align;
    uintptr_t location, wanted;
};

/* One function's description. */
struct description {
    struct reader common, own;
    uintptr_t begin, size;
    uint64_t code_align;
    int64_t data_align;
    bool is_signal;
};

static uint64_t read_fixed(struct reader *r, size_t size)
{
    uint64_t value = 0;

    if (!r->at || (size_t)(r->end - r->at) < size) {
        r->at = NULL;
        return 0;
    }
    memcpy(&value, r->at, size); /* the machine is little-endian */
    r->at += size;
    return value;
}

/* Seven bits a byte, the lowest first; `ret_end` is how many bits there were, `ret_last` the last.
 */
static uint64_t read_pieces(struct reader *r, unsigned *ret_end, uint8_t *ret_last)
{
    uint64_t value = 0;
    unsigned shift = 0;
    uint8_t byte;

    do {
        byte = (uint8_t)read_fixed(r, 1);
        if (shift < 64)
            value |= (uint64_t)(byte & 0x7f) << shift;
        shift += 7;
    } while (r->at && (byte & 0x80));
    *ret_end = shift;
    *ret_last = byte;
    return value;
}

static uint64_t read_unsigned(struct reader *r)
{
    unsigned end;
    uint8_t last;

    return read_pieces(r, &end, &last);
}

static int64_t read_signed(struct reader *r)
{
    unsigned end;
    uint8_t last;
    uint64_t value = read_pieces(r, &end, &last);

    if (end < 64 && (last & 0x40))
        value |= ~(uint64_t)0 << end;
    return (int64_t)value;
}

static void skip(struct reader *r, uint64_t size)
{
    if (!r->at || (uint64_t)(r->end - r->at) < size)
        r->at = NULL;
    else
        r->at += size;
}

static struct location *register_of(struct row *row, uint64_t number)
{
    if (number == REGISTER_BP)
        return &row->bp;
    if (number == REGISTER_SP)
        return &row->sp;
    return number == REGISTER_RETURN ? &row->ret : NULL;
}

static void save(struct program *program, uint64_t number, enum saved saved, int64_t offset)
{
    struct location *location = register_of(&program->row, number);

    if (location)
        *location = (struct location){saved, offset};
}

static void restore(struct program *program, uint64_t number)
{
    struct location *location = register_of(&program->row, number);

    if (location)
        *location = *register_of(&program->first, number);
}

static void define(struct program *program, uint64_t number, int64_t offset)
{
    program->row.kind = number == REGISTER_SP   ? BERTH_FRAME_BY_SP
                        : number == REGISTER_BP ? BERTH_FRAME_BY_BP
                                                : BERTH_FRAME_UNKNOWN;
    program->row.offset = offset;
}

/* An expression; of those, compilers use "what bp + offset points to" and "at bp" alone. */
static void define_by_expression(struct program *program, struct reader *r)
{
    uint64_t size = read_unsigned(r);
    struct reader expression = *r;

    skip(r, size);
    program->row.kind = BERTH_FRAME_UNKNOWN;
    if (!r->at)
        return;
    expression.end = r->at;
    if (read_fixed(&expression, 1) != 0x70 + REGISTER_BP) /* DW_OP_breg6 */
        return;
    program->row.offset = read_signed(&expression);
    if (read_fixed(&expression, 1) == 0x06 && expression.at == expression.end) /* DW_OP_deref */
        program->row.kind = BERTH_FRAME_AT_BP;
}

static void save_by_expression(struct program *program, struct reader *r, bool is_value)
{
    uint64_t number = read_unsigned(r);
    uint64_t size = read_unsigned(r);
    struct reader expression = *r;

    skip(r, size);
    save(program, number, SAVED_ELSEWHERE, 0);
    if (!r->at || is_value || number != REGISTER_BP)
        return;
    expression.end = r->at;
    if (read_fixed(&expression, 1) == 0x70 + REGISTER_BP && read_signed(&expression) == 0 &&
        expression.at == expression.end)
        save(program, number, SAVED_AT_BP, 0);
}

static void remember(struct program *program, struct reader *r)
{
    if (program->kept_count == STATES_MAX)
        r->at = NULL;
    else
        program->kept[program->kept_count++] = program->row;
}

static void recall(struct program *program, struct reader *r)
{
    if (program->kept_count == 0)
        r->at = NULL;
    else
        program->row = program->kept[--program->kept_count];
}

/* The instructions that say where registers are (DWARF 5, 6.4.2). */
static void run_save(struct program *program, struct reader *r, uint8_t code)
{
    uint64_t number = read_unsigned(r);

    switch (code) {
    case 0x05: /* DW_CFA_offset_extended */
        save(program, number, SAVED_AT_CFA, (int64_t)read_unsigned(r) * program->data_align);
        break;
    case 0x06: /* DW_CFA_restore_extended */
        restore(program, number);
        break;
    case 0x07: /* DW_CFA_undefined */
        save(program, number, SAVED_NOWHERE, 0);
        break;
    case 0x08: /* DW_CFA_same_value */
        save(program, number, SAVED_SAME, 0);
        break;
    case 0x11: /* DW_CFA_offset_extended_sf */
        save(program, number, SAVED_AT_CFA, read_signed(r) * program->data_align);
        break;
    default: /* DW_CFA_register, DW_CFA_val_offset, DW_CFA_val_offset_sf */
        read_unsigned(r);
        save(program, number, SAVED_ELSEWHERE, 0);
        break;
    }
}

/* Those that say where the frame is. */
static void run_define(struct program *program, struct reader *r, uint8_t code)
{
    struct row *row = &program->row;
    uint64_t number;

    switch (code) {
    case 0x0c: /* DW_CFA_def_cfa */
        number = read_unsigned(r);
        define(program, number, (int64_t)read_unsigned(r));
        break;
    case 0x0d: /* DW_CFA_def_cfa_register */
        define(program, read_unsigned(r), row->offset);
        break;
    case 0x0e: /* DW_CFA_def_cfa_offset */
        row->offset = (int64_t)read_unsigned(r);
        break;
    case 0x0f: /* DW_CFA_def_cfa_expression */
        define_by_expression(program, r);
        break;
    case 0x12: /* DW_CFA_def_cfa_sf */
        number = read_unsigned(r);
        define(program, number, read_signed(r) * program->data_align);
        break;
    default: /* DW_CFA_def_cfa_offset_sf */
        row->offset = read_signed(r) * program->data_align;
        break;
    }
}

static void run_other(struct program *program, struct reader *r, uint8_t code)
{
    switch (code) {
    case 0x00: /* DW_CFA_nop */
        break;
    case 0x02: /* DW_CFA_advance_loc1 */
    case 0x03: /* DW_CFA_advance_loc2 */
    case 0x04: /* DW_CFA_advance_loc4 */
        program->location += read_fixed(r, (size_t)1 << (code - 2)) * program->code_align;
        break;
    case 0x0a: /* DW_CFA_remember_state */
        remember(program, r);
        break;
    case 0x0b: /* DW_CFA_restore_state */
        recall(program, r);
        break;
    case 0x10: /* DW_CFA_expression */
    case 0x16: /* DW_CFA_val_expression */
        save_by_expression(program, r, code == 0x16);
        break;
    case 0x2e: /* DW_CFA_GNU_args_size: of no matter to who only walks */
        read_unsigned(r);
        break;
    default:
        r->at = NULL;
        break;
    }
}

static void run_one(struct program *program, struct reader *r)
{
    uint8_t code = (uint8_t)read_fixed(r, 1);
    uint8_t low = code & 0x3f;

    if (!r->at)
        return;
    if (code >> 6 == 1) /* DW_CFA_advance_loc */
        program->location += low * program->code_align;
    else if (code >> 6 == 2) /* DW_CFA_offset */
        save(program, low, SAVED_AT_CFA, (int64_t)read_unsigned(r) * program->data_align);
    else if (code >> 6 == 3) /* DW_CFA_restore */
        restore(program, low);
    else if ((code >= 0x05 && code <= 0x09) || code == 0x11 || code == 0x14 || code == 0x15)
        run_save(program, r, code);
    else if ((code >= 0x0c && code <= 0x0f) || code == 0x12 || code == 0x13)
        run_define(program, r, code);
    else
        run_other(program, r, code);
}

/* Runs until the row of the wanted place is there. False for what is not understood. */
static bool run(struct program *program, struct reader r)
{
    while (r.at && r.at < r.end) {
        struct row before = program->row;

        run_one(program, &r);
        if (program->location > program->wanted) {
            program->row = before;
            return true;
        }
    }
    return r.at != NULL;
}

/* A length and what it encloses. */
static struct reader read_entry(const uint8_t *at, const uint8_t *end)
{
    struct reader r = {at, end};
    uint64_t size = read_fixed(&r, 4);

    if (size == 0 || size > 0xfffffff0 || !r.at || size > (uint64_t)(r.end - r.at))
        return (struct reader){NULL, NULL};
    r.end = r.at + size;
    return r;
}

/* How long a pointer of this encoding is; 0: that is not known here. */
static size_t pointer_size(uint8_t encoding)
{
    if (encoding == ENCODING_ALIGNED)
        return 0;
    switch (encoding & 0x07) { /* signed or not */
    case 0x00:
    case 0x04:
        return 8;
    case 0x02:
        return 2;
    case 0x03:
        return 4;
    default:
        return 0;
    }
}

/* A pointer that is of no interest. */
static void skip_pointer(struct reader *r)
{
    size_t size = pointer_size((uint8_t)read_fixed(r, 1));

    if (size == 0)
        r->at = NULL;
    else
        skip(r, size);
}

/* What all functions of a kind have in common. False for what is not understood. */
static bool read_common(const uint8_t *at, const uint8_t *end, struct description *ret)
{
    struct reader r = read_entry(at, end);
    const char *letters;
    uint8_t version, encoding = 0;
    struct reader data;
    uint64_t size;

    if (read_fixed(&r, 4) != 0)
        return false;
    version = (uint8_t)read_fixed(&r, 1);
    letters = (const char *)r.at;
    if (!r.at || (version != 1 && version != 3) ||
        memchr(r.at, '\0', (size_t)(r.end - r.at)) == NULL || letters[0] != 'z')
        return false;
    skip(&r, strlen(letters) + 1);
    ret->code_align = read_unsigned(&r);
    ret->data_align = read_signed(&r);
    if (version == 1 ? read_fixed(&r, 1) != REGISTER_RETURN : read_unsigned(&r) != REGISTER_RETURN)
        return false;
    size = read_unsigned(&r);
    data = r;
    skip(&r, size);
    for (letters++; *letters; letters++) {
        if (*letters == 'R')
            encoding = (uint8_t)read_fixed(&data, 1);
        else if (*letters == 'L')
            read_fixed(&data, 1);
        else if (*letters == 'P')
            skip_pointer(&data);
        else if (*letters == 'S')
            ret->is_signal = true;
        else
            return false;
    }
    ret->common = r;
    return r.at && data.at && encoding == ENCODING_S4_RELATIVE;
}

/* The function that is described at `at`. */
static bool read_description(const uint8_t *at, const uint8_t *start, const uint8_t *end,
                             struct description *ret)
{
    struct reader r = read_entry(at, end);
    const uint8_t *field = r.at;
    uint64_t back = read_fixed(&r, 4);

    if (!r.at || back == 0 || back > (uint64_t)(field - start) ||
        !read_common(field - back, end, ret))
        return false;
    ret->begin = (uintptr_t)r.at;
    ret->begin += (uintptr_t)(int64_t)(int32_t)read_fixed(&r, 4);
    ret->size = (uintptr_t)read_fixed(&r, 4);
    skip(&r, read_unsigned(&r));
    ret->own = r;
    return r.at != NULL;
}

/* The entry of the sorted table that `address` may belong to; NULL where there is none. */
static const uint8_t *search(const uint8_t *table, const uint8_t *end, uintptr_t address)
{
    struct reader r = {table, end};
    uint64_t count, low = 0, high;

    if (read_fixed(&r, 1) != 1 || read_fixed(&r, 1) != ENCODING_S4_RELATIVE ||
        read_fixed(&r, 1) != ENCODING_U4 || read_fixed(&r, 1) != ENCODING_S4_TO_TABLE)
        return NULL;
    skip(&r, 4);
    count = read_fixed(&r, 4);
    if (!r.at || count > (uint64_t)(r.end - r.at) / 8)
        return NULL;
    high = count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int32_t begin;

        memcpy(&begin, r.at + 8 * middle, 4);
        if ((uintptr_t)table + (uintptr_t)(intptr_t)begin <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    {
        int32_t entry;

        memcpy(&entry, r.at + 8 * (low - 1) + 4, 4);
        return table + entry;
    }
}

/* The row as a rule; what does not fit in one is unknown. */
static void make_rule(const struct row *row, struct berth_frame_rule *ret)
{
    int64_t offset = row->kind == BERTH_FRAME_AT_BP ? -row->offset : row->offset;
    uint8_t bp = BERTH_FRAME_BP_SAME;

    if (row->ret.saved == SAVED_NOWHERE) {
        ret->kind = BERTH_FRAME_OUTERMOST;
        return;
    }
    if (row->kind == BERTH_FRAME_UNKNOWN || row->sp.saved != SAVED_SAME ||
        row->ret.saved != SAVED_AT_CFA || row->ret.offset != -8 || offset < 0 || offset % 8 != 0 ||
        offset / 8 > BERTH_FRAME_OFFSET_MAX)
        return;
    if (row->bp.saved == SAVED_AT_BP)
        bp = BERTH_FRAME_BP_AT_BP;
    else if (row->bp.saved == SAVED_AT_CFA && row->bp.offset % 8 == 0 && row->bp.offset <= -16 &&
             row->bp.offset >= -8 * BERTH_FRAME_BP_MAX)
        bp = (uint8_t)(-row->bp.offset / 8);
    else if (row->bp.saved != SAVED_SAME)
        return;
    *ret = (struct berth_frame_rule){(uint8_t)row->kind, bp, (uint16_t)(offset / 8)};
}

/* A mapping that holds a module's tables, without holes. */
struct extent {
    const uint8_t *start, *end;
};

static bool is_in(const struct extent *extent, const uint8_t *at)
{
    return at >= extent->start && at < extent->end;
}

/*
 * Of a program with holes between its segments the loader tells only the one of the address: the
 * tables lie in another. False where they do not.
 */
static bool find_segment(const struct dl_find_object *object, struct extent *ret)
{
    const ElfW(Phdr) *segment = (const ElfW(Phdr) *)(uintptr_t)getauxval(AT_PHDR);
    size_t count = segment ? getauxval(AT_PHNUM) : 0;
    const uint8_t *base = (const uint8_t *)(uintptr_t)object->dlfo_link_map->l_addr;
    bool is_program = false, found = false;

    for (; count-- > 0; segment++) {
        struct extent extent = {base + segment->p_vaddr,
                                base + segment->p_vaddr + segment->p_memsz};

        if (segment->p_type != PT_LOAD)
            continue;
        is_program |= is_in(&extent, object->dlfo_map_start);
        if (is_in(&extent, object->dlfo_eh_frame)) {
            *ret = extent;
            found = true;
        }
    }
    return is_program && found;
}

static bool find_tables(const struct dl_find_object *object, struct extent *ret)
{
    *ret = (struct extent){object->dlfo_map_start, object->dlfo_map_end};
    return is_in(ret, object->dlfo_eh_frame) || find_segment(object, ret);
}

void berth__frame_rule_find(uintptr_t address, struct berth_frame_rule *ret)
{
    struct description description = {.is_signal = false};
    struct dl_find_object object;
    struct program program = {.location = 0};
    struct extent tables;
    const uint8_t *entry;

    *ret = (struct berth_frame_rule){.kind = BERTH_FRAME_UNKNOWN};
    /* The call is before the address that it returns to. */
    address--;
    if (_dl_find_object((void *)address, &object) != 0 || !object.dlfo_eh_frame ||
        !find_tables(&object, &tables))
        return;
    entry = search(object.dlfo_eh_frame, tables.end, address);
    if (!entry || !is_in(&tables, entry) ||
        !read_description(entry, tables.start, tables.end, &description) || description.is_signal ||
        address - description.begin >= description.size)
        return;
    program.code_align = description.code_align;
    program.data_align = description.data_align;
    program.wanted = UINTPTR_MAX;
    if (!run(&program, description.common))
        return;
    program.first = program.row;
    program.location = description.begin;
    program.wanted = address;
    if (run(&program, description.own))
        make_rule(&program.row, ret);
}

#else

void berth__frame_rule_find(uintptr_t address, struct berth_frame_rule *ret)
{
    (void)address;
    *ret = (struct berth_frame_rule){.kind = BERTH_FRAME_UNKNOWN};
}

#endif
