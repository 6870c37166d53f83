/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host blocks that are looked at one by one: those at or above the threshold.
 *
 * The hooks of the malloc family come here when a size reaches berth__gate.threshold, or when an
 * address lies in a window; everything else is jemalloc's plain path. Here the table is asked, the
 * places are tried in order, and the block is recorded and counted until it is freed.
 *
 * Any thread; no lock of ours. The caller has raised berth__thread.inside.
 */
#ifndef BERTH_PMEM_HOST_H
#define BERTH_PMEM_HOST_H

#include "alloc/types.h"

#include <stdbool.h>

/* Gives the host tiers their verbs and makers. Before the first table, on one thread. */
void berth__host_register(void);

struct berth_host_request {
    size_t size;
    size_t alignment; /* a power of two; 1 = as malloc */
    bool zero;
    berth_site_id site; /* 0 = not captured */
    const void *caller; /* the return address of the program's call; NULL = not known */
    /* What berth__sample_weigh() said of it; 0 = it is no sample. And whose sample it is. */
    uint64_t sample;
    berth_site_id sample_site;
};

/* jemalloc's plain path: a block that no rule sees, counted in total only. NULL: no memory. */
void *berth__host_plain(const struct berth_host_request *request);
/*
 * Once more, after that or anything else gave nothing: where a limit of the process's may be why
 * (relief.h). The caller has raised berth__thread.inside, here too.
 */
void *berth__host_plain_again(const struct berth_host_request *request);

/*
 * A block, or NULL when not even ordinary memory can be had. `*ret_placed` says whether a rule
 * placed it. The block may lie outside every window when no address can be had in one.
 */
void *berth__host_alloc(const struct berth_host_request *request, bool *ret_placed);

/* What a block may be used for: its size class; of a persistent one, the size that was asked for.
 */
size_t berth__host_usable(const void *p);

/* Frees a block that lies in a window. */
void berth__host_free(void *p);

/*
 * Resizes a block: `p` lies in a window, or `request->size` is at or above the threshold, or both.
 * The block stays in its tier if it can. NULL: no memory; the block is then as it was.
 * `request->size` is not 0.
 */
void *berth__host_realloc(void *p, const struct berth_host_request *request, bool *ret_placed);

/*
 * As jemalloc's xallocx(), for a block in a window: the size it is held at afterwards. Of the flags
 * only the alignment and MALLOCX_ZERO count.
 */
size_t berth__host_resize(void *p, size_t size, size_t extra, int flags);

struct berth_block_info;
struct berth_block_detail;
/* What berth_describe() says of an address in a window; -ENOENT if no recorded block holds it. */
int berth__host_describe(const void *p, struct berth_block_info *ret);
/* The same with all that is known (alloc/describe.h). */
int berth__host_detail(const void *p, struct berth_block_detail *ret);

#endif
