/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block index: which block starts at an address. Every block of a segment in the page map is in
 * it, whatever its state.
 *
 * One table for the process, open-addressed, linear probing. Synchronization: the readers' function
 * takes no lock. What it finds is right, because a block's key says where it starts and a record
 * keeps its type for ever; that it finds nothing means nothing, because an entry may be on its way
 * to another slot or table: berth__block_index_find() is then the judge. Writers exclude each other
 * by the index's own lock, which ranks below the pools'. A table that became too small is emptied,
 * but stays mapped, for readers that are late.
 */
#ifndef BERTH_ALLOC_BLOCK_INDEX_H
#define BERTH_ALLOC_BLOCK_INDEX_H

#include "alloc/block.h"

struct berth_block_table {
    unsigned shift; /* a hash's bits above this are the slot */
    size_t mask;    /* slots - 1 */
    struct berth_block_table *older;
    struct berth_block *_Atomic slot[];
};

extern struct berth_block_table *_Atomic berth__block_table;

static inline size_t berth__block_slot(const struct berth_block_table *table, uintptr_t address)
{
    return (size_t)(((uint64_t)address >> BERTH_GRANULE_SHIFT) * 0x9e3779b97f4a7c15u >>
                    table->shift);
}

/* The block that starts at `address`, or NULL: none, or not seen. No lock. */
static inline struct berth_block *berth__block_index_peek(uintptr_t address)
{
    struct berth_block_table *table =
        atomic_load_explicit(&berth__block_table, memory_order_acquire);
    struct berth_block *block;

    if (!table)
        return NULL;
    for (size_t at = berth__block_slot(table, address);; at = (at + 1) & table->mask) {
        block = atomic_load_explicit(&table->slot[at], memory_order_acquire);
        if (!block || berth__block_address(block) == address)
            return block;
    }
}

/* The same by the whole truth, as long as the owner's lock is held. */
struct berth_block *berth__block_index_find(uintptr_t address);

/*
 * Promises room for one block more, or takes a promise back: one goes with each record, so that
 * entering it cannot fail. -ENOMEM.
 */
int berth__block_index_promise(void);
void berth__block_index_unpromise(void);

void berth__block_index_insert(struct berth_block *block);
void berth__block_index_remove(struct berth_block *block);

#endif
