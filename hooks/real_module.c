/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a function's address from the symbol tables of the libraries after another one: no malloc,
 * no lock but that of the loader's list, no help from dlsym. See real.h.
 */
#include "hooks/real_module.h"

#include "alloc/module_walk.h"
#include "hooks/elf_table.h"

#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef int (*iterate_function)(int (*)(struct dl_phdr_info *, size_t, void *), void *);

struct search {
    const char *const *names; /* a library that has the first of them ends the search */
    void **found;
    size_t count;
    uintptr_t address;  /* in the library after which the search begins */
    bool has_begun;     /* that library has been seen in the list, or there is none */
    bool skip_own;      /* this library does not count */
    const char *prefix; /* of the file name, or NULL for any */
};

static bool is_named(const struct dl_phdr_info *info, const char *prefix)
{
    const char *name = info->dlpi_name;

    for (const char *at = name; *at; at++)
        if (*at == '/')
            name = at + 1;
    while (*prefix && *prefix == *name) {
        prefix++;
        name++;
    }
    return !*prefix;
}

static bool is_skipped(const struct dl_phdr_info *info, const struct search *search)
{
    return (search->skip_own && berth__elf_is_own(info)) ||
           (search->prefix && !is_named(info, search->prefix));
}

static int visit_module(struct dl_phdr_info *info, size_t size, void *data)
{
    struct search *search = data;
    struct berth_elf tables;

    if (!search->has_begun) {
        search->has_begun = berth__elf_contains(info, search->address);
        return 0;
    }
    if (is_skipped(info, search) || !berth__elf_read(info, &tables) || !tables.hash)
        return 0;
    for (size_t i = 0; i < search->count; i++) {
        const ElfW(Sym) *symbol = berth__elf_find(&tables, search->names[i]);

        if (symbol)
            search->found[i] = (void *)(info->dlpi_addr + symbol->st_value);
        else if (i == 0)
            return 0;
    }
    return 1;
}

/*
 * The C library's own dl_iterate_phdr(). ThreadSanitizer and MemorySanitizer put one in front of
 * it, which they cannot serve before they have looked up, by our dlsym(), what they replace. The C
 * library is early in the loader's list and stays there, so that no lock is needed to find it.
 */
static iterate_function find_iterate(void)
{
    iterate_function found = dl_iterate_phdr;

    for (const struct link_map *map = berth__elf_first_map(); map; map = map->l_next) {
        struct dl_phdr_info info = {.dlpi_addr = map->l_addr, .dlpi_name = map->l_name};
        const ElfW(Sym) * symbol;
        struct berth_elf tables;

        if (!is_named(&info, "libc.so.") || !berth__elf_read_map(map, &tables))
            continue;
        symbol = berth__elf_find(&tables, "dl_iterate_phdr");
        if (symbol)
            found = (iterate_function)(map->l_addr + symbol->st_value);
        break;
    }
    return found;
}

/* A fork waits for the walk; see alloc/module_walk.h. */
static void walk(struct search *search)
{
    static _Atomic(iterate_function) iterate;
    iterate_function function = atomic_load_explicit(&iterate, memory_order_relaxed);

    if (!function) {
        function = find_iterate();
        atomic_store_explicit(&iterate, function, memory_order_relaxed);
    }
    if (!berth__module_walk_begin())
        return;
    function(visit_module, search);
    berth__module_walk_end();
}

void *berth__real_module_next(const char *name, const void *address)
{
    void *found = NULL;
    struct search search = {
        .names = &name, .found = &found, .count = 1, .address = (uintptr_t)address};

    walk(&search);
    return found;
}

void *berth__real_module_next_own(const char *name)
{
    void *found = berth__real_module_next(name, __ehdr_start);
    struct search search = {
        .names = &name, .found = &found, .count = 1, .has_begun = true, .skip_own = true};

    /* A process that loaded this library late has the C library in front of it. */
    if (!found)
        walk(&search);
    return found;
}

bool berth__real_module_symbols(const char *prefix, const char *const *names, void **ret_found,
                                size_t count)
{
    struct search search = {
        .names = names, .found = ret_found, .count = count, .has_begun = true, .prefix = prefix};

    for (size_t i = 0; i < count; i++)
        ret_found[i] = NULL;
    walk(&search);
    return ret_found[0] != NULL;
}
