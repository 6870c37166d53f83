/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: every exported function of a loaded library is found by each of its addresses. Method: all
 * functions of the C library; hand-made tables of overlapping functions, and unsound ones, which
 * must not be believed.
 */
#include "alloc/module.h"
#include "alloc/module_symbols.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include <cmocka.h>

static const struct berth_module_frame *name_one(const void *address)
{
    const struct berth_module_frame *frame = NULL;

    assert_int_equal(berth__module_name(&address, 1, &frame), 0);
    assert_non_null(frame);
    return frame;
}

/* Whether `symbol` is one of the names of what is at `function`. */
static bool is_name_of(const char *symbol, const void *function)
{
    void *library = dlopen("libc.so.6", RTLD_NOLOAD | RTLD_NOW);
    void *at = library ? dlsym(library, symbol) : NULL;

    if (library)
        dlclose(library);
    return at == function;
}

struct sweep {
    unsigned checked, wrong;
};

static void check_function(struct sweep *sweep, const struct dl_phdr_info *info,
                           const struct berth_module_tables *tables, const ElfW(Sym) * symbol)
{
    const char *name = tables->names + symbol->st_name;
    const char *start = (const char *)info->dlpi_addr + symbol->st_value;
    const struct berth_module_frame *first = name_one(start + 1);
    const struct berth_module_frame *last = name_one(start + symbol->st_size);

    sweep->checked++;
    sweep->wrong += !berth__module_tables_may_have(tables, name, strlen(name));
    if (!first->name.symbol || first->name.offset != 1 || !last->name.symbol ||
        strcmp(first->name.module, "libc.so.6") != 0)
        sweep->wrong++;
}

static int sweep_libc(struct dl_phdr_info *info, size_t size, void *context)
{
    struct sweep *sweep = context;
    struct berth_module_tables tables;
    uintptr_t end = 0;

    (void)size;
    if (!strstr(info->dlpi_name, "/libc.so.6"))
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    berth__module_tables_read(info, info->dlpi_addr, end, &tables);
    assert_in_range(tables.symbol_count, 1000, 100000);
    for (uint32_t i = 0; i < tables.symbol_count; i++) {
        const ElfW(Sym) *symbol = &tables.symbols[i];

        if (symbol->st_shndx != SHN_UNDEF && (symbol->st_info & 0xf) == STT_FUNC &&
            symbol->st_size > 1)
            check_function(sweep, info, &tables, symbol);
    }
    return 1;
}

static void every_function_of_the_c_library_has_a_name(void **state)
{
    struct sweep sweep = {0, 0};

    (void)state;
    assert_int_equal(dl_iterate_phdr(sweep_libc, &sweep), 1);
    assert_true(sweep.checked > 1000);
    assert_int_equal(sweep.wrong, 0);
}

/* dl_iterate_phdr()'s callback: the libraries that may have a function of the name. */
static int count_having(struct dl_phdr_info *info, size_t size, void *context)
{
    static const char asked[] = "no_such_function_of_any_library";
    struct berth_module_tables tables;
    unsigned *having = context;
    uintptr_t end = 0;

    (void)size;
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD)
            end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    berth__module_tables_read(info, info->dlpi_addr, end, &tables);
    if (tables.gnu_hash) {
        having[0] += berth__module_tables_may_have(&tables, asked, sizeof(asked) - 1);
        /* A part of a name that there is. */
        having[0] += berth__module_tables_may_have(&tables, "getaddrinf", 10);
        having[0] += berth__module_tables_may_have(&tables, "", 0);
        having[1] += berth__module_tables_may_have(&tables, asked, 0) == 0;
    }
    return 0;
}

static void names_that_no_library_has_are_told(void **state)
{
    unsigned having[2] = {0, 0};

    (void)state;
    dl_iterate_phdr(count_having, having);
    assert_int_equal(having[0], 0);
    assert_true(having[1] > 0);
}

