/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keep: the last few large blocks of ordinary memory that a thread has freed, for its next
 * requests of the same size classes.
 *
 * jemalloc's tcaches end at 32 KiB; beyond, each pair of calls takes an extent out of its lists and
 * puts it back, with locks, in some 2500 instructions. Programs that need large blocks need the
 * same sizes again and again: what was asked for at least twice of late is kept, because to take
 * other sizes out of jemalloc's hands only makes it use more memory. A block in the keep is
 * jemalloc's live block still: its address is nobody else's, and its pages stay.
 *
 * What all threads keep is bounded: the more threads have a keep, the less each puts into it, and
 * what one has been granted of the bound is no other's until it frees a block again, or ends.
 * Belongs to one thread; no lock.
 */
#ifndef BERTH_PMEM_KEEP_H
#define BERTH_PMEM_KEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A few, because each free() looks through all of them. */
#define BERTH_KEEP_SLOTS 4
/* jemalloc's own caches end here. */
#define BERTH_KEEP_SIZE_MIN (((size_t)32 << 10) + 1)
/*
 * The most that a thread keeps, and that all threads keep together: what is kept is memory that
 * jemalloc would have given back, so all of it is to be little beside what any program has.
 */
#define BERTH_KEEP_BYTES_MAX ((size_t)1 << 20)
#define BERTH_KEEP_SHARED_MAX ((size_t)2 << 20)

struct berth_keep {
    void *block[BERTH_KEEP_SLOTS]; /* NULL = none */
    size_t held[BERTH_KEEP_SLOTS];
    size_t total;    /* of what is held */
    uint64_t recent; /* the size classes of the last eight requests, a byte each */
    size_t granted;  /* of what all may keep together; `total` is at most as much */
    unsigned next;   /* the slot that is used again first */
    bool is_counted;
};

/* A block for `size` bytes with this alignment, or NULL. `*ret_held`: its size class. */
void *berth__keep_take(struct berth_keep *keep, size_t size, size_t alignment, size_t *ret_held);

/* Puts a freed block in. False: it is not to be kept. `drop` frees what has to leave for it. */
bool berth__keep_put(struct berth_keep *keep, void *p, size_t held,
                     void (*drop)(void *p, size_t held));

/* Frees all of it; `is_last`: the thread puts nothing in again. */
void berth__keep_empty(struct berth_keep *keep, bool is_last, void (*drop)(void *p, size_t held));

#endif
