/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lazy frees: blocks that wait, in batches, until the work that was queued before has passed.
 *
 * A free puts its block into the open batch of the calling thread's cache (pool_lazy_cell.h). A
 * batch that has enough blocks or bytes is closed by one point in the work of the context
 * (alloc/order.h), which costs one call of the driver; once the point has passed, the blocks are
 * ready for reuse: in the cache of the thread that finds it out, or in the pool. While a capture is
 * open nothing may be recorded: closed batches without a point wait for a later one. Nor is asked
 * then, but when the driver is out of memory: see berth__lazy_reclaim_relaxed().
 *
 * An allocation that finds nothing cached first looks which points have passed, then closes what is
 * open, then waits for the oldest, and only then is the driver asked for memory.
 *
 * What waits is reserved, neither held nor cached, and bounded by the option waiting-max: beyond it
 * a free waits for the oldest batch, or for the context. Captures can hold more back; and so can
 * frees in the order of a stream, which nobody may wait for, of blocks that share their segment:
 * natively the driver has their memory no earlier. It is counted, and waited for before memory is
 * short.
 *
 * Synchronization: the lists of batches by the pool's lock; an open batch by its cache's. A batch
 * on which somebody works without the lock is `is_busy`, and stays listed.
 */
#ifndef BERTH_ALLOC_POOL_LAZY_H
#define BERTH_ALLOC_POOL_LAZY_H

#include "alloc/block.h"
#include "alloc/device.h"
#include "alloc/pool_quiet.h"

struct berth_order_point;

struct berth_lazy_batch {
    struct berth_lazy_batch *next; /* older first */
    struct berth_block *blocks;    /* linked by `waiting` */
    uint64_t bytes;
    uint64_t count;                  /* of blocks that were ever put in */
    struct berth_order_point *point; /* NULL: none could be recorded yet */
    struct berth_cache *owner;       /* whose blocks they were; NULL: of several threads */
    bool is_busy;
    bool is_awaited; /* while it is busy: until the point passes, not for one question */
    bool is_in_vain; /* somebody has waited for the point as long as may be */
};

/* A thread's open batch. */
struct berth_lazy_cell {
    struct berth_block *blocks;
    _Atomic uint32_t count; /* of them; its thread looks at it without the lock, too */
    uint64_t granted;       /* of the pool's `granted`: the bytes may not be more */
    _Atomic uint64_t bytes; /* of both lists */
    /* What its thread is closing by itself; see pool_lazy_cell.h. */
    struct berth_block *closing;
    uint64_t closing_bytes;
    uint32_t closing_count;
    /* For the cache's own thread alone: it closes so many bytes by itself; 0: none. */
    uint64_t enough;
    struct berth_order_point *spare; /* for that */
};

struct berth_lazy {
    struct berth_lazy_batch *batches;
    struct berth_lazy_batch *joined; /* the batch that a block joins under this lock */
    _Atomic uint64_t batch_bytes;    /* of all batches */
    _Atomic uint64_t granted;        /* what open batches may have, in sum */
    _Atomic uint64_t open_most;      /* what may be granted where memory is to be tight */
    /* A block of a run is open that is larger than what may be: it is asked about at each look. */
    atomic_bool has_large;
    atomic_bool is_prompt; /* what was closed last had passed when it was asked about at once */
    /*
     * So much may wait before a batch is closed for the sake of one allocation, and how often in
     * turn that was done for few blocks.
     */
    _Atomic uint64_t allowance;
    unsigned small_closes;
    struct berth_slab slab;
};

/* How large a pool may be for the sake of few points. Where memory is to be tight, none is. */
uint64_t berth__lazy_room(void);

/* Whether frees in this context may be lazy: the option says so, or `is_wanted`; and it can be. */
bool berth__lazy_is_possible(berth_cu_context context, bool is_wanted);

/*
 * Frees a block that is LEAVING, in the calling thread's hands, and not to go to the driver. 0, or
 * what cuMemFree would have answered, with the block LIVE again; or an error that speaks of a
 * capture that was begun just now, with the block still LEAVING. Without `may_wait` more waits than
 * may, rather than that this call does.
 */
int berth__lazy_free(struct berth_block *block, bool may_wait);

/* Whether one more block of `size` bytes may wait beside what does, some of which has passed. */
bool berth__lazy_has_room(struct berth_pool *pool, uint64_t size);

