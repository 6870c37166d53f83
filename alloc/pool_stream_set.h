/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sets of stream-ordered blocks, for the files pool_stream*.c alone.
 *
 * A set has a lock of one word, held for a few instructions and never over a call of the driver. A
 * block is in at most one set, and nobody's else while it is there.
 */
#ifndef BERTH_ALLOC_POOL_STREAM_SET_H
#define BERTH_ALLOC_POOL_STREAM_SET_H

#include "alloc/pool_class.h"
#include "alloc/pool_stream.h"
#include "alloc/segment.h"

#include <pthread.h>
#include <stdalign.h>

#define BERTH_STREAM_NON_BLOCKING 1 /* CU_STREAM_NON_BLOCKING */

enum berth_stream_block_state {
    BERTH_STREAM_BLOCK_CACHED, /* in a set, or retired */
    BERTH_STREAM_BLOCK_LIVE,
    BERTH_STREAM_BLOCK_LEAVING /* on its way to the driver */
};

/*
 * Queries read these without a lock, while they may change: each is right by itself. Records have
 * cache lines of their own, because those of one slab are written by different threads.
 */
struct berth_stream_block {
    alignas(64) struct berth_segment segment; /* what the page map knows; first */
    struct berth_stream_block *next;          /* of the set */
    struct berth_stream_home *home;
    _Atomic int state;
    atomic_bool is_last; /* see berth__stream_set_last() */
    _Atomic uint8_t tag, tagged_by;
    _Atomic uint32_t rule;
    _Atomic uint32_t birth; /* as berth_block's */
    _Atomic berth_site_id site;
    _Atomic uint32_t class_number; /* as berth_block's */
    _Atomic uint64_t requested, id, table_version;
    uint64_t freed; /* when, see berth__stream_wait_begin(); of a cached one */
};

/* Blocks of a stream that was destroyed. */
struct berth_stream_retired {
    struct berth_stream_retired *next;
    struct berth_stream_block *blocks;
    berth_cu_context context;        /* NULL: the primary one of the device */
    struct berth_order_point *point; /* NULL: only a synchronisation tells */
};

/* A device, with the pool of the driver's that its blocks come from. Never unmapped. */
struct berth_stream_home {
    struct berth_stream_home *next;
    int device;
    berth_cu_pool pool;
    atomic_bool is_chosen; /* the program has not chosen another one */
    atomic_bool may_reuse_idle, may_depend;
    _Atomic uint64_t reserved;  /* bytes of all its blocks */
    _Atomic uint64_t live_high; /* the most that were live at once */
    /* Since the program began to count the most that it used: of `reserved`, and as it was told. */
    _Atomic uint64_t reserved_high, told_high;
    struct berth_stream_set idle; /* blocks that no stream uses */
    pthread_mutex_t lock;
    struct berth_stream_retired *retired;  /* Synchronization: `lock` */
    struct berth_slab blocks, retirements; /* Synchronization: `lock` */
};

static inline uint64_t berth__stream_block_size(const struct berth_stream_block *block)
{
    return block->segment.size;
}

/* Of a segment of kind STREAM, which is the block's first member, and as aligned as the block. */
static inline struct berth_stream_block *berth__stream_block_of(struct berth_segment *segment)
{
    return (struct berth_stream_block *)(void *)segment;
}

/* The block that fits best, without much waste, and without any where there is a limit; or NULL. */
struct berth_stream_block *berth__stream_set_take(struct berth_stream_set *set, uint64_t size,
                                                  enum berth_tag tag);
void berth__stream_set_put(struct berth_stream_set *set, struct berth_stream_block *block);
/*
 * The same, and the block becomes the program's; or a block that was found elsewhere, for a request
 * of the stream that the set belongs to.
 */
struct berth_stream_block *berth__stream_set_serve(struct berth_stream_set *set, uint64_t size,
                                                   const struct berth_pool_request *request);
void berth__stream_set_hand_out(struct berth_stream_set *set, struct berth_stream_block *block,
                                const struct berth_pool_request *request);
