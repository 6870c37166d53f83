/* SPDX-License-Identifier: Apache-2.0 */
/* A module's build id as one number: what tells two builds of one file apart. */
#ifndef BERTH_ALLOC_BUILD_HASH_H
#define BERTH_ALLOC_BUILD_HASH_H

#include <link.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Of the bytes of the note; 0 stands for a module without one. */
static inline uint64_t berth__build_hash(const unsigned char *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

/* Of the build id among the notes of a loaded module at [at, end); 0 where there is none. */
static inline uint64_t berth__build_hash_at(uintptr_t at, uintptr_t end)
{
    while (end - at >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at;
        uint64_t name_size = ((uint64_t)note->n_namesz + 3) & ~(uint64_t)3;
        uint64_t data_size = ((uint64_t)note->n_descsz + 3) & ~(uint64_t)3;
        const unsigned char *data = (const unsigned char *)(note + 1) + name_size;

        if (sizeof(*note) + name_size + data_size > end - at)
            return 0;
        if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
            memcmp(note + 1, "GNU", 4) == 0)
            return berth__build_hash(data, note->n_descsz);
        at += sizeof(*note) + name_size + data_size;
    }
    return 0;
}

#endif
