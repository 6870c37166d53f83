/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool's inside, for the files pool*.c alone.
 *
 *  pool.c         finds a context's pool, hands blocks out, which then say of themselves what
 *                 pool_describe.h has, takes them back
 *  pool_drop.c    forgets a pool whose context is gone
 *  pool_grow.c    asks the driver for segments
 *  pool_lazy.c    keeps blocks that were freed until the device is done with them, in the batches
 *                 of pool_lazy_batch.c; pool_lazy_own.c, what a thread does of it by itself
 *  pool_run.h     says which of them a thread keeps aside that repeats itself
 *  pool_release.c gives them back, pool_tend.c unasked
 *  pool_own.c     says what is kept where large blocks have segments of their own
 *  pool_alone.c   says which blocks have a segment alone where they could share one
 *  pool_step.c    learns which of them would do with one segment together
 *  pool_settle.c  lets all of them do with one, where that was seen to suffice
 *  pool_idle.c    makes one segment of those in which nothing lives
 *  pool_borrow.c  makes segments of memory that belongs to somebody else
 *  pool_expand.c  grows and shrinks a range of GPU pages, pool_claim.c owns pieces of it meanwhile
 *  pool_plan.c    hands out blocks at the places of a plan
 *  pool_query.c   answers questions, checks itself; pool_walk.c shows all of it
 *  pool_obtain.c  says what the program could have of a device
 *  pool_memops.c  marks blocks for synchronous copies
 *  pool_site.c    keeps the account by call site
 *  pool_class.c   tells the classifier of blocks, and does what it says
 *  pool_foreign.c accounts memory that the pool does not serve
 */
#ifndef BERTH_ALLOC_POOL_PARTS_H
#define BERTH_ALLOC_POOL_PARTS_H

#include "alloc/cache.h"
#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_own.h"
#include "alloc/pool_quiet.h"
#include "alloc/pool_settle.h"
#include "alloc/pool_step.h"
#include "alloc/segment.h"

#include <pthread.h>

/* The driver takes device memory in pieces; up to half of one may share it with others. */
#define BERTH_DRIVER_PIECE_SHIFT 21 /* 2 MiB */
#define BERTH_DRIVER_PIECE ((uint64_t)1 << BERTH_DRIVER_PIECE_SHIFT)

/* Large blocks are counted by octave: [BERTH_ALONE_LEAST << n, BERTH_ALONE_LEAST << (n + 1)). */
#define BERTH_ALONE_LEAST (BERTH_DRIVER_PIECE / 2 + 1)
#define BERTH_ALONE_OCTAVES (64 - BERTH_DRIVER_PIECE_SHIFT + 1)

/*
 * Pools are never unmapped: one whose context died is taken by the next new context.
 *
 * Lock ranks: pool registry, then pool, then a cache, page map or block index, then pool_class.c's.
 * Two pools are never locked at once.
 */
