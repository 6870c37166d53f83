/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A block: a piece of a segment, handed to the program or free, and the sets of free blocks.
 *
 * Life of a block:
 *
 *     FREE -> LIVE       handed out
 *     LIVE -> LEAVING    the program frees it; the device may still use it, nobody holds the lock
 *     LEAVING -> FREE    the device is known to be idle: ready to be handed out again
 *     LEAVING -> LIVE    the driver refused to synchronise: nothing has changed
 *     LEAVING -> WAITING freed during a stream capture: free once the context was synchronised
 *
 * Synchronization: all fields by the lock of the pool.
 */
#ifndef BERTH_ALLOC_BLOCK_H
#define BERTH_ALLOC_BLOCK_H

#include "alloc/size_class.h"
#include "alloc/types.h"

#include <stdbool.h>

struct berth_segment;

enum berth_block_state {
    BERTH_BLOCK_FREE,
    BERTH_BLOCK_LIVE,
    BERTH_BLOCK_LEAVING,
    BERTH_BLOCK_WAITING
};

enum berth_block_flag {
    BERTH_BLOCK_EXPORTED = 1,    /* an IPC handle exists: back to the driver when freed */
    BERTH_BLOCK_CAPTURED = 2,    /* allocated while a graph was captured: likewise */
    BERTH_BLOCK_SYNC_MEMOPS = 4, /* the program asked for synchronous copies: likewise, if whole */
};

struct berth_block {
    uintptr_t address;
    uint64_t size;      /* held: a multiple of the granule */
    uint64_t requested; /* 0 unless LIVE or LEAVING */
    struct berth_segment *segment;
    struct berth_block *prev, *next;  /* neighbours in the segment, by address */
    struct berth_block *left, *right; /* while FREE: the tree of its size class... */
    struct berth_block *waiting;      /* ...while WAITING: the next of the pool's list */
    uint64_t id;                      /* unique in the process: CU_POINTER_ATTRIBUTE_BUFFER_ID */
    uint64_t table_version;           /* of the table that decided; 0 = none */
    uint32_t rule;
    berth_site_id site;
    uint8_t tag;
    uint8_t state;
    uint8_t flags;
};

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
/* The smallest block of at least `size` bytes, or NULL. It stays in the set. */
struct berth_block *berth__free_set_fit(const struct berth_free_set *set, uint64_t size);
bool berth__free_set_is_valid(const struct berth_free_set *set);

#endif
