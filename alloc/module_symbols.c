/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/module_symbols.h"

#include "alloc/site_store.h"
#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define NO_PARENT UINT32_MAX

/* So many functions are ordered faster one by one than by a heap. */
#define FEW 16

/* One function. Ordered by `start`; `parent` is the nearest earlier one that contains `start`. */
struct function {
    uint64_t start; /* as in the file: less the module's base */
    uint32_t size;
    uint32_t name; /* in the table of strings */
    uint32_t parent;
    uint32_t is_weak;
};

/* Immutable once ordered, but for `names`, which is filled as names are asked for. */
struct berth_module_symbols {
    size_t mapped, functions_mapped; /* bytes of this mapping, and of the functions' own */
    uint32_t count;
    uint32_t table_count; /* symbols in the table that it was made from */
    struct function *functions;
    _Atomic(const char *) names[];
};

/* The dynamic section as the loader knows it: addresses that it may or may not have relocated. */
struct dynamic {
    uintptr_t base, start, end;
    uintptr_t symbols, names, hash, gnu_hash;
    size_t names_size;
};

/* glibc relocates most pointers in place, but not the vdso's, and not on every architecture. */
static uintptr_t dynamic_pointer(const struct dynamic *d, uintptr_t value)
{
    if (value >= d->start && value < d->end)
        return value;
    value += d->base;
    return value >= d->start && value < d->end ? value : 0;
}

static void dynamic_read(const ElfW(Dyn) * entry, struct dynamic *d)
{
    for (; (uintptr_t)(entry + 1) <= d->end && entry->d_tag != DT_NULL; entry++) {
        uintptr_t value = (uintptr_t)entry->d_un.d_val;

        if (entry->d_tag == DT_SYMTAB)
            d->symbols = dynamic_pointer(d, value);
        else if (entry->d_tag == DT_STRTAB)
            d->names = dynamic_pointer(d, value);
        else if (entry->d_tag == DT_STRSZ)
            d->names_size = (size_t)value;
        else if (entry->d_tag == DT_HASH)
            d->hash = dynamic_pointer(d, value);
        else if (entry->d_tag == DT_GNU_HASH)
            d->gnu_hash = dynamic_pointer(d, value);
    }
}

/*
 * DT_GNU_HASH does not say how many symbols there are: the highest one is at the end of the chain
 * of the bucket that begins highest. Symbols before `symoffset` are not hashed, but present.
 */
static uint32_t gnu_hash_count(const struct dynamic *d)
{
    const uint32_t *header = (const uint32_t *)d->gnu_hash;
    const uint32_t *buckets, *chain;
    uint32_t highest = 0;
    size_t room;

    if (d->end - d->gnu_hash < 4 * sizeof(*header))
        return 0;
    room = (d->end - d->gnu_hash) / sizeof(*header) - 4;
    if ((uint64_t)header[2] * (sizeof(ElfW(Addr)) / 4) + header[0] > room)
        return 0;
    buckets = header + 4 + (size_t)header[2] * (sizeof(ElfW(Addr)) / 4);
    for (uint32_t i = 0; i < header[0]; i++)
        if (buckets[i] > highest)
            highest = buckets[i];
    if (highest < header[1])
        return header[1];
    chain = buckets + header[0];
    while ((uintptr_t)(chain + (highest - header[1]) + 1) <= d->end &&
           !(chain[highest - header[1]] & 1))
        highest++;
    return highest + 1;
}

/* `gnu`: what the GNU table says; it is asked where there is no other. */
static uint32_t dynamic_symbol_count(const struct dynamic *d, uint32_t gnu)
{
    uint64_t room = (d->end - d->symbols) / sizeof(ElfW(Sym));
    uint64_t count = gnu;

    if (d->hash && d->end - d->hash >= 2 * sizeof(uint32_t))
        count = ((const uint32_t *)d->hash)[1];
    return count <= room ? (uint32_t)count : 0;
}

void berth__module_tables_read(const struct dl_phdr_info *info, uintptr_t start, uintptr_t end,
                               struct berth_module_tables *ret)
{
    struct dynamic d = {.base = (uintptr_t)info->dlpi_addr, .start = start, .end = end};
    uint32_t gnu;