static void a_module_is_asked_for_a_name_before_it_is_read(void **state)
{
    void *library = dlopen("libdl.so.2", RTLD_NOW);
    const void *address = library ? dlsym(library, "dlopen") : NULL;
    static const char none[] = "no_such_function_of_any_library";
    uint16_t number = 0;

    (void)state;
    if (!address)
        skip();
    address = (const char *)address + 1;
    berth__module_note(&address, 1, &number);
    assert_int_not_equal(number, 0);
    for (int i = 0; i < 3; i++) {
        assert_true(berth__module_may_have(number, "dlopen", 6));
        /* Whatever the answer: it is that for a name which the file may still tell. */
        (void)berth__module_may_have(number, none, sizeof(none) - 1);
    }
    assert_string_equal(berth__module_name_of(number), name_one(address)->name.module);
    assert_true(berth__module_may_have(number, none, sizeof(none) - 1));
    assert_true(berth__module_may_have(0, none, sizeof(none) - 1));
    assert_null(berth__module_name_of(0));
    dlclose(library);
}

static void a_name_leads_back_to_its_function(void **state)
{
    static const char *const known[] = {"malloc", "free", "qsort", "printf", "getaddrinfo"};
    void *library = dlopen("libc.so.6", RTLD_NOLOAD | RTLD_NOW);

    (void)state;
    assert_non_null(library);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        char *function = dlsym(library, known[i]);
        const struct berth_module_frame *frame = name_one(function + 2);

        assert_non_null(frame->name.symbol);
        assert_true(is_name_of(frame->name.symbol, function));
        assert_true(frame->name.symbol[0] != '_');
        assert_int_equal(frame->name.offset, 2);
    }
    dlclose(library);
}

static void the_program_has_its_files_name(void **state)
{
    const struct berth_module_frame *frame =
        name_one((const char *)(void *)the_program_has_its_files_name + 4);

    (void)state;
    assert_string_equal(frame->name.module, "test_module");
}

static void the_vdso_has_a_name(void **state)
{
    uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
    const struct berth_module_frame *frame;

    (void)state;
    if (vdso == 0)
        skip();
    frame = name_one((const void *)(vdso + 0x800));
    assert_non_null(strstr(frame->name.module, "vdso"));
}

static void what_is_in_no_module_keeps_its_address(void **state)
{
    static const char *const addresses[] = {(const char *)0, (const char *)1, (const char *)-1};

    (void)state;
    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        const struct berth_module_frame *frame = name_one(addresses[i]);

        assert_string_equal(frame->name.module, "?");
        assert_null(frame->name.symbol);
        assert_int_equal(frame->name.offset, (uintptr_t)addresses[i]);
    }
}

static void equal_addresses_share_one_name(void **state)
{
    const char *at = (const char *)(void *)equal_addresses_share_one_name;
    const void *same[4] = {at + 3, at + 4, at + 3, (void *)0x50};
    const struct berth_module_frame *ret[4];

    (void)state;
    assert_int_equal(berth__module_name(same, 4, ret), 0);
    assert_ptr_equal(ret[0], ret[2]);
    assert_ptr_not_equal(ret[0], ret[1]);
    assert_ptr_equal(name_one(at + 3), ret[0]);
    assert_int_equal(berth__module_name(same, 0, ret), 0);
}

/* Functions inside one another, side by side, and of one start. */
static struct berth_module_symbols *order(const ElfW(Sym) * symbols, uint32_t count,
                                          const char *names, size_t names_size,
                                          struct berth_module_tables *tables)
{
    struct berth_module_symbols *index;

    *tables = (struct berth_module_tables){symbols, names, names_size, count};
    index = berth__module_symbols_collect(tables);
    assert_non_null(index);
    berth__module_symbols_order(index);
    return index;
}

#define GLOBAL(type) ((STB_GLOBAL << 4) | (type))
#define WEAK(type) ((STB_WEAK << 4) | (type))

static const char *name_at(struct berth_module_symbols *index,
                           const struct berth_module_tables *tables, uint64_t value)
{
    uint64_t start = 0;
    const char *name = berth__module_symbols_name(index, tables, value, &start);

    assert_true(!name || start <= value);
    return name;
}