/*
 * Makes what the calling thread has freed its cache's, if it has passed; true if any has. Blocks so
 * stay with a thread, whose processor knows their records.
 */
bool berth__lazy_look_own(struct berth_pool *pool);

/*
 * The same with what it has freed since and no point was recorded for, where the device is quick:
 * where as much as this has passed before as soon as it was asked about, and is what a request of
 * `size` bytes looks for.
 */
bool berth__lazy_close_own(struct berth_cache *cache, uint64_t size);

/*
 * Before the pool asks for memory: makes what waits the pool's. Step by step: BERTH_LAZY_LOOK takes
 * what has passed; BERTH_LAZY_CLOSE closes what is open and looks again; BERTH_LAZY_WAIT waits for
 * the oldest batch. True if blocks came free. Called without a lock.
 */
enum berth_lazy_step { BERTH_LAZY_LOOK, BERTH_LAZY_CLOSE, BERTH_LAZY_WAIT };
bool berth__lazy_reclaim(struct berth_pool *pool, enum berth_lazy_step step);
/*
 * All steps until nothing waits any more, or nothing more can be had. Of any context: meanwhile
 * nobody destroys it, and one that is being destroyed is let alone. What somebody has waited for
 * in vain is waited for again with BERTH_PATIENCE_LONG.
 */
bool berth__lazy_reclaim_all(struct berth_pool *pool, enum berth_patience patience);
/*
 * Lets other threads find out about what they are asking about; the device may be waiting for this
 * very thread, so no longer than it would wait itself. True if any was asking: something may have
 * come free.
 */
bool berth__lazy_await_others(struct berth_pool *pool);
/*
 * What still waits after that, because another thread was about to destroy a context or a stream
 * and nobody could ask about points: waits until they can, which is soon, and reclaims it. True if
 * any came free; never while a capture is open. Called without a lock.
 */
bool berth__lazy_settle(struct berth_pool *pool);
/*
 * For a thread in relaxed mode while a capture is open: what waits for points that were recorded
 * before comes free, if they have passed or, where `may_wait`, are passed soon. True if any did.
 */
bool berth__lazy_reclaim_relaxed(struct berth_pool *pool, bool may_wait);
/* berth__lazy_reclaim_all() for all pools. */
void berth__lazy_reclaim_pools(void);

/*
 * Before the pool grows by what is to be shared: gives what was freed during a capture, and has no
 * point, one. False where that cannot be, because a capture is open, or was just now. Then the pool
 * is better not to grow: if captures of several threads overlap, what is served from it in the
 * moments between them, and freed beside them, is had by nobody. Called without a lock.
 */
bool berth__lazy_point_waiting(struct berth_pool *pool);

/*
 * The steps in this order until `take` finds what it looks for; its answer. A request of `size`
 * bytes does not wait for less. `elsewhere` says what else the caller can do: cut many blocks from
 * one new segment, ask the driver for each, or nothing.
 */
enum berth_lazy_elsewhere { BERTH_LAZY_CHEAP, BERTH_LAZY_DEAR, BERTH_LAZY_NOWHERE };
bool berth__lazy_take(struct berth_pool *pool, uint64_t size, enum berth_lazy_elsewhere elsewhere,
                      bool (*take)(struct berth_pool *pool, void *argument), void *argument);

/* With the pool's lock held, and its caches shut: forgets all that waits, whose context is gone. */
void berth__lazy_drop(struct berth_pool *pool);
/* With the pool's lock held: forgets one block that waits, here or since a capture. */
void berth__lazy_remove(struct berth_pool *pool, const struct berth_block *block);

/* With the pool's lock held: bytes that wait here; those of blocks in pool->waiting are not among
 * them. */
uint64_t berth__lazy_bytes(const struct berth_pool *pool);

/* Bytes that wait, of one device or of BERTH_POOL_ALL_DEVICES, less what is borrowed; of one tier.
 */
uint64_t berth__lazy_waiting(int device);
uint64_t berth__lazy_waiting_tier(berth_tier_id tier);

/* How many points were recorded for batches, and how often somebody waited for one. */
struct berth_lazy_counts {
    _Atomic uint64_t points, waits;
};
extern struct berth_lazy_counts berth__lazy_counts;

#endif
