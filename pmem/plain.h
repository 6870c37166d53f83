/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plain path: what the malloc family looks at on every call before it jumps to jemalloc.
 *
 * One cache line of libberth-malloc.so's own, read without any lock. It is hidden, so that the
 * entries in hooks/malloc_entry_x86_64.S compare with it in place, where what both preload
 * libraries share (gate.h) has to be found through the global offset table first. The table's
 * installer, who may run in either library, comes here by berth__table_plain (table.h).
 *
 * Constant-initialised: before any constructor every size is plain and no address is in a window.
 */
#ifndef BERTH_PMEM_PLAIN_H
#define BERTH_PMEM_PLAIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * jemalloc's only size class that is not aligned for every type, as the C library's blocks are: the
 * malloc family asks for the next one instead.
 */
#define BERTH_TINY_MAX ((size_t)8)
#define BERTH_BLOCK_MIN ((size_t)16)

/* The order of the first five is known to the assembly entries. */
struct berth_plain {
    /* How many sizes from BERTH_TINY_MAX + 1 on lie below the gate's threshold: both in one. */
    _Atomic size_t count;
    /* What glance.h keeps of a return address besides it; 0 = small blocks are not looked at. */
    _Atomic uint64_t glance_key;
    /* Berth's one address reservation; written once, base first... */
    _Atomic uintptr_t window_base;
    _Atomic size_t window_size; /* ...and size last (release); 0 = no reservation */
    /*
     * `count` while samples are taken (sample.h): of these sizes the bytes are counted, and `count`
     * itself is 0. While none are taken, this is 0.
     */
    _Atomic size_t sampled;
    /* Once parts of the reservation are given back, whether an address lies in what is left. */
    _Atomic(bool (*)(const void *)) is_kept;
    _Atomic uint64_t sample_interval; /* bytes from one sample to the next on average; 0 = none */
} __attribute__((aligned(64)));

extern struct berth_plain berth__plain __attribute__((visibility("hidden")));

/*
 * Sizes from `threshold` on are looked at; `is_wanted`: some of them are of small blocks. Of
 * smaller ones samples are taken every `sample_interval` bytes; 0 = none. Whoever changes it sees
 * to it that nobody else does at the time.
 */
void berth__plain_renew(size_t threshold, bool is_wanted, uint64_t sample_interval);

#endif
