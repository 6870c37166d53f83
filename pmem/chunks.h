/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chunks: memory that can be mapped only in large pieces, behind a window that is used page by
 * page.
 *
 * A backing (a device, a file of huge pages) and the window are both cut into chunks of one size. A
 * chunk of the window has one of the backing from its first committed OS page to its last. Which
 * one is free to choose, so that the holes that freed blocks leave among the addresses cost nothing
 * of the backing; neighbours get neighbours where that is possible, and are mapped in one piece.
 *
 * Synchronisation: one lock, the last that is taken. It is held across mmap() and its like, which
 * wait for nobody that could want it. Only the process that made the chunks uses them.
 */
#ifndef BERTH_PMEM_CHUNKS_H
#define BERTH_PMEM_CHUNKS_H

#include "pmem/page_set.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct berth_chunks {
    uintptr_t base; /* of the window's first chunk */
    size_t count;   /* of the window */
    unsigned shift; /* log2 of a chunk's size */
    size_t backing_count, backing_free;
    /*
     * Puts [offset, offset + size) of the backing at `address`, whole chunks, or takes it away
     * again. 0 or -errno. Where attaching fails, nothing is there; where detaching does, the
     * backing is, but a chunk that reads as zero when attached has to be attached anew.
     */
    int (*attach)(void *context, void *address, uint64_t offset, size_t size);
    int (*detach)(void *context, void *address, uint64_t offset, size_t size);
    void *context;
    bool zero; /* what is attached reads as zero */
    /* Of the window: what is committed, and therefore mapped. Changes under the lock, for those who
     * hold it. */
    struct berth_page_set *committed;
    uintptr_t window;
    /* Under the lock: */
    uint32_t *backing; /* per chunk of the window: its chunk of the backing, plus 1; 0 = none */
    uint32_t *pages;   /* per chunk of the window: OS pages that are committed */
    uint64_t *taken;   /* a bit per chunk of the backing */
    size_t tables_size;
    pthread_mutex_t lock;
    int owner; /* process id */
};

/*
 * For a window and a backing of so many bytes; whole chunks count. `attach`, `detach`, `context`
 * and `zero` are set already, `committed` before the first commit. 0; -ENOSPC if either has no
 * whole chunk; -ENOMEM.
 */
int berth__chunks_init(struct berth_chunks *chunks, uintptr_t window, size_t window_size,
                       size_t chunk_size, uint64_t backing_size);
void berth__chunks_done(struct berth_chunks *chunks);

/*
 * Puts memory behind whole OS pages of the window, none of which is committed; they read as zero.
 * 0; -ENOSPC when the backing is used up; -EPERM in another process; or what attaching said.
 */
int berth__chunks_commit(struct berth_chunks *chunks, void *address, size_t size);
/* The opposite, for pages that are all committed. Cannot fail in the process that made them. */
int berth__chunks_decommit(struct berth_chunks *chunks, void *address, size_t size);

/*
 * What is committed stays, and is mapped, until it is let go. For a fork, which copies it. False:
 * nothing is held, as this thread itself was interrupted while it commits or decommits.
 */
bool berth__chunks_hold(struct berth_chunks *chunks);
void berth__chunks_let_go(struct berth_chunks *chunks);

/* How much of the backing is free. */
uint64_t berth__chunks_free(const struct berth_chunks *chunks);

#endif
