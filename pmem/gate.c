/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/gate.h"

struct berth_gate berth__gate = {
    .threshold = SIZE_MAX,
    .plain_count = SIZE_MAX - (BERTH_TINY_MAX + 1),
    .site_threshold = SIZE_MAX,
    .device_site_threshold = SIZE_MAX,
};

void berth__gate_set_threshold(size_t threshold)
{
    size_t count = threshold > BERTH_TINY_MAX ? threshold - (BERTH_TINY_MAX + 1) : 0;

    atomic_store_explicit(&berth__gate.threshold, threshold, memory_order_relaxed);
    atomic_store_explicit(&berth__gate.plain_count, count, memory_order_relaxed);
}
