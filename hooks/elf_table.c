/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/elf_table.h"

#include <elf.h>

/* Of an entry in a table of versions: whether only who asks for the version is given it. */
#define VERSION_HIDDEN 0x8000
/* Versions below this one are no names: a symbol that is local, or has none. */
#define VERSION_FIRST 2

/* Not among the libraries that this one needs: the loader has them, under whatever name. */
#pragma weak _r_debug
#pragma weak __libc_stack_end
extern void *__libc_stack_end;

/* Both lie in the loader, whose variables take less. */
#define LOADER_SIZE_MAX ((uintptr_t)1 << 20)

/* glibc relocates these pointers in place; other loaders leave them relative to the module. */
static const void *table_at(uintptr_t base, ElfW(Addr) value)
{
    return (const void *)(value < base ? value + base : value);
}

static void read_relocations(const ElfW(Dyn) * entry, struct berth_elf *elf)
{
    switch (entry->d_tag) {
    case DT_RELA:
        elf->relocations = table_at(elf->base, entry->d_un.d_ptr);
        break;
    case DT_RELASZ:
        elf->relocation_count = entry->d_un.d_val / sizeof(ElfW(Rela));
        break;
    case DT_RELACOUNT:
        elf->relative_count = entry->d_un.d_val;
        break;
    case DT_JMPREL:
        elf->jumps = table_at(elf->base, entry->d_un.d_ptr);
        break;
    case DT_PLTRELSZ:
        elf->jump_count = entry->d_un.d_val / sizeof(ElfW(Rela));
        break;
    default:
        break;
    }
}

static void read_entry(const ElfW(Dyn) * entry, struct berth_elf *elf)
{
    switch (entry->d_tag) {
    case DT_SYMTAB:
        elf->symbols = table_at(elf->base, entry->d_un.d_ptr);
        break;
    case DT_STRTAB:
        elf->strings = table_at(elf->base, entry->d_un.d_ptr);
        break;
    case DT_GNU_HASH:
        elf->hash = table_at(elf->base, entry->d_un.d_ptr);
        break;
    case DT_HASH:
        elf->old_hash = table_at(elf->base, entry->d_un.d_ptr);
        break;
    case DT_VERSYM:
        elf->versions = table_at(elf->base, entry->d_un.d_ptr);
        break;
    case DT_VERDEF:
        elf->definitions = table_at(elf->base, entry->d_un.d_ptr);
        break;
    case DT_VERNEED:
        elf->needs = table_at(elf->base, entry->d_un.d_ptr);
        break;
    default:
        read_relocations(entry, elf);
        break;
    }
}

static bool read_entries(uintptr_t base, const ElfW(Dyn) * entry, struct berth_elf *ret)
{
    *ret = (struct berth_elf){.base = base};
    for (; entry && entry->d_tag != DT_NULL; entry++)
        read_entry(entry, ret);
    if (!ret->relocations)
        ret->relocation_count = 0;
    if (!ret->jumps)
        ret->jump_count = 0;
    return ret->symbols && ret->strings;
}

bool berth__elf_read(const struct dl_phdr_info *info, struct berth_elf *ret)
{
    const ElfW(Dyn) *entry = NULL;

    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    return read_entries(info->dlpi_addr, entry, ret);
}

bool berth__elf_read_map(const struct link_map *map, struct berth_elf *ret)
{
    return read_entries(map->l_addr, map->l_ld, ret);
}

const struct link_map *berth__elf_first_map(void)
{
    uintptr_t distance = (uintptr_t)&_r_debug - (uintptr_t)&__libc_stack_end;

    if (!&_r_debug || (distance >= LOADER_SIZE_MAX && -distance >= LOADER_SIZE_MAX))
        return NULL;
    return _r_debug.r_map;
}

static uint32_t gnu_hash(const char *name)
{
    uint32_t hash = 5381;

    for (; *name; name++)
        hash = hash * 33 + (unsigned char)*name;
    return hash;
}

