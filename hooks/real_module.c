/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a function's address from the symbol tables of the libraries after another one: no malloc,
 * no lock but that of the loader's list, no help from dlsym. See real.h.
 */
#include "hooks/real_module.h"

#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* This library's ELF header, where it is mapped. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));

struct tables {
    const ElfW(Sym) * symbols;
    const char *strings;
    const uint32_t *hash; /* DT_GNU_HASH */
};

struct search {
    const char *name;
    uintptr_t address; /* in the library after which the search begins */
    bool has_begun;    /* that library has been seen in the list, or there is none */
    bool skip_own;     /* this library does not count */
    void *found;
};

/* glibc relocates these pointers in place; other loaders leave them relative to the module. */
static const void *table_at(const struct dl_phdr_info *info, ElfW(Addr) value)
{
    return (const void *)(value < info->dlpi_addr ? value + info->dlpi_addr : value);
}

static bool read_tables(const struct dl_phdr_info *info, struct tables *ret)
{
    const ElfW(Dyn) *entry = NULL;

    memset(ret, 0, sizeof(*ret));
    for (unsigned i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_DYNAMIC)
            entry = (const ElfW(Dyn) *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr);
    for (; entry && entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_SYMTAB)
            ret->symbols = table_at(info, entry->d_un.d_ptr);
        else if (entry->d_tag == DT_STRTAB)
            ret->strings = table_at(info, entry->d_un.d_ptr);
        else if (entry->d_tag == DT_GNU_HASH)
            ret->hash = table_at(info, entry->d_un.d_ptr);
    }
    return ret->symbols && ret->strings && ret->hash;
}

static uint32_t gnu_hash(const char *name)
{
    uint32_t hash = 5381;

    for (; *name; name++)
        hash = hash * 33 + (unsigned char)*name;
    return hash;
}

static bool is_function(const ElfW(Sym) * symbol)
{
    return ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_shndx != SHN_UNDEF;
}

/* The table: buckets, first symbol, bloom words, shift; then bloom, buckets, chains. */
static const ElfW(Sym) * find_symbol(const struct tables *tables, const char *name)
{
    uint32_t bucket_count = tables->hash[0], first = tables->hash[1];
    const uint32_t *buckets =
        tables->hash + 4 + tables->hash[2] * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    const uint32_t *chains = buckets + bucket_count;
    uint32_t hash = gnu_hash(name);
    uint32_t at = bucket_count ? buckets[hash % bucket_count] : 0;

    if (at < first)
        return NULL;
    for (;; at++) {
        const ElfW(Sym) *symbol = &tables->symbols[at];
        uint32_t link = chains[at - first];

        if ((link | 1) == (hash | 1) && is_function(symbol) &&
            strcmp(tables->strings + symbol->st_name, name) == 0)
            return symbol;
        if (link & 1)
            return NULL;
    }
}

static bool contains(const struct dl_phdr_info *info, uintptr_t address)
{
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];

        if (part->p_type == PT_LOAD && address - (info->dlpi_addr + part->p_vaddr) < part->p_memsz)
            return true;
    }
    return false;
}

static int visit_module(struct dl_phdr_info *info, size_t size, void *data)
{
    struct search *search = data;
    const ElfW(Sym) * symbol;
    struct tables tables;

    if (!search->has_begun) {
        search->has_begun = contains(info, search->address);
        return 0;
    }
    if ((search->skip_own && info->dlpi_addr == (ElfW(Addr))__ehdr_start) ||
        !read_tables(info, &tables))
        return 0;
    symbol = find_symbol(&tables, search->name);
    if (!symbol)
        return 0;
    search->found = (void *)(info->dlpi_addr + symbol->st_value);
    return 1;
}

void *berth__real_module_next(const char *name, const void *address)
{
    struct search search = {.name = name, .address = (uintptr_t)address};

    dl_iterate_phdr(visit_module, &search);
    return search.found;
}

void *berth__real_module_next_own(const char *name)
{
    struct search search = {.name = name, .has_begun = true, .skip_own = true};
    void *found = berth__real_module_next(name, __ehdr_start);

    /* A process that loaded this library late has the C library in front of it. */
    if (!found) {
        dl_iterate_phdr(visit_module, &search);
        found = search.found;
    }
    return found;
}

static int compare_name(struct dl_phdr_info *info, size_t size, void *data)
{
    const char *prefix = data;
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash ? slash + 1 : info->dlpi_name;

    return strncmp(name, prefix, strlen(prefix)) == 0;
}

bool berth__real_module_is_loaded(const char *prefix)
{
    return dl_iterate_phdr(compare_name, (void *)(uintptr_t)prefix) != 0;
}