    memset(ret, 0, sizeof(*ret));
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t at = d.base + (uintptr_t)info->dlpi_phdr[i].p_vaddr;

        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC && at >= start && at < end)
            dynamic_read((const ElfW(Dyn) *)at, &d);
    }
    if (!d.symbols || !d.names || d.names_size > end - d.names)
        return;
    ret->symbols = (const ElfW(Sym) *)d.symbols;
    ret->names = (const char *)d.names;
    ret->names_size = d.names_size;
    gnu = d.gnu_hash ? gnu_hash_count(&d) : 0;
    ret->symbol_count = dynamic_symbol_count(&d, gnu);
    /* Sound, and of the same symbols where there are both tables. */
    if (gnu > 0 && gnu == ret->symbol_count)
        ret->gnu_hash = (const uint32_t *)d.gnu_hash;
}

static bool is_function(const ElfW(Sym) * symbol)
{
    unsigned type = symbol->st_info & 0xf;

    return symbol->st_shndx != SHN_UNDEF && symbol->st_size > 0 &&
           (type == STT_FUNC || type == STT_GNU_IFUNC || type == STT_NOTYPE);
}

static bool has_name(const struct berth_module_tables *tables, uint32_t index, const char *name,
                     size_t length)
{
    const ElfW(Sym) *symbol = &tables->symbols[index];

    return is_function(symbol) && symbol->st_name < tables->names_size &&
           length < tables->names_size - symbol->st_name &&
           memcmp(tables->names + symbol->st_name, name, length) == 0 &&
           tables->names[symbol->st_name + length] == '\0';
}

static uint32_t gnu_hash_of(const char *name, size_t length)
{
    uint32_t hash = 5381;

    for (size_t i = 0; i < length; i++)
        hash = hash * 33 + (unsigned char)name[i];
    return hash;
}

bool berth__module_tables_may_have(const struct berth_module_tables *tables, const char *name,
                                   size_t length)
{
    const uint32_t *header = tables->gnu_hash;
    const uint32_t *buckets, *chain;
    uint32_t hash, i;

    if (!header || header[0] == 0)
        return true;
    for (i = 0; i < header[1] && i < tables->symbol_count; i++)
        if (has_name(tables, i, name, length))
            return true;
    hash = gnu_hash_of(name, length);
    buckets = header + 4 + (size_t)header[2] * (sizeof(ElfW(Addr)) / 4);
    chain = buckets + header[0];
    i = buckets[hash % header[0]];
    /* The last of a bucket has its lowest bit set. */
    for (; i >= header[1] && i < tables->symbol_count; i++) {
        uint32_t its = chain[i - header[1]];

        if ((its | 1) == (hash | 1) && has_name(tables, i, name, length))
            return true;
        if (its & 1)
            return false;
    }
    return false;
}

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* This structure with the names' slots, and the functions: room for `count` of them. */
struct berth_module_symbols *berth__module_symbols_new(uint32_t count)
{
    size_t size = sizeof(struct berth_module_symbols) + count * sizeof(_Atomic(const char *));
    struct berth_module_symbols *symbols = map(size);

    if (!symbols)
        return NULL;
    symbols->mapped = size;
    symbols->functions_mapped = (count + 1) * sizeof(struct function);
    symbols->functions = map(symbols->functions_mapped);
    if (symbols->functions)
        return symbols;
    munmap(symbols, size);
    return NULL;
}

void berth__module_symbols_free(struct berth_module_symbols *symbols)
{
    munmap(symbols->functions, symbols->functions_mapped);
    munmap(symbols, symbols->mapped);
}

void berth__module_symbols_add(struct berth_module_symbols *symbols, const ElfW(Sym) * symbol,
                               uint32_t count)
{
    for (; count-- > 0; symbol++)
        if (is_function(symbol))
            symbols->functions[symbols->count++] = (struct function){
                .start = symbol->st_value,
                .size = symbol->st_size < UINT32_MAX ? (uint32_t)symbol->st_size : UINT32_MAX,
                .name = symbol->st_name,
                .is_weak = symbol->st_info >> 4 == STB_WEAK,
            };
}