struct berth_pool {
    struct berth_pool *next;           /* the registry's list, appended to only */
    _Atomic(berth_cu_context) context; /* NULL: unused. Written under `lock` */
    atomic_bool is_ending;             /* see berth__pool_drop_begin() */
    bool is_planned;                   /* it follows a plan, and serves nothing else */
    _Atomic berth_tier_id tier;        /* Synchronization: written before `context` */
    _Atomic int device;                /* Synchronization: written before `context` */
    _Atomic unsigned caches_shut;      /* see berth__cache_shut() */
    /* What is above is read by all threads, what is below changes often. */
    _Alignas(64) pthread_mutex_t lock;
    struct berth_cache *caches;
    uint64_t generation;                 /* of contexts that this pool has served */
    struct berth_free_set shared, whole; /* free blocks; of the joint segment, see pool_step.h: */
    struct berth_free_set joint;
    struct berth_segment *segments;
    /* Freed during a capture, see block.h; newest first. Written under `lock`. */
    struct berth_block *_Atomic waiting;
    struct berth_lazy lazy;   /* freed, and waiting in batches */
    _Atomic uint64_t changes; /* of what is free; written under `lock` */
    atomic_bool has_runs;     /* a thread may keep blocks of a run; see pool_run.h */
    _Atomic uint64_t apart;   /* so large a pool may be before threads take from each other... */
    unsigned collections;     /* ...and how often they did since it was set */
    uint64_t wait_epoch;      /* counts synchronisations; WAITING blocks keep it in `id` */
    uint64_t cached;          /* derived: bytes in the free sets */
    uint64_t shared_reserved; /* derived: bytes of SHARED segments */
    uint64_t reserved;        /* derived: bytes of all segments but the range's */
    uint64_t large_reserved;  /* derived: bytes of WHOLE ones and of the joint segment */
    uint64_t joint_reserved;  /* derived: bytes of the joint segment */
    uint64_t live_max;        /* the largest sum of blocks in use when the pool had to grow */
    uint64_t misses;          /* times that it had to since, with less in use */
    uint64_t unlocked;        /* how often; counted where all is checked (debug_expensive) */
    struct berth_own own;
    struct berth_quiet *quiet;              /* NULL: nobody waits, or has in vain */
    uint64_t rounding[BERTH_ALONE_OCTAVES]; /* derived: granules, see pool_alone.h */
    uint64_t overhead; /* derived: bytes of blocks in use, likewise, and pool_own.h */
    uint64_t rounding_max[BERTH_ALONE_OCTAVES]; /* bytes, when the most blocks were in use */
    uint64_t excess_max;                        /* see pool_alone.h */
    struct berth_sketch heap;                   /* of all large blocks, likewise */
    bool is_alone_in_part;      /* the larger ones of large blocks alone are to be; likewise */
    _Atomic uint64_t alone_min; /* the smallest block that has a segment alone; UINT64_MAX: none */
    uint64_t idle_segments;     /* derived: SHARED ones that are one free block, see pool_idle.h */
    uint64_t idle_bytes;        /* derived: of those */
    uint64_t idle_alone;        /* derived: bytes of WHOLE ones, in which nothing lives */
    uint64_t idle_small;        /* derived: of both, those that share the driver's pieces */
    uint64_t idle_pieces;       /* derived: of the others, what the driver has back */
    uint64_t looks;             /* for alloc/pool_obtain.c alone */
    struct berth_settling settling;
    atomic_bool is_scattered;     /* there may be work for berth__pool_gather() */
    struct berth_segment *range;  /* of kind RANGE; NULL */
    struct berth_block *holes;    /* of the range, linked through left and right */
    struct berth_range *forsaken; /* ranges that wait for berth__pool_bury_ranges() */
    struct berth_steps steps;
    struct berth_slab block_slab, segment_slab, starts_slab, quiet_slab;
    /* What the program was told that it can have, less what it has had of the pool since. */
    _Atomic uint64_t promised;
    atomic_uchar pledge;        /* and that included what waits: enum berth_pledge */
    _Atomic uint64_t releasing; /* bytes on their way to the driver, by any thread */
    /* Bytes given to the driver in the order of a stream, and those of them that somebody has
     * waited for: pool_quiet.h */
    _Atomic uint64_t given_in_order, given_awaited;
    unsigned endings; /* calls that are ending its context; pool_release.c's lock */
};

extern _Atomic(struct berth_pool *) berth__pool_first;

/*
 * Raised in a forked child. The pools and their locks are then as some thread of the parent had
 * them at that moment: nothing may touch them any more.
 */
extern atomic_bool berth__pool_is_disabled;

static inline bool berth__pool_disabled(void)
{
    return BERTH_UNLIKELY(atomic_load_explicit(&berth__pool_is_disabled, memory_order_relaxed));
}

static inline void berth__pool_lock(struct berth_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
}

/* Checks the whole pool first when the build asks for it. */
void berth__pool_unlock(struct berth_pool *pool);

