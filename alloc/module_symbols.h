/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The functions of a loaded module, ordered by address: an index into the dynamic symbol table that
 * the loader has mapped, or into the symbol table of the module's file (alloc/module_file.h).
 *
 * Symbols and names are read while the module is known to be loaded (berth__module_symbols_collect
 * and _name); ordering needs only the index's own memory.
 */
#ifndef BERTH_ALLOC_MODULE_SYMBOLS_H
#define BERTH_ALLOC_MODULE_SYMBOLS_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A module's tables, found through PT_DYNAMIC; `symbol_count` 0 when it has none that is sound. */
struct berth_module_tables {
    const ElfW(Sym) * symbols;
    const char *names;
    size_t names_size;
    uint32_t symbol_count;
    const uint32_t *gnu_hash; /* NULL: the module has another hash table, or none */
};

/* [start, end) is the module's mapping: no table outside it is believed. */
void berth__module_tables_read(const struct dl_phdr_info *info, uintptr_t start, uintptr_t end,
                               struct berth_module_tables *ret);

/*
 * Whether a function may be called by this name, told by the hash table: none of the others is
 * looked at. False only where there is none of the name.
 */
bool berth__module_tables_may_have(const struct berth_module_tables *tables, const char *name,
                                   size_t length);

struct berth_module_symbols;

/* The functions, unordered as yet; NULL when there is no memory. The caller owns it. */
struct berth_module_symbols *
berth__module_symbols_collect(const struct berth_module_tables *tables);

/* The same step by step: an index with room for `count` symbols, to which they are added. */
struct berth_module_symbols *berth__module_symbols_new(uint32_t count);
void berth__module_symbols_add(struct berth_module_symbols *symbols, const ElfW(Sym) * symbol,
                               uint32_t count);

void berth__module_symbols_order(struct berth_module_symbols *symbols);
void berth__module_symbols_free(struct berth_module_symbols *symbols);

/*
 * The function of an ordered index that contains `value`, an address less the module's base. NULL
 * when none does. Several names of one function: always the same one, a global before a weak one,
 * then the one with fewer leading underscores, the shorter, the first in the alphabet. The name is
 * a copy that lives as long as the process.
 */
const char *berth__module_symbols_name(struct berth_module_symbols *symbols,
                                       const struct berth_module_tables *tables, uint64_t value,
                                       uint64_t *ret_start);

/*
 * The same where strings are read one by one: `namer` gives the string at `name`, with its length,
 * 0 for none. What it gave for one slot (0, 1) stays while it gives for the other.
 */
typedef const char *(*berth_module_namer)(void *context, uint32_t name, int slot,
                                          size_t *ret_length);
const char *berth__module_symbols_name_by(struct berth_module_symbols *symbols, uint64_t value,
                                          berth_module_namer namer, void *context,
                                          uint64_t *ret_start);

#endif
