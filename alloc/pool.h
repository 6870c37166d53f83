/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device pool: cached blocks of device memory, one pool per tier of kind device or shared and
 * CUDA context, and one more where a plan is followed (alloc/pool_plan.h). In front of it each
 * thread has a cache of its own (alloc/cache.h). Stream-ordered memory: alloc/pool_stream.h.
 *
 * With the option segments = own, a block below the option ipc-min shares a segment with others; a
 * larger one has a driver allocation of its own, in multiples of the 2 MiB that the driver takes
 * anyway, which is cached whole and reused for requests that need less, within bounds
 * (alloc/pool_own.h). With
 * segments = shared, blocks of all sizes share segments, until large ones are better off alone
 * (alloc/pool_alone.h); with expandable, they share one range of addresses (alloc/pool_expand.h).
 * Those have no IPC handle of their own. Memory is asked of the
 * driver in this order: the cache; the driver; and when the driver has no more, as much as is
 * needed of what is cached on the device is given back, or of what is cached in the tier when its
 * capacity is full, and the driver is asked again, until nothing is cached. Its answer is then the
 * program's.
 *
 * A freed block is ready for reuse once its context was synchronised, as cuMemFree does; with the
 * option free = lazy, once the work queued before has passed (alloc/pool_lazy.h). No lock is held
 * over a call of the driver.
 *
 * The account: tier stats' reserved = held of live blocks + cached + overhead, where overhead is
 * the blocks that were freed and wait, lazily or since a stream capture, and segments on their way
 * to the driver.
 *
 * All functions may be called from any thread. Errors are negative errno, the driver's own codes
 * as berth__device_error() makes them.
 */
#ifndef BERTH_ALLOC_POOL_H
#define BERTH_ALLOC_POOL_H

#include "alloc/device.h"

/* The pool has no answer: the call is the driver's, with the program's own arguments. */
#define BERTH_POOL_FORWARD 1

struct berth_segment;

struct berth_pool_request {
    berth_tier_id tier; /* of kind device, or shared */
    uint64_t size;      /* bytes, as the program asked */
    enum berth_tag tag;
    enum berth_tag_source tagged_by;
    berth_site_id site;
    uint64_t table_version; /* 0 when no table decided */
    uint32_t rule;
    enum berth_tag noted; /* what the program said, where that is not heeded */
    const void *follow;   /* the caller of a block that the classifier is to follow, else NULL */
};

/*
 * A block in the calling thread's context, aligned to 512 bytes. 0; BERTH_POOL_FORWARD when the
 * driver is to be asked (size 0, no context, no host memory for the records, a forked child); or
 * the driver's error. *ret_address is unchanged unless 0 is returned.
 */
int berth__pool_alloc(const struct berth_pool_request *request, uintptr_t *ret_address);

/*
 * The same in a tier of kind shared: from memory that was lent (pool_borrow.h), never from the
 * driver. -ENOMEM where there is none, or none for this context, or while a stream is captured.
 */
int berth__pool_borrow(const struct berth_pool_request *request, uintptr_t *ret_address);

/*
 * Frees a block by its address, after its context was synchronised. -EINVAL for an address inside a
 * block and for one that is free already; BERTH_POOL_FORWARD for an address that no pool knows; or
 * the driver's error. Nothing is changed unless 0 is returned.
 */
int berth__pool_free(uintptr_t address);

typedef berth_cu_result (*berth_free_async_function)(berth_cu_address address,
                                                     berth_cu_stream stream);

/*
 * The same, by the block's first address, for a caller who is owed no synchronisation: the block
 * waits for the work that was queued in its context before, where that can be known. Where it
 * cannot, or too much waits already, one with a driver allocation of its own goes back by
 * `function` in the order of `stream`, as that need wait for nobody; NULL: it does not.
 */
int berth__pool_free_later(uintptr_t address, berth_free_async_function function,
                           berth_cu_stream stream);

/*
 * Frees a block, by its first address, in the order of a stream that is not captured, while another
 * one may be. A block with a driver allocation of its own goes back by `function`; another one,
 * where the stream is of its context or the caller has synchronised it, is ready for reuse after
 * what the context was given until then. As above.
 */
int berth__pool_free_in_order(uintptr_t address, berth_free_async_function function,
                              berth_cu_stream stream);

/* A live block as queries see it. */
struct berth_block_view {
    berth_tier_id tier;
    uintptr_t base;
    uint64_t requested, held;
    uint64_t id;              /* a new one for each allocation */
    berth_cu_context context; /* NULL for stream-ordered memory */
    uint64_t page_size;       /* of a block in a range (alloc/range.h), else 0 */
    bool is_whole;            /* has a driver allocation of its own */
    bool is_borrowed;         /* lies in memory of somebody else's */
    bool is_sync_memops;      /* see berth__pool_set_sync_memops() */
    bool is_stream_ordered;
    enum berth_tag tag;
    enum berth_tag_source tagged_by;
    berth_site_id site;
    uint64_t table_version;
    uint32_t rule;
    uint64_t age_ns;       /* of a block whose site is known, else 0 */
    uint32_t class_number; /* the classifier's; 0: it does not follow it */
};

