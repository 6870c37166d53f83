/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of the libraries that follow another one in the search order, without dlsym. */
#ifndef BERTH_HOOKS_REAL_MODULE_H
#define BERTH_HOOKS_REAL_MODULE_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The function of this name in the first library that has one after the library that contains
 * `address`, or NULL: what RTLD_NEXT means to a caller there. Never calls malloc.
 */
void *berth__real_module_next(const char *name, const void *address);

/* The same after this library itself, or else in any other. */
void *berth__real_module_next_own(const char *name);

/*
 * The functions of these names (NULL where there is none) in the first loaded library whose file
 * name begins with `prefix` and that has the first of them. False if there is no such library.
 */
bool berth__real_module_symbols(const char *prefix, const char *const *names, void **ret_found,
                                size_t count);

/* The tables of a module that is loaded: for those that walk over the loader's list. */
struct berth_elf {
    const ElfW(Sym) * symbols;
    const char *strings;
    const uint32_t *hash; /* DT_GNU_HASH, may be NULL */
    const ElfW(Rela) * relocations, *jumps;
    size_t relocation_count, jump_count;
    size_t relative_count; /* of the relocations, the first so many have no symbol */
};

/* False for a module without symbols. */
bool berth__elf_read(const struct dl_phdr_info *info, struct berth_elf *ret);
/* The function that it defines by this name, or NULL. */
const ElfW(Sym) * berth__elf_find(const struct berth_elf *elf, const char *name);
bool berth__elf_contains(const struct dl_phdr_info *info, uintptr_t address);
/* Whether it is this library. */
bool berth__elf_is_own(const struct dl_phdr_info *info);

#endif