static void overlapping_functions_are_told_apart(void **state)
{
    static const char names[] = "\0outer\0in1\0in2\0next\0weak\0__long\0ab\0aa";
    const ElfW(Sym) symbols[] = {
        {0},
        {.st_name = 15, .st_info = GLOBAL(STT_FUNC), .st_shndx = 1, .st_value = 200, .st_size = 8},
        {.st_name = 1, .st_info = GLOBAL(STT_FUNC), .st_shndx = 1, .st_value = 0, .st_size = 100},
        {.st_name = 11, .st_info = GLOBAL(STT_FUNC), .st_shndx = 1, .st_value = 30, .st_size = 10},
        {.st_name = 7, .st_info = GLOBAL(STT_FUNC), .st_shndx = 1, .st_value = 10, .st_size = 10},
        {.st_name = 20, .st_info = WEAK(STT_FUNC), .st_shndx = 1, .st_value = 200, .st_size = 16},
        {.st_name = 25, .st_info = GLOBAL(STT_FUNC), .st_shndx = 1, .st_value = 300, .st_size = 4},
        {.st_name = 32, .st_info = GLOBAL(STT_FUNC), .st_shndx = 1, .st_value = 300, .st_size = 4},
        {.st_name = 35, .st_info = GLOBAL(STT_FUNC), .st_shndx = 1, .st_value = 300, .st_size = 4},
        {.st_name = 1, .st_info = GLOBAL(STT_OBJECT), .st_shndx = 1, .st_value = 400, .st_size = 4},
        {.st_name = 1, .st_info = GLOBAL(STT_FUNC), .st_value = 500, .st_size = 4},
        {.st_name = 9999,
         .st_info = GLOBAL(STT_FUNC),
         .st_shndx = 1,
         .st_value = 600,
         .st_size = 4},
    };
    struct berth_module_tables tables;
    struct berth_module_symbols *index =
        order(symbols, sizeof(symbols) / sizeof(symbols[0]), names, sizeof(names), &tables);

    (void)state;
    assert_string_equal(name_at(index, &tables, 0), "outer");
    assert_string_equal(name_at(index, &tables, 10), "in1");
    assert_string_equal(name_at(index, &tables, 19), "in1");
    assert_string_equal(name_at(index, &tables, 20), "outer");
    assert_string_equal(name_at(index, &tables, 35), "in2");
    assert_string_equal(name_at(index, &tables, 99), "outer");
    assert_null(name_at(index, &tables, 100));
    assert_string_equal(name_at(index, &tables, 207), "next");
    assert_string_equal(name_at(index, &tables, 208), "weak");
    assert_string_equal(name_at(index, &tables, 301), "aa");
    assert_null(name_at(index, &tables, 402));
    assert_null(name_at(index, &tables, 501));
    assert_null(name_at(index, &tables, 601));
    assert_null(name_at(index, &tables, UINT64_MAX));
    /* The module was replaced by one with another table. */
    tables.symbol_count--;
    assert_null(name_at(index, &tables, 0));
    berth__module_symbols_free(index);
}

#define FUNCTIONS 5000

/* Where the functions lie: the second half of them `gap` further on. */
static uint64_t place_of(unsigned i, uint64_t gap)
{
    return (uint64_t)i * 20 + (i < FUNCTIONS / 2 ? 0 : gap);
}

static void find_in_any_order(uint64_t gap)
{
    static ElfW(Sym) symbols[FUNCTIONS];
    static char names[FUNCTIONS * 8];
    struct berth_module_tables tables;
    struct berth_module_symbols *index;
    unsigned seed = 12345;

    for (unsigned i = 0; i < FUNCTIONS; i++) {
        snprintf(names + i * 8, 8, "f%u", i);
        symbols[i] = (ElfW(Sym)){.st_name = i * 8,
                                 .st_info = GLOBAL(STT_FUNC),
                                 .st_shndx = 1,
                                 .st_value = place_of(i, gap),
                                 .st_size = 10};
    }
    for (unsigned i = FUNCTIONS - 1; i > 0; i--) {
        unsigned j = (seed = seed * 1103515245 + 12345) / 65536 % (i + 1);
        ElfW(Sym) moved = symbols[i];

        symbols[i] = symbols[j];
        symbols[j] = moved;
    }
    index = order(symbols, FUNCTIONS, names, sizeof(names), &tables);
    for (unsigned i = 0; i < FUNCTIONS; i++) {
        assert_string_equal(name_at(index, &tables, place_of(i, gap) + 9), names + i * 8);
        assert_null(name_at(index, &tables, place_of(i, gap) + 10));
    }
    berth__module_symbols_free(index);
}

