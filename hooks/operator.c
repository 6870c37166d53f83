/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/operator.h"

#include "hooks/elf_table.h"
#include "pmem/plain.h"

#include <link.h>
#include <stdbool.h>
#include <stddef.h>

static const char *const names[BERTH_OPERATORS] = {
    [BERTH_OPERATOR_NEW] = "_Znwm",
    [BERTH_OPERATOR_DELETE] = "_ZdlPv",
    [BERTH_OPERATOR_NEW_ALIGNED] = "_ZnwmSt11align_val_t",
    [BERTH_OPERATOR_DELETE_ALIGNED] = "_ZdlPvSt11align_val_t",
    [BERTH_OPERATOR_NEW_NOTHROW] = "_ZnwmRKSt9nothrow_t",
    [BERTH_OPERATOR_NEW_ARRAY_NOTHROW] = "_ZnamRKSt9nothrow_t",
    [BERTH_OPERATOR_NEW_ALIGNED_NOTHROW] = "_ZnwmSt11align_val_tRKSt9nothrow_t",
    [BERTH_OPERATOR_NEW_ARRAY_ALIGNED_NOTHROW] = "_ZnamSt11align_val_tRKSt9nothrow_t",
    [BERTH_OPERATOR_NEW_ARRAY] = "_Znam",
    [BERTH_OPERATOR_NEW_ARRAY_ALIGNED] = "_ZnamSt11align_val_t",
    [BERTH_OPERATOR_DELETE_ARRAY] = "_ZdaPv",
    [BERTH_OPERATOR_DELETE_SIZED] = "_ZdlPvm",
    [BERTH_OPERATOR_DELETE_NOTHROW] = "_ZdlPvRKSt9nothrow_t",
    [BERTH_OPERATOR_DELETE_ARRAY_SIZED] = "_ZdaPvm",
    [BERTH_OPERATOR_DELETE_ARRAY_NOTHROW] = "_ZdaPvRKSt9nothrow_t",
    [BERTH_OPERATOR_DELETE_ARRAY_ALIGNED] = "_ZdaPvSt11align_val_t",
    [BERTH_OPERATOR_DELETE_SIZED_ALIGNED] = "_ZdlPvmSt11align_val_t",
    [BERTH_OPERATOR_DELETE_ALIGNED_NOTHROW] = "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    [BERTH_OPERATOR_DELETE_ARRAY_SIZED_ALIGNED] = "_ZdaPvmSt11align_val_t",
    [BERTH_OPERATOR_DELETE_ARRAY_ALIGNED_NOTHROW] = "_ZdaPvSt11align_val_tRKSt9nothrow_t",
};

/* The process's, by their addresses alone: what they take does not matter here. */
extern void process_new(void) __asm__("_Znwm");
extern void process_new_aligned(void) __asm__("_ZnwmSt11align_val_t");
extern void process_delete(void) __asm__("_ZdlPv");
extern void process_delete_array(void) __asm__("_ZdaPv");
extern void process_delete_aligned(void) __asm__("_ZdlPvSt11align_val_t");
extern void process_delete_array_aligned(void) __asm__("_ZdaPvSt11align_val_t");

bool berth__operators_are_replaced;

void *berth__operators[BERTH_OPERATORS] = {
    [BERTH_OPERATOR_NEW_ARRAY] = process_new,
    [BERTH_OPERATOR_NEW_ARRAY_ALIGNED] = process_new_aligned,
    [BERTH_OPERATOR_DELETE_ARRAY] = process_delete,
    [BERTH_OPERATOR_DELETE_SIZED] = process_delete,
    [BERTH_OPERATOR_DELETE_NOTHROW] = process_delete,
    [BERTH_OPERATOR_DELETE_ARRAY_SIZED] = process_delete_array,
    [BERTH_OPERATOR_DELETE_ARRAY_NOTHROW] = process_delete_array,
    [BERTH_OPERATOR_DELETE_ARRAY_ALIGNED] = process_delete_aligned,
    [BERTH_OPERATOR_DELETE_SIZED_ALIGNED] = process_delete_aligned,
    [BERTH_OPERATOR_DELETE_ALIGNED_NOTHROW] = process_delete_aligned,
    [BERTH_OPERATOR_DELETE_ARRAY_SIZED_ALIGNED] = process_delete_array_aligned,
    [BERTH_OPERATOR_DELETE_ARRAY_ALIGNED_NOTHROW] = process_delete_array_aligned,
};