/* With the lock of one of the pool's caches held: whether they may keep blocks. */
static inline bool berth__cache_is_open(const struct berth_pool *pool)
{
    return atomic_load_explicit(&pool->caches_shut, memory_order_acquire) == 0;
}

/* A pool for what follows a plan in this context, beside the ordinary one; NULL without memory. */
struct berth_pool *berth__pool_make_planned(berth_cu_context context, int device,
                                            berth_tier_id tier);

/* The pool of a context, which is the calling thread's, in a tier; NULL without memory. */
struct berth_pool *berth__pool_for(berth_cu_context context, berth_tier_id tier);

/* Adds to the bytes that are cached, in the pool and in the account; wraps to subtract. */
void berth__pool_count_cached(struct berth_pool *pool, uint64_t bytes);

/* Called with the lock held: a free block that was taken becomes the program's. */
void berth__pool_hand_out(struct berth_pool *pool, struct berth_block *block,
                          const struct berth_pool_request *request);

/*
 * The account by call site, of a block that becomes the program's (its record says all but that it
 * is), or that is freed and still the caller's; its site is known. Entering forgets the site where
 * there is no memory for its account.
 */
void berth__pool_site_enter(struct berth_block *block);
void berth__pool_site_leave_slowly(const struct berth_block *block, berth_site_id site,
                                   uint64_t requested);

static inline void berth__pool_site_leave(const struct berth_block *block)
{
    berth_site_id site = __atomic_load_n(&block->site, __ATOMIC_RELAXED);

    if (BERTH_UNLIKELY(site != 0))
        berth__pool_site_leave_slowly(block, site, block->requested);
}

/*
 * What the driver takes for an allocation of `size` bytes: asking for all of it costs nothing, and
 * what is cached is then what the driver has less. At most 1 MiB may share a piece with others.
 */
static inline uint64_t berth__pool_driver_size(uint64_t size)
{
    if (size <= BERTH_DRIVER_PIECE / 2 || size > UINT64_MAX - BERTH_DRIVER_PIECE)
        return size;
    return (size + BERTH_DRIVER_PIECE - 1) & ~(BERTH_DRIVER_PIECE - 1);
}

/* Whether a block may hold more than it needs, and nobody misses it. */
static inline bool berth__pool_may_waste(const struct berth_pool *pool)
{
    return berth__option_limits() == 0 &&
           atomic_load_explicit(&pool->promised, memory_order_relaxed) == 0;
}

/* Who frees what was had since does not fill the device: what was told is no measure any more. */
static inline void berth__pool_end_promise(struct berth_pool *pool)
{
    if (BERTH_UNLIKELY(atomic_load_explicit(&pool->promised, memory_order_relaxed) != 0))
        atomic_store_explicit(&pool->promised, 0, memory_order_relaxed);
}

/* What was promised may be promised anew at the same moment, which lasts the longer. */
static inline void berth__pool_keep_promise(struct berth_pool *pool, uint64_t bytes)
{
    uint64_t promised = atomic_load_explicit(&pool->promised, memory_order_relaxed);

    if (BERTH_UNLIKELY(promised != 0))
        atomic_compare_exchange_strong_explicit(&pool->promised, &promised,
                                                promised > bytes ? promised - bytes : 0,
                                                memory_order_relaxed, memory_order_relaxed);
}

/* Whether a request of `size` bytes gets a driver allocation of its own. */
static inline bool berth__pool_is_whole(uint64_t size)
{
    return size >= berth__option(BERTH_OPTION_IPC_MIN) &&
           berth__option(BERTH_OPTION_SEGMENTS) == BERTH_SEGMENTS_OWN;
}

/* What a block for `size` bytes holds if it was made for them. */
static inline uint64_t berth__pool_held_for(uint64_t size, bool is_whole)
{
    uint64_t rounded = berth__size_round(size);

    return is_whole ? berth__pool_driver_size(rounded) : rounded;
}

/* Whether a block holds just what it was asked for: only such ones are found by their size. */
static inline bool berth__pool_is_exact(const struct berth_block *block)
{
    return block->size == berth__pool_held_for(block->requested, block->is_whole);
}