/* Evenly, and with half of them or nearly all in one corner of the module. */
static void functions_of_any_order_are_found(void **state)
{
    static const char no_names[1];
    static const ElfW(Sym) no_symbols[1];
    struct berth_module_tables tables;
    struct berth_module_symbols *index;

    (void)state;
    for (unsigned shift = 0; shift < 64; shift += 9)
        find_in_any_order(((uint64_t)1 << shift) - 1);
    index = order(no_symbols, 0, no_names, sizeof(no_names), &tables);
    assert_null(name_at(index, &tables, 0));
    berth__module_symbols_free(index);
}

/* A module image in memory: a dynamic section, a symbol table, names, a hash table. */
struct image {
    ElfW(Dyn) dynamic[8];
    ElfW(Sym) symbols[4];
    uint32_t hash[16];
    char names[16];
};

static uint32_t image_symbols(struct image *image, const ElfW(Phdr) * phdr)
{
    struct dl_phdr_info info = {
        .dlpi_addr = (uintptr_t)image, .dlpi_name = "", .dlpi_phdr = phdr, .dlpi_phnum = 1};
    struct berth_module_tables tables;

    berth__module_tables_read(&info, (uintptr_t)image, (uintptr_t)(image + 1), &tables);
    return tables.symbol_count;
}

static void unsound_tables_are_not_believed(void **state)
{
    static struct image image;
    const ElfW(Phdr) phdr = {.p_type = PT_DYNAMIC, .p_vaddr = offsetof(struct image, dynamic)};
    ElfW(Dyn) *d = image.dynamic;

    (void)state;
    d[0] = (ElfW(Dyn)){DT_SYMTAB, {offsetof(struct image, symbols)}};
    d[1] = (ElfW(Dyn)){DT_STRTAB, {offsetof(struct image, names)}};
    d[2] = (ElfW(Dyn)){DT_STRSZ, {sizeof(image.names)}};
    d[3] = (ElfW(Dyn)){DT_HASH, {offsetof(struct image, hash)}};
    image.hash[1] = 4;
    assert_int_equal(image_symbols(&image, &phdr), 4);
    image.hash[1] = 1u << 30;
    assert_int_equal(image_symbols(&image, &phdr), 0);
    image.hash[1] = 4;
    d[2].d_un.d_val = 1u << 20;
    assert_int_equal(image_symbols(&image, &phdr), 0);
    d[2].d_un.d_val = sizeof(image.names);
    d[0].d_un.d_ptr = 1u << 20;
    assert_int_equal(image_symbols(&image, &phdr), 0);
    d[0].d_un.d_ptr = (uintptr_t)image.symbols;
    /* buckets, first hashed symbol, bloom words, shift; bloom; one bucket; chain. */
    d[3].d_tag = DT_GNU_HASH;
    memcpy(image.hash, (uint32_t[]){1, 1, 1, 0, 0, 0, 1, 2, 2, 3}, 10 * sizeof(uint32_t));
    assert_int_equal(image_symbols(&image, &phdr), 4);
    memcpy(image.hash, (uint32_t[]){1, 2, 1, 0, 0, 0, 0}, 7 * sizeof(uint32_t));
    assert_int_equal(image_symbols(&image, &phdr), 2);
    memcpy(image.hash, (uint32_t[]){1u << 31, 1, 1u << 31, 0}, 4 * sizeof(uint32_t));
    assert_int_equal(image_symbols(&image, &phdr), 0);
    memcpy(image.hash, (uint32_t[]){1, 1, 1, 0, 0, 0, 1u << 29}, 7 * sizeof(uint32_t));
    assert_int_equal(image_symbols(&image, &phdr), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_that_no_library_has_are_told),
        cmocka_unit_test(a_module_is_asked_for_a_name_before_it_is_read),
        cmocka_unit_test(every_function_of_the_c_library_has_a_name),
        cmocka_unit_test(a_name_leads_back_to_its_function),
        cmocka_unit_test(the_program_has_its_files_name),
        cmocka_unit_test(the_vdso_has_a_name),
        cmocka_unit_test(what_is_in_no_module_keeps_its_address),
        cmocka_unit_test(equal_addresses_share_one_name),
        cmocka_unit_test(overlapping_functions_are_told_apart),
        cmocka_unit_test(functions_of_any_order_are_found),
        cmocka_unit_test(unsound_tables_are_not_believed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
