/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/block_index.h"

#include "alloc/block_slab.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#define SLOTS_SHIFT_MIN 9

/* Read at each free; what is behind it is written with each record. */
_Alignas(64) struct berth_block_table *_Atomic berth__block_table;

/* Synchronization of writers; in one piece, which no linker puts beside what is read. */
static struct {
    _Alignas(64) pthread_mutex_t lock;
    size_t promised; /* never more than three quarters of the slots. Synchronization: `lock` */
} writers = {.lock = PTHREAD_MUTEX_INITIALIZER};

static struct berth_block *slot_load(struct berth_block_table *table, size_t at)
{
    return atomic_load_explicit(&table->slot[at], memory_order_relaxed);
}

static void slot_store(struct berth_block_table *table, size_t at, struct berth_block *block)
{
    atomic_store_explicit(&table->slot[at], block, memory_order_release);
}

static struct berth_block_table *table_current(void)
{
    return atomic_load_explicit(&berth__block_table, memory_order_relaxed);
}

static void table_insert(struct berth_block_table *table, struct berth_block *block)
{
    size_t at = berth__block_slot(table, berth__block_address(block));

    while (slot_load(table, at))
        at = (at + 1) & table->mask;
    slot_store(table, at, block);
}

/* Nobody looks for anything in `table` that was entered after the newer one was published. */
static void table_empty(struct berth_block_table *table)
{
    const size_t page = 4096;
    uintptr_t end = (uintptr_t)&table->slot[table->mask + 1];
    uintptr_t from = ((uintptr_t)table + page) & ~(page - 1);

    /* The first OS page keeps the shift and the mask, which late readers follow. */
    if (end > from)
        madvise((void *)from, end - from, MADV_DONTNEED);
}

static int table_grow(void)
{
    struct berth_block_table *old = table_current();
    unsigned bits = old ? 64 - old->shift + 1 : SLOTS_SHIFT_MIN;
    size_t slots = (size_t)1 << bits;
    struct berth_block_table *table =
        berth__slab_map(sizeof(*table) + slots * sizeof(table->slot[0]));

    if (!table)
        return -ENOMEM;
    table->shift = 64 - bits;
    table->mask = slots - 1;
    table->older = old;
    for (size_t at = 0; old && at <= old->mask; at++)
        if (slot_load(old, at))
            table_insert(table, slot_load(old, at));
    atomic_store_explicit(&berth__block_table, table, memory_order_release);
    if (old)
        table_empty(old);
    return 0;
}

int berth__block_index_promise(void)
{
    const struct berth_block_table *table;
    int r = 0;

    pthread_mutex_lock(&writers.lock);
    table = table_current();
    if (!table || writers.promised + 1 > (table->mask + 1) / 4 * 3)
        r = table_grow();
    if (r == 0)
        writers.promised++;
    pthread_mutex_unlock(&writers.lock);
    return r;
}

void berth__block_index_unpromise(void)
{
    pthread_mutex_lock(&writers.lock);
    writers.promised--;
    pthread_mutex_unlock(&writers.lock);
}

struct berth_block *berth__block_index_find(uintptr_t address)
{
    struct berth_block *block;

    pthread_mutex_lock(&writers.lock);
    block = berth__block_index_peek(address);
    pthread_mutex_unlock(&writers.lock);
    return block;
}

void berth__block_index_insert(struct berth_block *block)
{
    pthread_mutex_lock(&writers.lock);
    table_insert(table_current(), block);
    pthread_mutex_unlock(&writers.lock);
}

/* Whether the entry at `at`, whose place is `home`, may move back to the hole. */
static bool may_fill(size_t hole, size_t at, size_t home, size_t mask)
{
    return ((at - home) & mask) >= ((at - hole) & mask);
}

void berth__block_index_remove(struct berth_block *block)
{
    struct berth_block_table *table;
    size_t hole, at;

    pthread_mutex_lock(&writers.lock);
    table = table_current();
    hole = berth__block_slot(table, berth__block_address(block));
    while (slot_load(table, hole) != block)
        hole = (hole + 1) & table->mask;
    /* What was entered behind it for want of its slot moves up, so that no search ends too soon. */
    for (at = (hole + 1) & table->mask; slot_load(table, at); at = (at + 1) & table->mask) {
        struct berth_block *other = slot_load(table, at);

        if (!may_fill(hole, at, berth__block_slot(table, berth__block_address(other)), table->mask))
            continue;
        slot_store(table, hole, other);
        hole = at;
    }
    slot_store(table, hole, NULL);
    pthread_mutex_unlock(&writers.lock);
}