/*
 * The live block whose requested bytes contain `address`. -ENOENT when no pool knows the address;
 * -EFAULT when it is the pool's, but in no live block: to the program it is not memory.
 */
int berth__pool_find(uintptr_t address, struct berth_block_view *ret);

/* Says that the block at `base` has an IPC handle: it then never enters the cache again. */
void berth__pool_set_exported(uintptr_t base);

/*
 * Sets or clears the block's own mark for synchronous copies. True when the driver is to be told:
 * always for a set; for a clear, once no block of the segment has the mark.
 */
bool berth__pool_set_sync_memops(uintptr_t base, bool value);

/* Bytes that are ready for reuse on a device, all contexts; what is borrowed is not among them. */
uint64_t berth__pool_cached(int device);

/*
 * Gives what is cached on the device, or on all of them, back to the driver; or only what a tier
 * has cached, on any device. Returns the bytes that came free, those which other threads gave back
 * at the same time included: a thread that finds nothing waits for those that are at it. May block
 * until devices are idle. Works while a stream is captured too.
 */
#define BERTH_POOL_ALL_DEVICES (-1)
uint64_t berth__pool_release_cached(int device);
uint64_t berth__pool_release_tier(berth_tier_id tier);
/*
 * Gives back at least `need` bytes if so many are cached; waits for nobody. Returns the bytes.
 */
uint64_t berth__pool_release_some(int device, uint64_t need);
/* The same of what can be had soon: BERTH_PATIENCE_SHORT, where there may be other memory. */
uint64_t berth__pool_release_soon(int device, uint64_t need);

/*
 * The peers of the context (alloc/peer.h) have changed: lets those that came use its memory, and
 * those that went no more. 0, or the driver's error, after which some memory may be open to them.
 */
int berth__pool_open_to_peers(berth_cu_context context);

/* The context was destroyed, and its memory with it: forgets it without calling the driver. */
void berth__pool_drop(berth_cu_context context);
/*
 * The same around the call that destroys it, and says whether it did. In between nobody is served
 * from the context's pools and none is giving memory back: a new context of another thread may have
 * the same handle, and the same addresses, before the call has returned. May wait for the driver.
 */
void berth__pool_drop_begin(berth_cu_context context);
void berth__pool_drop_end(berth_cu_context context, bool is_destroyed);

/*
 * Around a call that may or may not destroy a context, which others use until then: in between an
 * address that the driver gives out again is no sign of a free that went past Berth.
 */
void berth__pool_doubt_begin(void);
void berth__pool_doubt_end(void);
/*
 * Around the same call, and what forgets the context (NULL: none) if it is gone: in between nobody
 * gives memory of its pools to the driver, whose addresses may be another's by then. Waits for
 * those who do, and for those who needed memory of it while it was kept the last time; ten seconds
 * altogether, at most. Of one context of a device at a time, whose primary one it is: between
 * berth__device_primary_hold(device, true) and its end. See berth__pool_ending_begin().
 */
void berth__pool_keep_begin(berth_cu_context context, int device);
void berth__pool_keep_end(int device);

/*
 * The driver gave out [base, base + size), which `segment`, of whatever kind, still claims in the
 * page map: forgets it. Called without a lock.
 */
void berth__pool_forget_stale(struct berth_segment *segment, uintptr_t base, uint64_t size);
/* The same for memory that gets no record: whatever claims its first address. */
void berth__pool_forget_at(uintptr_t base, uint64_t size);

/* In a forked child: the parent's context is not the child's, so everything is forwarded. */
void berth__pool_disable(void);
/* Whether it was said: other threads' locks may then be held for ever. */
bool berth__pool_is_off(void);
/* Whether a pool exists: CUDA memory was allocated in this process. */
bool berth__pool_in_use(void);

/*
 * Free and total bytes of the devices on which there are pools, as the driver sees them. False
 * where it does not say. Asks the driver: for the control thread.
 */
bool berth__pool_room(uint64_t *ret_free, uint64_t *ret_total);

/* What the pools hold, counted by walking them; for tests. */
struct berth_pool_audit {
    uint64_t reserved, held, cached, waiting;
    uint64_t kept; /* what the driver did not take back, and cannot be used as it is */
    uint64_t segments, live_blocks;
};
void berth__pool_audit(struct berth_pool_audit *ret);
/* Whether all pools are consistent; slow. Takes their locks. */
bool berth__pools_are_valid(void);

#endif
