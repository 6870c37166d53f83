/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/plain.h"

#include "pmem/glance.h"

struct berth_plain berth__plain = {.count = SIZE_MAX - (BERTH_TINY_MAX + 1)};

void berth__plain_renew(size_t threshold, bool is_wanted, uint64_t sample_interval)
{
    size_t count = threshold > BERTH_TINY_MAX ? threshold - (BERTH_TINY_MAX + 1) : 0;

    /* A call that sees half of this counts its bytes in vain, or goes uncounted. */
    atomic_store_explicit(&berth__plain.sample_interval, sample_interval, memory_order_relaxed);
    berth__glance_renew(is_wanted);
    atomic_store_explicit(&berth__plain.sampled, sample_interval ? count : 0, memory_order_relaxed);
    atomic_store_explicit(&berth__plain.count, sample_interval ? 0 : count, memory_order_relaxed);
}
