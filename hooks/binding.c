/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/binding.h"

#include "alloc/entry_path.h"
#include "alloc/module_walk.h"
#include "alloc/unseen.h"
#include "hooks/cuda_driver.h"
#include "hooks/elf_table.h"
#include "hooks/real_module.h"

#include <elf.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* The functions whose calls must not go past Berth: what allocates, and what frees. */
static const char *const names[] = {
#define X(name) #name,
    BERTH_ENTRY_NAMES(X)
#undef X
        "cuMemFree_v2",
    "cuMemFreeAsync",
    "cuMemFreeAsync_ptsz",
    "cuMemFreeHost",
};
#define NAME_COUNT (sizeof(names) / sizeof(names[0]))

/* A name that is bound to something which is neither Berth's nor the driver's. */
struct stranger {
    const char *name;
    uintptr_t address;
};

struct check {
    void *original[NAME_COUNT];
    struct stranger stranger; /* the first one */
};

static const char *watched(const char *name, size_t *ret_index)
{
    if (name[0] != 'c' || name[1] != 'u' || name[2] < 'A' || name[2] > 'M')
        return NULL;
    for (size_t i = 0; i < NAME_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret_index = i;
            return names[i];
        }
    }
    return NULL;
}

static void report_binding(const struct dl_phdr_info *info, const char *name)
{
    char example[BERTH_UNSEEN_EXAMPLE_MAX];

    snprintf(example, sizeof(example), "%s calls the driver's own %s",
             info->dlpi_name[0] ? info->dlpi_name : "the program", name);
    berth__unseen_add(BERTH_UNSEEN_BINDING, example);
}

static void check_slot(const struct dl_phdr_info *info, const struct berth_elf *elf,
                       const ElfW(Rela) * relocation, struct check *check)
{
    const ElfW(Sym) *symbol = &elf->symbols[ELF64_R_SYM(relocation->r_info)];
    const char *name;
    size_t index;
    void *bound;

    /* Without a symbol there is no name; what the module has itself is its own affair. */
    if (ELF64_R_SYM(relocation->r_info) == 0 || symbol->st_shndx != SHN_UNDEF ||
        relocation->r_addend != 0)
        return;
    name = watched(elf->strings + symbol->st_name, &index);
    if (!name)
        return;
    memcpy(&bound, (const void *)(info->dlpi_addr + relocation->r_offset), sizeof(bound));
    if (!bound || berth__elf_contains(info, (uintptr_t)bound) || berth__cuda_is_wrapper(bound))
        return;
    if (bound == check->original[index])
        report_binding(info, name);
    else if (!check->stranger.name)
        check->stranger = (struct stranger){name, (uintptr_t)bound};
}

static int visit(struct dl_phdr_info *info, size_t size, void *data)
{
    struct check *check = data;
    struct berth_elf elf;

    if (berth__elf_is_own(info) ||
        (check->original[0] && berth__elf_contains(info, (uintptr_t)check->original[0])) ||
        !berth__elf_read(info, &elf))
        return 0;
    for (size_t i = 0; i < elf.jump_count; i++)
        check_slot(info, &elf, &elf.jumps[i], check);
    for (size_t i = elf.relative_count; i < elf.relocation_count; i++)
        check_slot(info, &elf, &elf.relocations[i], check);
    return 0;
}

/* The module that has the stranger; a program's own entry to a function is none. */
static int visit_stranger(struct dl_phdr_info *info, size_t size, void *data)
{
    const struct stranger *stranger = data;
    char example[BERTH_UNSEEN_EXAMPLE_MAX];
    struct berth_elf elf;

    if (!berth__elf_contains(info, stranger->address))
        return 0;
    if (berth__elf_read(info, &elf) && berth__elf_find(&elf, stranger->name)) {
        snprintf(example, sizeof(example), "%s has a %s that comes before Berth's",
                 info->dlpi_name[0] ? info->dlpi_name : "the program", stranger->name);
        berth__unseen_add(BERTH_UNSEEN_FRONT, example);
    }
    return 1;
}

static int count_modules(struct dl_phdr_info *info, size_t size, void *data)
{
    *(unsigned long long *)data = info->dlpi_adds;
    return 1;
}

void berth__binding_check(void)
{
    static _Atomic unsigned long long checked;
    unsigned long long modules = 0;
    struct check check = {0};

    if (!berth__module_walk_begin())
        return;
    dl_iterate_phdr(count_modules, &modules);
    if (atomic_exchange(&checked, modules) != modules) {
        for (size_t i = 0; i < NAME_COUNT; i++)
            check.original[i] = berth__cuda_original(names[i]);
        dl_iterate_phdr(visit, &check);
        if (check.stranger.name)
            dl_iterate_phdr(visit_stranger, &check.stranger);
    }
    berth__module_walk_end();
}
