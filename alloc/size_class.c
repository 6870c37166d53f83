/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/size_class.h"

unsigned berth__size_class(uint64_t size)
{
    uint64_t granules = size >> BERTH_GRANULE_SHIFT;
    unsigned doubling, step;

    if (granules < BERTH_SIZE_CLASS_EXACT)
        return (unsigned)granules;
    doubling = 63u - (unsigned)__builtin_clzll(granules);
    step = (unsigned)(granules >> (doubling - BERTH_SIZE_CLASS_STEPS_SHIFT)) &
           ((1u << BERTH_SIZE_CLASS_STEPS_SHIFT) - 1);
    return BERTH_SIZE_CLASS_EXACT + ((doubling - 4) << BERTH_SIZE_CLASS_STEPS_SHIFT) + step;
}