/* A block that the caller took from LIVE to CACHED is the set's, freed just now. */
void berth__stream_set_take_back(struct berth_stream_set *set, struct berth_stream_block *block);
/* Blocks of together at least `need` bytes if there are so many, linked by `next`. */
struct berth_stream_block *berth__stream_set_drain(struct berth_stream_set *set, uint64_t need);
/* The same of blocks that were freed before a moment. */
struct berth_stream_block *berth__stream_set_drain_done(struct berth_stream_set *set, uint64_t need,
                                                        uint64_t before);
/* Bytes; *ret_low the least since this was asked last, by which the account is made up. */
uint64_t berth__stream_set_cached(struct berth_stream_set *set, uint64_t *ret_low);

/* Where the largest ones are, up to `most`; their number. */
struct berth_stream_span {
    uintptr_t base, end;
};
unsigned berth__stream_set_look(struct berth_stream_set *set, unsigned most,
                                struct berth_stream_span *ret);

/* As berth__pool_site_enter() and berth__pool_site_leave() (alloc/pool_parts.h). */
void berth__stream_site_enter(struct berth_stream_block *block);
void berth__stream_site_leave_slowly(const struct berth_stream_block *block);
static inline void berth__stream_site_leave(const struct berth_stream_block *block)
{
    if (BERTH_UNLIKELY(atomic_load_explicit(&block->site, memory_order_relaxed) != 0))
        berth__stream_site_leave_slowly(block);
}

/* As berth__pool_class_enter() and berth__pool_class_leave() (alloc/pool_class.h). */
void berth__stream_class_enter(struct berth_stream_block *block,
                               const struct berth_pool_request *request);
static inline void berth__stream_class_leave(struct berth_stream_block *block)
{
    if (BERTH_UNLIKELY(atomic_load_explicit(&block->class_number, memory_order_relaxed) != 0))
        berth__pool_class_leave_slowly(&block->class_number);
}

/* The moment for what is freed now. With the lock of the block's set held, see there. */
uint64_t berth__stream_now(void);
/* The moment before which all that was freed in the stream is done. */
uint64_t berth__stream_done_before(const struct berth_stream *stream);

/* The home of a device, made where there is none; NULL where the driver has no pools. */
struct berth_stream_home *berth__stream_home(int device);

/* Bytes of the home that are cached; and its account of what was live at most is brought up. */
uint64_t berth__stream_home_cached(struct berth_stream_home *home);

/* What the device has back of it at least once what is cached was given back, while some lives. */
uint64_t berth__stream_home_whole(struct berth_stream_home *home);

/* What its live blocks hold beyond what the driver would have been asked for. Looks at all blocks.
 */
uint64_t berth__stream_home_excess(const struct berth_stream_home *home);

/* The homes, linked by `next`. */
struct berth_stream_home *berth__stream_homes(void);

/*
 * Gives blocks that no stream uses any more to the driver, and its pool's spare memory to the
 * device; where memory `is_short`, more than the program lets the pool keep. What the driver keeps
 * goes to the set. Returns the bytes.
 */
uint64_t berth__stream_free_idle(struct berth_stream_home *home, struct berth_stream_block *list,
                                 berth_cu_context context, struct berth_stream_set *set,
                                 bool is_short);
/* berth__stream_release_done() for one home. */
uint64_t berth__stream_home_release_done(struct berth_stream_home *home, uint64_t need,
                                         bool is_short);

/* What has been retired and has passed becomes idle. True if there was any. */
bool berth__stream_settle_retired(struct berth_stream_home *home);

/* The driver has it back: ends the record, which is in no set and not in the page map. */
void berth__stream_block_delete(struct berth_stream_block *block);

/* Called inside the door (alloc/order.h): 0 when the stream is idle; or the driver's answer. */
int berth__stream_query(const struct berth_stream *stream);
/*
 * Likewise: a point behind what the stream was given, and, where streams that wait for each other
 * would feel it, behind all that its context was.
 */
int berth__stream_point(const struct berth_stream *stream, struct berth_order_point **ret);

/*
 * Gives cached blocks back, so that `need` bytes come free: the stream's own that are done, and
 * others in its order, to the driver's pool; those that no stream uses; and those of other streams
 * that are done. See berth__stream_free_idle(). Returns the bytes.
 */
uint64_t berth__stream_give_back(struct berth_stream_home *home, struct berth_stream *stream,
                                 uint64_t need, bool is_short);

#endif
