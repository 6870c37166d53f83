/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block: a piece of a segment, handed to the program or free, and the sets of free blocks.
 *
 * Life of a block:
 *
 *     FREE -> LIVE        handed out
 *     LIVE -> LEAVING     the program frees it; the device may still use it, nobody holds the lock
 *     LEAVING -> FREE     the device is known to be idle: ready to be handed out again
 *     LEAVING -> LIVE     the driver refused to synchronise: nothing has changed
 *     LEAVING -> WAITING  freed during a stream capture: free once the context was synchronised
 *     LEAVING -> CACHED   the same, but kept in a thread's cache; from there LIVE or FREE
 *     LEAVING -> ORPHAN   its context was destroyed meanwhile: whoever frees it returns the record
 *     FREE -> MOVING -> HOLE and back: in a range, the addresses stay, their memory goes or comes;
 *                         while MOVING it belongs to the thread that calls the driver for it
 *
 * Synchronization: `key` holds the address and the state in one word. A free takes the block from
 * LIVE to LEAVING by one compare-and-swap, without a lock; from then on the fields are its own. A
 * block comes and goes as CACHED under the lock of the cache (alloc/cache.h). All other changes, of
 * the state, the neighbours, the sets, are made under the lock of the pool. What describes a live
 * block is written before the key says so; who reads it without owning the block looks at the key
 * and the id before and after. A record keeps its type, and its pool,
 * for ever: a late reader of any pointer to it reads a record, and learns from the key which one.
 */
#ifndef BERTH_ALLOC_BLOCK_H
#define BERTH_ALLOC_BLOCK_H

#include "alloc/block_slab.h"
#include "alloc/size_class.h"
#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

struct berth_pool;
struct berth_segment;

/* In the low bits of the key, which an address leaves free. */
enum berth_block_state {
    BERTH_BLOCK_FREE,
    BERTH_BLOCK_LIVE,
    BERTH_BLOCK_LEAVING,
    BERTH_BLOCK_WAITING,
    BERTH_BLOCK_ORPHAN,
    BERTH_BLOCK_CACHED,
    BERTH_BLOCK_HOLE,
    BERTH_BLOCK_MOVING
};

enum berth_block_flag {
    BERTH_BLOCK_EXPORTED = 1,    /* an IPC handle exists: back to the driver when freed */
    BERTH_BLOCK_CAPTURED = 2,    /* allocated beside a capture, or just after one: likewise */
    BERTH_BLOCK_SYNC_MEMOPS = 4, /* the program asked for synchronous copies: likewise, if whole */
};

/* Of a block that waits since it was freed in the order of a stream; no id has this bit. */
#define BERTH_BLOCK_ID_IN_ORDER (UINT64_C(1) << 63)

struct berth_block {
    struct berth_block *prev, *next; /* neighbours in the segment, by address */
    _Atomic uintptr_t key;           /* address | state; 0 in a record that is no block */
    uint64_t size;                   /* held: a multiple of the granule */
    uint64_t requested;              /* as the program asked, while LIVE or LEAVING */
    struct berth_pool *pool;         /* whose record this is, for ever */
    struct berth_segment *segment;
    /*
     * Unique in the process: CU_POINTER_ATTRIBUTE_BUFFER_ID. WAITING without a batch: the epoch.
     */
    uint64_t id;
    union {
        struct { /* FREE: the tree of its size class; HOLE: the pool's list, previous and next */
            struct berth_block *left, *right;
        };
        struct berth_block *waiting; /* WAITING: the next of the pool's list */
        struct berth_block *link;    /* CACHED: the next in its bin */
        struct {                     /* LIVE */
            uint64_t table_version;  /* of the table that decided; 0 = none */
            uint32_t rule;
            berth_site_id site;
        };
    };
    uint8_t tag;
    uint8_t tagged_by; /* enum berth_tag_source */
    bool is_whole;     /* in a segment of kind WHOLE */
    atomic_uchar flags;
    uint16_t rounding; /* granules and marks; 0 unless in use; see alloc/pool_alone.h */
    uint32_t birth;    /* of a block whose site is known: berth__birth_short() */
    _Atomic uint32_t
        class_number; /* of a LIVE one that the classifier follows; alloc/pool_class.h */
};

#define BERTH_BLOCK_STATE_MASK ((uintptr_t)BERTH_GRANULE - 1)

/* Rises from each block that was handed out to the next: the id without the mark. */
static inline uint64_t berth__block_time(const struct berth_block *block)
{
    return block->id & ~BERTH_BLOCK_ID_IN_ORDER;
}

static inline uintptr_t berth__block_address(const struct berth_block *block)
{
    return atomic_load_explicit(&block->key, memory_order_acquire) & ~BERTH_BLOCK_STATE_MASK;
}

static inline enum berth_block_state berth__block_state(const struct berth_block *block)
{
    return (enum berth_block_state)(atomic_load_explicit(&block->key, memory_order_acquire) &
                                    BERTH_BLOCK_STATE_MASK);
}

/* For those to whom the block belongs: see above. */
static inline void berth__block_set(struct berth_block *block, uintptr_t address,
                                    enum berth_block_state state)
{
    atomic_store_explicit(&block->key, address | state, memory_order_release);
}

static inline void berth__block_set_state(struct berth_block *block, enum berth_block_state state)
{
    berth__block_set(block, berth__block_address(block), state);
}

/* Takes the block that starts at `address` from one state to another if it is in the first. */
static inline bool berth__block_move(struct berth_block *block, uintptr_t address,
                                     enum berth_block_state from, enum berth_block_state to)
{
    uintptr_t key = address | from;

    return atomic_compare_exchange_strong_explicit(&block->key, &key, address | to,
                                                   memory_order_acq_rel, memory_order_acquire);
}

/* The first of `count` numbers that no block had; far above the driver's own. */
uint64_t berth__block_ids(uint64_t count);

/* A record of the pool's, with room in the index, or NULL without memory; the lock is held. */
struct berth_block *berth__block_new(struct berth_slab *slab, struct berth_pool *pool);
/* The same, beside others of the run's user, if there is any. */
struct berth_block *berth__block_new_near(struct berth_slab *slab, struct berth_pool *pool,
                                          struct berth_slab_run *run);
/* Returns a record that is in no index, or whose key says that it is nobody's any more. */
void berth__block_delete(struct berth_slab *slab, struct berth_block *block);

/*
 * Free blocks by size class, in each class a treap ordered by (size, address) whose priorities are
 * a hash of the address: best fit, and of equal fits the lowest address.
 */
struct berth_free_set {
    uint64_t filled[(BERTH_SIZE_CLASS_COUNT + 63) / 64]; /* derived: classes that are not empty */
    struct berth_block *root[BERTH_SIZE_CLASS_COUNT];
};

void berth__free_set_insert(struct berth_free_set *set, struct berth_block *block);
void berth__free_set_remove(struct berth_free_set *set, struct berth_block *block);
/* The largest block, and the next one before `block` in the order of the set, or NULL. */
struct berth_block *berth__free_set_last(const struct berth_free_set *set);
struct berth_block *berth__free_set_before(const struct berth_free_set *set,
                                           const struct berth_block *block);
/* The largest block of less than `size` bytes, or NULL. It stays in the set. */
struct berth_block *berth__free_set_below(const struct berth_free_set *set, uint64_t size);
/* The smallest block of at least `size` bytes, or NULL. It stays in the set. */
struct berth_block *berth__free_set_fit(const struct berth_free_set *set, uint64_t size);
bool berth__free_set_is_valid(const struct berth_free_set *set);

#endif
