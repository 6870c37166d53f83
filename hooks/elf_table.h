/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A module that is loaded, as its own tables tell of it: what it defines, and what it imports.
 *
 * No function of another library is called here. Much of this runs while the loader relocates this
 * library, or before a sanitizer has found the originals of what it replaces, strcmp() among them.
 */
#ifndef BERTH_HOOKS_ELF_TABLE_H
#define BERTH_HOOKS_ELF_TABLE_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* This library's ELF header, where it is mapped. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));

struct berth_elf {
    uintptr_t base;
    const ElfW(Sym) * symbols;
    const char *strings;
    const uint32_t *hash;             /* DT_GNU_HASH, may be NULL */
    const uint32_t *old_hash;         /* DT_HASH, likewise */
    const ElfW(Half) * versions;      /* of each symbol; NULL: they have none */
    const ElfW(Verdef) * definitions; /* NULL: whoever asks for a version is given any */
    const ElfW(Verneed) * needs;
    const ElfW(Rela) * relocations, *jumps;
    size_t relocation_count, jump_count;
    size_t relative_count; /* of the relocations, the first so many have no symbol */
};

/* False for a module without symbols. */
bool berth__elf_read(const struct dl_phdr_info *info, struct berth_elf *ret);
bool berth__elf_read_map(const struct link_map *map, struct berth_elf *ret);
/*
 * The first in the loader's list, which is the program. NULL: it cannot be seen, where the program
 * has a variable by the name of the list, or a copy of it, which is not filled in yet.
 */
const struct link_map *berth__elf_first_map(void);
/* The function that it defines by this name, or NULL. */
const ElfW(Sym) * berth__elf_find(const struct berth_elf *elf, const char *name);
/* The same of this version (NULL: the one that is given to whoever asks for none). */
const ElfW(Sym) *
    berth__elf_find_version(const struct berth_elf *elf, const char *name, const char *version);
/* Whether it defines anything, functions or variables, by this name. */
bool berth__elf_defines(const struct berth_elf *elf, const char *name);
/* The version that it wants of a symbol that it imports, or NULL. */
const char *berth__elf_wanted_version(const struct berth_elf *elf, const ElfW(Sym) * symbol);
bool berth__elf_contains(const struct dl_phdr_info *info, uintptr_t address);
/* Whether it is this library. */
bool berth__elf_is_own(const struct dl_phdr_info *info);

#endif