/* Called without the lock: a block out of what came free just now, in a cache or in the pool. */
bool berth__pool_alloc_passed(struct berth_pool *pool, const struct berth_pool_request *request,
                              uint64_t size, bool is_whole, uintptr_t *ret_address);

/*
 * The live block whose requested bytes contain `address`, with its pool locked; NULL with nothing
 * locked, and the reason in *ret_error.
 */
struct berth_block *berth__pool_find_and_lock(uintptr_t address, int *ret_error);

/*
 * Called without the lock, for a block that is LEAVING in the caller's hands and shares its
 * segment: takes its mark for synchronous copies away, and has the driver forget it where no other
 * block has it. berth__pool_mark_again() undoes it, once the block is LIVE again.
 */
void berth__pool_unmark(struct berth_block *block);
void berth__pool_mark_again(uintptr_t base);

/* Whether no small block comes into the segment, where large ones have theirs alone. */
static inline bool berth__pool_is_for_large(const struct berth_segment *segment)
{
    return segment->kind == BERTH_SEGMENT_WHOLE || segment->is_joint;
}

/* Where the free blocks of a segment are. */
static inline struct berth_free_set *berth__pool_set(struct berth_pool *pool,
                                                     const struct berth_segment *segment)
{
    if (BERTH_UNLIKELY(segment->is_joint))
        return &pool->joint;
    return segment->kind == BERTH_SEGMENT_WHOLE ? &pool->whole : &pool->shared;
}

/* A block of at least `size` bytes out of the free sets, cut to size; or NULL. */
struct berth_block *berth__pool_take(struct berth_pool *pool, uint64_t size, bool is_whole);
/* A block that is nobody's any more joins the free set, with its free neighbours. */
void berth__pool_put(struct berth_pool *pool, struct berth_block *block);
/* Frees those blocks that waited when `epoch` began. */
void berth__pool_settle(struct berth_pool *pool, uint64_t epoch);
/*
 * Called without the lock: frees those that wait since a capture by a synchronisation, when no
 * capture is open. False if none waits, or the driver does not synchronise.
 */
bool berth__pool_settle_waiting(struct berth_pool *pool);

/* A segment to be: everything that can fail for want of host memory is had before the driver. */
struct berth_growth {
    struct berth_segment *segment;
    struct berth_block *block;
    uint64_t size;
    uint64_t generation; /* the pool's, when the driver was asked */
};

/* Called without the lock. -ENOBUFS without host memory, -ESTALE in a context that has ended. */
int berth__growth_prepare(struct berth_pool *pool, uint64_t size, enum berth_segment_kind kind,
                          struct berth_growth *growth);
/* Enters the segment at `base`, and leaves with the lock held if that worked. */
int berth__growth_enter(struct berth_pool *pool, struct berth_growth *growth, uintptr_t base);
void berth__growth_undo(struct berth_pool *pool, struct berth_growth *growth);

/* Called with the lock held: what the pool has of the driver. */
uint64_t berth__pool_reserved(const struct berth_pool *pool);
/* Called with the lock held: the largest sum of blocks in use, with one more of `size`. */
uint64_t berth__pool_live_max(struct berth_pool *pool, uint64_t size);
/*
 * Called without the lock, in the pool's context: a segment of `size` bytes, all free, which is the
 * joint one or one that all blocks share. An error of the driver's, -ENOSPC, -EDQUOT, or as
 * berth__growth_prepare() says; -ENOTSUP where the driver's address is of no use.
 */
int berth__pool_add_segment(struct berth_pool *pool, uint64_t size, bool is_joint);

/*
 * Called without the lock, in the pool's context: a block from a new segment. Without `is_captured`
 * the whole ladder of pool.h is tried.
 */
int berth__pool_grow(struct berth_pool *pool, const struct berth_pool_request *request,
                     uint64_t size, bool is_whole, bool is_captured, uintptr_t *ret_address);

