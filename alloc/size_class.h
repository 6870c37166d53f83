/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Size classes of device blocks: lists of free blocks of like size.
 *
 * A block's size is a multiple of 512 bytes, the alignment that applications observe from
 * cuMemAlloc and that texture binding needs. The class of a size has the same 8 steps per doubling
 * everywhere, and holds exactly one size up to 8 KiB. Classes order like sizes.
 */
#ifndef BERTH_ALLOC_SIZE_CLASS_H
#define BERTH_ALLOC_SIZE_CLASS_H

#include <stdint.h>

#define BERTH_GRANULE_SHIFT 9 /* 512 bytes */
#define BERTH_GRANULE ((uint64_t)1 << BERTH_GRANULE_SHIFT)

#define BERTH_SIZE_CLASS_EXACT 16 /* sizes in granules below this have a class each */
#define BERTH_SIZE_CLASS_STEPS_SHIFT 3
/* 51 doublings from 2^4 granules on, up to 2^55 granules = 2^64 bytes. */
#define BERTH_SIZE_CLASS_COUNT (BERTH_SIZE_CLASS_EXACT + (51 << BERTH_SIZE_CLASS_STEPS_SHIFT))

/* `size` as a multiple of the granule, at least one; 0 when it does not fit in 64 bits. */
static inline uint64_t berth__size_round(uint64_t size)
{
    if (size == 0)
        return BERTH_GRANULE;
    if (size > UINT64_MAX - (BERTH_GRANULE - 1))
        return 0;
    return (size + BERTH_GRANULE - 1) & ~(BERTH_GRANULE - 1);
}

/* The class of a rounded size. */
unsigned berth__size_class(uint64_t size);

#endif
