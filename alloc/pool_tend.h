/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tending: giving memory back that the program did not ask to be given back. On request; when a
 * device has less free memory than the option device-floor; and when the process has more than a
 * limit that was lowered.
 *
 * The control thread does it: it may wait for the device, the program never waits for it.
 */
#ifndef BERTH_ALLOC_POOL_TEND_H
#define BERTH_ALLOC_POOL_TEND_H

#include "alloc/pool.h"

/*
 * Gives back what is cached on the device, or on BERTH_POOL_ALL_DEVICES, but for `keep` bytes: what
 * waits is made ready first, and what is cached in the order of streams goes last. Returns the
 * bytes.
 */
uint64_t berth__pool_trim(int device, uint64_t keep);

/*
 * Bytes that the next allocations on the device could have without the driver's giving any more;
 * what is borrowed is not among them. Any thread.
 */
uint64_t berth__pool_reclaimable(int device);

/* In how many milliseconds berth__pool_tend() should be called next; -1: there is no need. */
int berth__pool_tend_interval(void);
/* Looks once at all devices in use. While a capture is open nothing is done. */
void berth__pool_tend(void);

#endif