struct berth_module_symbols *berth__module_symbols_collect(const struct berth_module_tables *tables)
{
    /* Room for all of them: what is not written to is not in memory. */
    struct berth_module_symbols *symbols = berth__module_symbols_new(tables->symbol_count);

    if (!symbols)
        return NULL;
    berth__module_symbols_add(symbols, tables->symbols, tables->symbol_count);
    symbols->table_count = tables->symbol_count;
    return symbols;
}

/* Restores the heap below `at`: no function starts before those that hang under it. */
static void sift_down(struct function *heap, size_t at, size_t count)
{
    struct function moving = heap[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= count)
            break;
        if (child + 1 < count && heap[child + 1].start > heap[child].start)
            child++;
        if (heap[child].start <= moving.start)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moving;
}

/* Heapsort, in place: qsort() would call malloc, which may be what is being served. */
static void order_in_place(struct function *f, size_t count)
{
    for (size_t i = count / 2; i-- > 0;)
        sift_down(f, i, count);
    for (size_t i = count; i-- > 1;) {
        struct function highest = f[0];

        f[0] = f[i];
        f[i] = highest;
        sift_down(f, 0, i);
    }
}

static void order_few(struct function *f, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct function moving = f[i];
        size_t at = i;

        for (; at > 0 && f[at - 1].start > moving.start; at--)
            f[at] = f[at - 1];
        f[at] = moving;
    }
}

/* Of how far the functions start from the first one, what tells their bucket. */
struct spread {
    uint64_t low;
    unsigned shift;
    size_t buckets;
};

static struct spread spread_of(const struct function *f, size_t count)
{
    struct spread spread = {.low = UINT64_MAX};
    uint64_t high = 0;

    for (size_t i = 0; i < count; i++) {
        spread.low = f[i].start < spread.low ? f[i].start : spread.low;
        high = f[i].start > high ? f[i].start : high;
    }
    while ((high - spread.low) >> spread.shift >= count)
        spread.shift++;
    spread.buckets = (size_t)((high - spread.low) >> spread.shift) + 1;
    return spread;
}

static size_t bucket_of(struct spread spread, const struct function *function)
{
    return (size_t)((function->start - spread.low) >> spread.shift);
}

/* Copies the functions to `to`, bucket after bucket; `ends` tells then where each bucket ends. */
static void part(const struct function *from, struct function *to, size_t count,
                 struct spread spread, uint32_t *ends)
{
    uint32_t next = 0;

    for (size_t i = 0; i < count; i++)
        ends[bucket_of(spread, &from[i])]++;
    for (size_t bucket = 0; bucket < spread.buckets; bucket++) {
        uint32_t its = ends[bucket];

        ends[bucket] = next;
        next += its;
    }
    for (size_t i = 0; i < count; i++)
        to[ends[bucket_of(spread, &from[i])]++] = from[i];
}

/* As many buckets as functions, which leaves little to be done in each; false without memory. */
static bool order_by_buckets(struct berth_module_symbols *symbols)
{
    size_t count = symbols->count;
    struct spread spread = spread_of(symbols->functions, count);
    size_t size = count * sizeof(struct function) + spread.buckets * sizeof(uint32_t);
    struct function *parted = map(size);
    uint32_t *ends = (uint32_t *)(parted + count);
    uint32_t from = 0;

    if (!parted)
        return false;
    part(symbols->functions, parted, count, spread, ends);
    for (size_t bucket = 0; bucket < spread.buckets; bucket++) {
        uint32_t end = ends[bucket];

        if (BERTH_UNLIKELY(end - from > FEW))
            order_in_place(parted + from, end - from);
        else if (end - from > 1)
            order_few(parted + from, end - from);
        from = end;
    }
    munmap(symbols->functions, symbols->functions_mapped);
    symbols->functions = parted;
    symbols->functions_mapped = size;
    return true;
}

