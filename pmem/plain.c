/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/plain.h"

#include "pmem/glance.h"

struct berth_plain berth__plain = {.count = SIZE_MAX - (BERTH_TINY_MAX + 1)};

void berth__plain_renew(size_t threshold, bool is_wanted)
{
    size_t count = threshold > BERTH_TINY_MAX ? threshold - (BERTH_TINY_MAX + 1) : 0;

    berth__glance_renew(is_wanted);
    atomic_store_explicit(&berth__plain.count, count, memory_order_relaxed);
}
