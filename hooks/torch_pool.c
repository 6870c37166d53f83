/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/torch_pool.h"

#include "alloc/block_slab.h"
#include "alloc/pool.h"
#include "alloc/size_class.h"
#include "hooks/cuda_driver_export.h"
#include "hooks/cuda_driver_tag.h"

#include <errno.h>
#include <pthread.h>

struct torch_pool;

struct torch_block {
    struct torch_block *next; /* all blocks of the pool */
    uintptr_t address;
    uint64_t size;
    berth_cu_stream stream; /* the one that frees in order */
    bool is_free;
};

struct torch_pool {
    struct torch_pool *next;
    int device;
    struct berth_torch_pool_id id;
    unsigned uses; /* begins that no release has answered */
    unsigned open; /* begins that no end has answered */
    pthread_t opened_by;
    struct torch_block *blocks;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct torch_pool *pools;
static struct berth_slab pool_slab, block_slab;
/* Lets the usual case, no private pool at all, go without the lock. */
static atomic_uint pool_count;

static bool none_exists(void)
{
    return atomic_load_explicit(&pool_count, memory_order_acquire) == 0;
}

static struct torch_pool *pool_find(int device, struct berth_torch_pool_id id)
{
    struct torch_pool *pool = pools;

    while (pool &&
           (pool->device != device || pool->id.first != id.first || pool->id.second != id.second))
        pool = pool->next;
    return pool;
}

void berth__torch_pool_begin(int device, struct berth_torch_pool_id id)
{
    struct torch_pool *pool;

    pthread_mutex_lock(&lock);
    pool = pool_find(device, id);
    if (!pool) {
        pool = berth__slab_new(&pool_slab, sizeof(*pool));
        if (pool) {
            *pool = (struct torch_pool){.next = pools, .device = device, .id = id};
            pools = pool;
            atomic_fetch_add(&pool_count, 1);
        }
    }
    if (pool) {
        pool->uses++;
        pool->open++;
        pool->opened_by = pthread_self();
    }
    pthread_mutex_unlock(&lock);
}

bool berth__torch_pool_end(int device, struct berth_torch_pool_id id)
{
    struct torch_pool *pool;
    bool was_open;

    pthread_mutex_lock(&lock);
    pool = pool_find(device, id);
    was_open = pool && pool->open > 0;
    if (was_open)
        pool->open--;
    pthread_mutex_unlock(&lock);
    return was_open;
}

/* With the lock held: takes out the free blocks of a pool that no graph needs, and the pool if it
 * is empty. */
static struct torch_block *pool_drain(struct torch_pool *pool)
{
    struct torch_block *list = NULL, **link = &pool->blocks;
    struct torch_pool **at = &pools;

    while (*link) {
        struct torch_block *block = *link;

        if (!block->is_free) {
            link = &block->next;
            continue;
        }
        *link = block->next;
        block->next = list;
        list = block;
    }
    if (pool->blocks)
        return list;
    while (*at != pool)
        at = &(*at)->next;
    *at = pool->next;
    berth__slab_delete(&pool_slab, pool);
    atomic_fetch_sub(&pool_count, 1);
    return list;
}

static void free_all(struct torch_block *list)
{
    while (list) {
        struct torch_block *next = list->next;

        berth__hook_cuMemFree_v2(list->address);
        pthread_mutex_lock(&lock);
        berth__slab_delete(&block_slab, list);
        pthread_mutex_unlock(&lock);
        list = next;
    }
}

void berth__torch_pool_release(int device, struct berth_torch_pool_id id)
{
    struct torch_block *list = NULL;
    struct torch_pool *pool;

    pthread_mutex_lock(&lock);
    pool = pool_find(device, id);
    if (pool && pool->uses > 0 && --pool->uses == 0)
        list = pool_drain(pool);
    pthread_mutex_unlock(&lock);
    free_all(list);
}

static bool is_captured(berth_cu_stream stream)
{
    int status = 0;

    return berth__driver.cuStreamIsCapturing &&
           berth__driver.cuStreamIsCapturing(stream, &status) == BERTH_CU_SUCCESS && status != 0;
}

/* With the lock held: the open pool for the caller. */
static struct torch_pool *pool_open(int device, bool is_captured_stream)
{
    struct torch_pool *pool = pools;

    while (pool && (pool->device != device || pool->open == 0 ||
                    (!is_captured_stream && !pthread_equal(pool->opened_by, pthread_self()))))
        pool = pool->next;
    return pool;
}

/* With the lock held: the smallest free block that fits, of the same stream, at most twice as
 * large.
 */
static struct torch_block *pool_take(struct torch_pool *pool, uint64_t size, berth_cu_stream stream)
{
    struct torch_block *best = NULL;

    for (struct torch_block *block = pool->blocks; block; block = block->next)
        if (block->is_free && block->stream == stream && block->size >= size &&
            block->size / 2 <= size && (!best || block->size < best->size))
            best = block;
    if (best)
        best->is_free = false;
    return best;
}

/* Memory for the pool, which the capture is not to see. */
static int ask(size_t size, const void *return_address, uintptr_t *ret_address)
{
    struct berth_device_mode mode = berth__device_relax();
    int r = berth__cuda_alloc(size, return_address, ret_address);

    if (r == BERTH_POOL_FORWARD)
        r = berth__device_alloc(size, ret_address);
    berth__device_restore(mode);
    return r;
}

int berth__torch_pool_alloc(size_t size, int device, berth_cu_stream stream,
                            const void *return_address, uintptr_t *ret_address)
{
    uint64_t rounded = berth__size_round(size);
    struct torch_block *block, *fresh = NULL;
    struct torch_pool *pool;
    int r;

    if (none_exists() || rounded == 0)
        return -ENOENT;
    r = is_captured(stream);
    pthread_mutex_lock(&lock);
    pool = pool_open(device, r);
    block = pool ? pool_take(pool, rounded, stream) : NULL;
    if (pool && !block)
        fresh = berth__slab_new(&block_slab, sizeof(*fresh));
    pthread_mutex_unlock(&lock);
    if (block) {
        *ret_address = block->address;
        return 0;
    }
    if (!fresh)
        return pool ? -ENOMEM : -ENOENT;
    r = ask(rounded, return_address, ret_address);
    pthread_mutex_lock(&lock);
    if (r == 0) {
        /* A pool that is open is not deleted: its begin is not released. */
        *fresh = (struct torch_block){pool->blocks, *ret_address, rounded, stream, false};
        pool->blocks = fresh;
    } else {
        berth__slab_delete(&block_slab, fresh);
    }
    pthread_mutex_unlock(&lock);
    return r;
}

bool berth__torch_pool_free(uintptr_t address)
{
    struct torch_block *list = NULL, *block = NULL;
    struct torch_pool *pool;

    if (none_exists())
        return false;
    pthread_mutex_lock(&lock);
    for (pool = pools; pool && !block; pool = block ? pool : pool->next) {
        block = pool->blocks;
        while (block && (block->address != address || block->is_free))
            block = block->next;
    }
    if (block)
        block->is_free = true;
    if (block && pool->uses == 0)
        list = pool_drain(pool);
    pthread_mutex_unlock(&lock);
    free_all(list);
    return block != NULL;
}