void berth__module_symbols_order(struct berth_module_symbols *symbols)
{
    struct function *f;

    if (symbols->count <= FEW || !order_by_buckets(symbols))
        order_in_place(symbols->functions, symbols->count);
    f = symbols->functions;
    for (uint32_t i = 0; i < symbols->count; i++) {
        uint32_t parent = i > 0 ? i - 1 : NO_PARENT;

        while (parent != NO_PARENT && f[parent].start + f[parent].size <= f[i].start)
            parent = f[parent].parent;
        f[i].parent = parent;
    }
}

/* The latest function that starts at or before `value` and contains it, or NO_PARENT. */
static uint32_t function_at(const struct berth_module_symbols *symbols, uint64_t value)
{
    const struct function *f = symbols->functions;
    uint32_t low = 0;
    uint32_t high = symbols->count;
    uint32_t at;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (f[middle].start <= value)
            low = middle + 1;
        else
            high = middle;
    }
    at = low > 0 ? low - 1 : NO_PARENT;
    while (at != NO_PARENT && f[at].start + f[at].size <= value)
        at = f[at].parent;
    return at;
}

/* The dynamic symbol table's strings, as berth_module_namer. */
static const char *table_name(void *context, uint32_t name, int slot, size_t *ret_length)
{
    const struct berth_module_tables *tables = context;

    (void)slot;
    *ret_length =
        name < tables->names_size ? strnlen(tables->names + name, tables->names_size - name) : 0;
    return tables->names + name;
}

/* Whether function `a` has the better name of two for one function; see the header. */
static bool is_better_name(const struct function *a, const struct function *b,
                           berth_module_namer namer, void *context)
{
    size_t length_a, length_b, bars_a, bars_b;
    const char *name_a = namer(context, a->name, 0, &length_a);
    const char *name_b = namer(context, b->name, 1, &length_b);

    if (length_a == 0 || length_b == 0)
        return length_a > 0;
    if (a->is_weak != b->is_weak)
        return b->is_weak;
    bars_a = strspn(name_a, "_");
    bars_b = strspn(name_b, "_");
    if (bars_a != bars_b)
        return bars_a < bars_b;
    if (length_a != length_b)
        return length_a < length_b;
    return memcmp(name_a, name_b, length_a) < 0;
}

/* Of the functions that start where `at` does and contain `value`, the one with the best name. */
static uint32_t best_named(const struct berth_module_symbols *symbols, uint32_t at, uint64_t value,
                           berth_module_namer namer, void *context)
{
    const struct function *f = symbols->functions;
    uint64_t start = f[at].start;
    uint32_t best = at;

    while (at > 0 && f[at - 1].start == start)
        at--;
    for (; at < symbols->count && f[at].start == start; at++)
        if (at != best && start + f[at].size > value &&
            is_better_name(&f[at], &f[best], namer, context))
            best = at;
    return best;
}

const char *berth__module_symbols_name_by(struct berth_module_symbols *symbols, uint64_t value,
                                          berth_module_namer namer, void *context,
                                          uint64_t *ret_start)
{
    uint32_t at = function_at(symbols, value);
    const char *name, *kept;
    size_t length;

    if (at == NO_PARENT)
        return NULL;
    at = best_named(symbols, at, value, namer, context);
    kept = atomic_load_explicit(&symbols->names[at], memory_order_acquire);
    if (!kept) {
        name = namer(context, symbols->functions[at].name, 0, &length);
        kept = length > 0 ? berth__site_store_text(name, length) : NULL;
        /* Two threads may both copy it: either copy is right, and neither is ever freed. */
        if (kept)
            atomic_store_explicit(&symbols->names[at], kept, memory_order_release);
    }
    *ret_start = symbols->functions[at].start;
    return kept;
}

const char *berth__module_symbols_name(struct berth_module_symbols *symbols,
                                       const struct berth_module_tables *tables, uint64_t value,
                                       uint64_t *ret_start)
{
    if (tables->symbol_count != symbols->table_count)
        return NULL;
    return berth__module_symbols_name_by(symbols, value, table_name, (void *)(uintptr_t)tables,
                                         ret_start);
}
