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

/*
 * Limits below which no size lies. Compared as signed numbers, a size less the first overflows from
 * BERTH_GLANCE_SURE + 1 on (glance.h), and a size less the second always does: one comparison tells
 * which sizes are plain, which are so after a glance, and which have to be looked at.
 */
#define BERTH_PLAIN_LIMIT_GLANCE (INT64_MIN + 4096)
#define BERTH_PLAIN_LIMIT_NONE INT64_MIN

/* No glance differs from it by an address alone, because none is of epoch 0. */
#define BERTH_PLAIN_KEY_NEVER ((uint64_t)1 << 63)

/* The order of the first six is known to the assembly entries. */
struct berth_plain {
    /* How many sizes from BERTH_TINY_MAX + 1 on lie below the gate's threshold: both in one. */
    _Atomic size_t count;
    /*
     * The gate's threshold, for entries that need not look at tiny sizes, because jemalloc takes
     * them for BERTH_BLOCK_MIN; or one of the above. BERTH_PLAIN_LIMIT_NONE, with a `count` of 0
     * and a `sampled` of 0, also where the process is limited.
     */
    _Atomic int64_t limit;
    /*
     * The key below if the limit is BERTH_PLAIN_LIMIT_GLANCE, else 0; BERTH_PLAIN_KEY_NEVER for
     * good once a thread has pushed a tag: entries do not ask which one has.
     */
    _Atomic uint64_t entry_key;
    /* Berth's one address reservation; written once, base first... */
    _Atomic uintptr_t window_base;
    _Atomic size_t window_size; /* ...and size last (release); 0 = no reservation */
    /*
     * The threshold while samples are taken (sample.h): of smaller blocks the bytes are counted,
     * the limit is BERTH_PLAIN_LIMIT_NONE, and `count` is 0. While none are taken, this is 0.
     */
    _Atomic size_t sampled;
    /* What glance.h keeps of a return address besides it; 0 = small blocks are not looked at. */
    _Atomic uint64_t glance_key;
    /* Once parts of the reservation are given back, whether an address lies in what is left. */
    _Atomic(bool (*)(const void *)) is_kept;
    _Atomic uint64_t sample_interval; /* bytes from one sample to the next on average; 0 = none */
} __attribute__((aligned(64)));

extern struct berth_plain berth__plain __attribute__((visibility("hidden")));

/*
 * What C++'s operators look at instead. The same; but where an operator is to be a library's
 * (hooks/operator.h), no size is plain, or every address may be in a window. All but window_base
 * before window_size is written as above, and known to the assembly entries in this order.
 */
struct berth_plain_operators {
    _Atomic int64_t limit;
    _Atomic size_t sampled;
    _Atomic uintptr_t window_base;
    _Atomic size_t window_size;
} __attribute__((aligned(64)));

extern struct berth_plain_operators berth__plain_operators __attribute__((visibility("hidden")));

/* While the library is relocated: which operators are to be a library's, for good. */
void berth__plain_leave(bool is_new, bool is_delete);

/* Berth's one address reservation. Idempotent. */
void berth__plain_set_window(uintptr_t base, size_t size);

/*
 * Has jemalloc serve tiny sizes from its class of BERTH_BLOCK_MIN, if its table of classes can be
 * had, and lets the entries know. On one thread, before berth__plain_renew().
 */
void berth__plain_start(void);

/*
 * Sizes from `threshold` on are looked at; `is_wanted`: some of them are of small blocks. Of
 * smaller ones samples are taken every `sample_interval` bytes; 0 = none. Whoever changes it sees
 * to it that nobody else does at the time.
 */
void berth__plain_renew(size_t threshold, bool is_wanted, uint64_t sample_interval);

/*
 * A limit of the process's has come or gone (berth__overcommit_least_limit()). Where there is one,
 * jemalloc may have no memory though it keeps enough that is free: every size is looked at then, so
 * that there is somebody to ask once more (relief.h). Any thread; takes no lock.
 */
void berth__plain_renew_limits(void);

/* The glance key has changed. Any thread. */
void berth__plain_renew_key(void);

#endif