/* One of these is among what a library replaces, whatever else is. */
static bool replaces(const struct berth_elf *elf)
{
    return berth__elf_defines(elf, names[BERTH_OPERATOR_NEW]) ||
           berth__elf_defines(elf, names[BERTH_OPERATOR_DELETE]) ||
           berth__elf_defines(elf, names[BERTH_OPERATOR_NEW_ARRAY]) ||
           berth__elf_defines(elf, names[BERTH_OPERATOR_DELETE_ARRAY]);
}

/* The C++ library: who would have the operators if nobody replaced them. */
static bool is_runtime(const struct berth_elf *elf)
{
    return berth__elf_defines(elf, "_ZSt9terminatev");
}

/* Whose malloc() is replaced, too. */
static bool is_allocator(const struct berth_elf *elf)
{
    return berth__elf_defines(elf, "malloc");
}

static bool is_any_replaced(const struct link_map *first)
{
    struct berth_elf elf;

    for (const struct link_map *map = first; map; map = map->l_next) {
        if (berth__elf_read_map(map, &elf) && replaces(&elf))
            return !is_runtime(&elf) && !is_allocator(&elf);
    }
    return false;
}

/*
 * The C++ library's, too, where ours would only ask for it: those that do not throw call the
 * process's that do, and catch.
 */
static bool is_asked_for(unsigned number)
{
    return number >= BERTH_OPERATOR_NEW_NOTHROW &&
           number <= BERTH_OPERATOR_NEW_ARRAY_ALIGNED_NOTHROW;
}

/* NULL: it is the C++ library's. What a resolver would choose is left alone. */
static void *find(const struct link_map *first, unsigned number)
{
    for (const struct link_map *map = first; map; map = map->l_next) {
        const ElfW(Sym) * symbol;
        struct berth_elf elf;

        if (!berth__elf_read_map(map, &elf))
            continue;
        symbol = berth__elf_find(&elf, names[number]);
        if (!symbol)
            continue;
        if ((is_runtime(&elf) && !is_asked_for(number)) || is_allocator(&elf) ||
            ELF64_ST_TYPE(symbol->st_info) != STT_FUNC)
            return NULL;
        return (void *)(elf.base + symbol->st_value);
    }
    return NULL;
}

/* What is behind this library: who is before it has its turn already, and may call this one's. */
static const struct link_map *find_first(void)
{
    const struct link_map *map = berth__elf_first_map();

    while (map && map->l_addr != (ElfW(Addr))__ehdr_start)
        map = map->l_next;
    return map ? map->l_next : NULL;
}

static void find_all(void)
{
    const struct link_map *first = find_first();

    if (!is_any_replaced(first))
        return;
    for (unsigned i = 0; i < BERTH_OPERATORS; i++) {
        void *found = find(first, i);

        if (found)
            berth__operators[i] = found;
    }
    berth__operators_are_replaced = true;
    berth__plain_leave(berth__operators[BERTH_OPERATOR_NEW] != NULL,
                       berth__operators[BERTH_OPERATOR_DELETE] != NULL ||
                           berth__operators[BERTH_OPERATOR_DELETE_ALIGNED] != NULL);
}

static void do_nothing(void)
{
}

/* When it runs is said in shadow.c. */
__attribute__((used)) static void (*look_for_operators(void))(void)
{
    find_all();
    return do_nothing;
}

void operators_resolved(void) __attribute__((ifunc("look_for_operators"), visibility("hidden")));
__attribute__((used)) static void (*const relocated)(void) = operators_resolved;
