/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/module_identity.h"

#include "alloc/build_hash.h"
#include "alloc/module_symbols.h"

/* So much of a table of functions tells libraries without a build id apart. */
#define FUNCTIONS_SEEN ((size_t)4 << 10)
/* And so much of either end of their names: a function may have another name and nothing else. */
#define NAMES_SEEN ((size_t)8 << 10)

#define HASH_BEGIN 0xcbf29ce484222325u

static uint64_t mix(uint64_t hash, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ at[i]) * 0x100000001b3u;
    return hash;
}

uint64_t berth__module_identity_hash(const void *bytes, size_t size)
{
    return mix(HASH_BEGIN, bytes, size);
}

uint64_t berth__module_identity_build(const struct dl_phdr_info *info, uintptr_t start,
                                      uintptr_t end)
{
    uint64_t build = 0;

    for (unsigned i = 0; i < info->dlpi_phnum && build == 0; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t at = (uintptr_t)(info->dlpi_addr + p->p_vaddr);

        if (p->p_type == PT_NOTE && at >= start && at < end && p->p_memsz <= end - at)
            build = berth__build_hash_at(at, at + (uintptr_t)p->p_memsz);
    }
    return build;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* What its functions are called, as far as the module tells others. */
static uint64_t mix_names(uint64_t hash, const struct dl_phdr_info *info, uintptr_t start,
                          uintptr_t end)
{
    struct berth_module_tables tables;
    size_t seen;

    berth__module_tables_read(info, start, end, &tables);
    if (tables.symbol_count == 0)
        return hash;
    seen = least(tables.names_size, NAMES_SEEN);
    hash = mix(hash, &tables.symbol_count, sizeof(tables.symbol_count));
    hash = mix(hash, tables.names, seen);
    return mix(hash, tables.names + tables.names_size - seen, seen);
}

uint64_t berth__module_identity(const struct dl_phdr_info *info, uintptr_t start, uintptr_t end,
                                uint64_t build)
{
    uint64_t hash;

    if (build != 0)
        return build;
    hash = mix(HASH_BEGIN, info->dlpi_phdr, info->dlpi_phnum * sizeof(info->dlpi_phdr[0]));
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t at = (uintptr_t)(info->dlpi_addr + p->p_vaddr);

        if (p->p_type == PT_GNU_EH_FRAME && at >= start && at < end && p->p_memsz <= end - at)
            hash = mix(hash, (const void *)at, least(p->p_memsz, FUNCTIONS_SEEN));
    }
    return mix_names(hash, info, start, end);
}
