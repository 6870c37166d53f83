/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiers of kind dax: a device-dax device, mapped shared into the tier's window in pieces of the
 * device's alignment (chunks.h).
 *
 * The kernel maps a device beyond its end without a word, and sends SIGBUS at the first touch: no
 * piece beyond what /sys tells of it is ever mapped. It zeroes nothing, so each commit does; that
 * is also where a device that has lost pages, or cannot map them, says so where the kernel can.
 *
 * A device has one user. It is opened when the tier is made, and locked when the first block is to
 * lie in it, because a shell that starts the program has the same policy. A forked child never uses
 * it: its copy is in ordinary memory. A device that holds a persistent store is not taken: named
 * tiers are served by persist.h, and no other block lies in them.
 */
#ifndef BERTH_PMEM_TIER_DAX_H
#define BERTH_PMEM_TIER_DAX_H

#include "alloc/tier_ops.h"

void berth__tier_dax_register(void);

/* What addresses, offsets and sizes of mappings of the tier's device are multiples of. */
size_t berth__tier_dax_alignment(berth_tier_id id);

#endif