/*
 * Called without the lock: gives back all of this pool's cache, and makes no call that breaks a
 * capture which another thread begins meanwhile.
 */
uint64_t berth__pool_release_all(struct berth_pool *pool);
/* The same with no more of it than makes `need` bytes together. */
uint64_t berth__pool_release_part(struct berth_pool *pool, uint64_t need);
/*
 * The same with the idle segments alone, and nothing of what threads keep or what waits: those that
 * all blocks share, or those for large ones.
 */
uint64_t berth__pool_release_idle(struct berth_pool *pool, bool is_for_large);
/*
 * Called without the lock, where large blocks have segments of their own, for a new one of `size`
 * bytes, or 0: gives idle segments of at least `need` bytes back if there are so many, and nothing
 * of what threads keep or what waits. First those of large blocks that are smaller, from the
 * largest on: what they serve the new one does, too. Then those in use least recently.
 */
uint64_t berth__pool_replace(struct berth_pool *pool, uint64_t size, uint64_t need);
/* Called without the lock: `size` bytes that were added to `releasing` are done. */
void berth__pool_count_released(struct berth_pool *pool, uint64_t size);

/* With the lock held: what the pool has of the driver goes with its context. */
void berth__pool_count_dropped(struct berth_pool *pool);
/*
 * Called without a lock. Memory is *kept* while its context may end: nobody gives it back, because
 * the address may be somebody else's by then. Of a context that is being destroyed from
 * berth__pool_ending_begin() on, which says so of its pools (`is_ending`), until each pool's
 * berth__pool_ending_end(); of a primary context from berth__pool_keep_begin() to
 * berth__pool_keep_end(), one of a device at a time.
 *
 * Three kinds of threads wait for each other, none of them longer than ten seconds altogether,
 * because the device may be waiting for the very thread:
 *
 *   who ends a context   for those who are giving memory of that context back (`releasing`); with a
 *                        primary one, first for turns that are at that context's memory
 *   who needs memory     and found none, until what is kept of the pools that it may give back is
 *                        kept no more, or has gone; that of other devices or tiers is no concern.
 *                        Then it has its turn: it looks once more
 *   a turn               for nobody, but for what the driver does. While what it is at is kept
 *                        by a third thread, it is not waited for itself
 */
void berth__pool_ending_begin(berth_cu_context context);
void berth__pool_ending_end(struct berth_pool *pool);
/*
 * With the lock held: whether the pool's context is being destroyed, or may be: then nothing is
 * given back.
 */
bool berth__pool_may_end(const struct berth_pool *pool);

/*
 * Gives back of the cache what helps after `error`: -ENOSPC, a tier's capacity is full, by other
 * blocks of the tier; -EDQUOT, the process's limit is reached, by any; -ENOMEM, the device is full,
 * by any on it. `need` bytes are enough for a request of `size`. Returns the bytes that came free;
 * 0 when there is nothing left to give.
 */
uint64_t berth__pool_release_for(struct berth_pool *pool, int error, uint64_t size, uint64_t need);

/* Called with the lock held: the pool's list of segments, newest first. */
void berth__pool_list_add(struct berth_pool *pool, struct berth_segment *segment);
void berth__pool_list_remove(struct berth_pool *pool, struct berth_segment *segment);

/*
 * Called with the lock held, and the threads' caches shut if the pool may have blocks in them (they
 * cannot be of a segment with one block that is leaving): takes the segment out of the page map and
 * the pool's books.
 */
void berth__pool_forget_segment(struct berth_pool *pool, struct berth_segment *segment);

/* Returns the records of a segment that is in no list; the lock is held. */
void berth__pool_delete_segment(struct berth_pool *pool, struct berth_segment *segment);

/* Called with the lock held: a BORROWED segment leaves the pool's books. */
void berth__pool_unborrow(const struct berth_segment *segment);

bool berth__pool_is_valid(struct berth_pool *pool);
/* Where all is checked (debug_expensive), at each unlock: aborts where the pool is not valid. */
void berth__pool_look(struct berth_pool *pool);

#endif
