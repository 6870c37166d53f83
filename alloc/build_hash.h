/* SPDX-License-Identifier: Apache-2.0 */
/* A module's build id as one number: what tells two builds of one file apart. */
#ifndef BERTH_ALLOC_BUILD_HASH_H
#define BERTH_ALLOC_BUILD_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Of the bytes of the note; 0 stands for a module without one. */
static inline uint64_t berth__build_hash(const unsigned char *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash;
}

#endif