static bool is_equal(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/* Its resolver is one, which does not say where the function is. */
static bool is_function(const ElfW(Sym) * symbol)
{
    return ELF64_ST_TYPE(symbol->st_info) == STT_FUNC;
}

static bool is_code(const ElfW(Sym) * symbol)
{
    return is_function(symbol) || ELF64_ST_TYPE(symbol->st_info) == STT_GNU_IFUNC;
}

/* The loader binds calls to a thread's variable, too. */
static bool is_any(const ElfW(Sym) * symbol)
{
    (void)symbol;
    return true;
}

/* The name of the version that the module defines under this number, or NULL. */
static const char *defined_version(const struct berth_elf *elf, unsigned number)
{
    const ElfW(Verdef) *at = elf->definitions;

    while (at) {
        if (at->vd_ndx == number) {
            const ElfW(Verdaux) *name = (const void *)((const char *)at + at->vd_aux);

            return elf->strings + name->vda_name;
        }
        at = at->vd_next ? (const void *)((const char *)at + at->vd_next) : NULL;
    }
    return NULL;
}

const char *berth__elf_wanted_version(const struct berth_elf *elf, const ElfW(Sym) * symbol)
{
    const ElfW(Verneed) *at = elf->versions ? elf->needs : NULL;
    unsigned number = at ? elf->versions[symbol - elf->symbols] & ~VERSION_HIDDEN : 0;

    while (at && number >= VERSION_FIRST) {
        const ElfW(Vernaux) *entry = (const void *)((const char *)at + at->vn_aux);

        for (unsigned i = 0; i < at->vn_cnt; i++) {
            if (entry->vna_other == number)
                return elf->strings + entry->vna_name;
            entry = (const void *)((const char *)entry + entry->vna_next);
        }
        at = at->vn_next ? (const void *)((const char *)at + at->vn_next) : NULL;
    }
    return NULL;
}

/* What is looked for. */
struct wish {
    const char *name, *version;
    bool any_version;
    bool (*suits)(const ElfW(Sym) * symbol);
};

static bool has_version(const struct berth_elf *elf, size_t index, const struct wish *wish)
{
    unsigned number = elf->versions && elf->definitions ? elf->versions[index] : 0;
    const char *version;

    if (wish->any_version || number == 0)
        return true;
    if (!wish->version)
        return !(number & VERSION_HIDDEN);
    version = defined_version(elf, number & ~VERSION_HIDDEN);
    return version && is_equal(version, wish->version);
}

static bool grants(const struct berth_elf *elf, size_t index, const struct wish *wish)
{
    const ElfW(Sym) *symbol = &elf->symbols[index];

    return symbol->st_shndx != SHN_UNDEF && wish->suits(symbol) &&
           is_equal(elf->strings + symbol->st_name, wish->name) && has_version(elf, index, wish);
}

static uint32_t old_hash(const char *name)
{
    uint32_t hash = 0;

    for (; *name; name++) {
        hash = (hash << 4) + (unsigned char)*name;
        hash = (hash ^ ((hash >> 24) & 0xf0)) & 0x0fffffff;
    }
    return hash;
}

/* The table: how many buckets and chains; then those. 0 ends a chain. */
static const ElfW(Sym) * find_old(const struct berth_elf *elf, const struct wish *wish)
{
    const uint32_t *buckets = elf->old_hash ? elf->old_hash + 2 : NULL;
    uint32_t at = 0;

    if (buckets && elf->old_hash[0] != 0)
        at = buckets[old_hash(wish->name) % elf->old_hash[0]];
    while (at != 0 && !grants(elf, at, wish))
        at = buckets[elf->old_hash[0] + at];
    return at != 0 ? &elf->symbols[at] : NULL;
}

/* The table: buckets, first symbol, bloom words, shift; then bloom, buckets, chains. */
static const ElfW(Sym) * find(const struct berth_elf *elf, const struct wish *wish)
{
    uint32_t bucket_count, first, hash = gnu_hash(wish->name), at;
    const uint32_t *buckets, *chains;

    if (!elf->hash)
        return find_old(elf, wish);
    bucket_count = elf->hash[0];
    first = elf->hash[1];
    buckets = elf->hash + 4 + elf->hash[2] * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    chains = buckets + bucket_count;
    at = bucket_count ? buckets[hash % bucket_count] : 0;
    if (at < first)
        return NULL;
    for (;; at++) {
        uint32_t link = chains[at - first];

        if ((link | 1) == (hash | 1) && grants(elf, at, wish))
            return &elf->symbols[at];
        if (link & 1)
            return NULL;
    }
}

const ElfW(Sym) * berth__elf_find(const struct berth_elf *elf, const char *name)
{
    const struct wish wish = {.name = name, .any_version = true, .suits = is_function};

    return find(elf, &wish);
}

const ElfW(Sym) *
    berth__elf_find_version(const struct berth_elf *elf, const char *name, const char *version)
{
    const struct wish wish = {.name = name, .version = version, .suits = is_code};

    return find(elf, &wish);
}

bool berth__elf_defines(const struct berth_elf *elf, const char *name)
{
    const struct wish wish = {.name = name, .any_version = true, .suits = is_any};

    return find(elf, &wish) != NULL;
}

bool berth__elf_contains(const struct dl_phdr_info *info, uintptr_t address)
{
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];

        if (part->p_type == PT_LOAD && address - (info->dlpi_addr + part->p_vaddr) < part->p_memsz)
            return true;
    }
    return false;
}

bool berth__elf_is_own(const struct dl_phdr_info *info)
{
    return info->dlpi_addr == (ElfW(Addr))__ehdr_start;
}
