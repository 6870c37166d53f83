/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/classifier_parts.h"

#include <sys/mman.h>

/* A number is a record's index plus one; the list of free ones counts its changes above it, so that
 * a head that was taken and given back meanwhile is no longer what was read. */
#define NUMBER_MASK ((uint64_t)UINT32_MAX)
#define HEAD_CHANGE ((uint64_t)1 << 32)

struct berth_class_block *berth__class_block(struct berth_classifier *classifier, uint32_t number)
{
    uint32_t index = number - 1;
    struct berth_class_block *chunk;

    if (index >= BERTH_CLASS_BLOCKS)
        return NULL;
    chunk =
        atomic_load_explicit(&classifier->chunks[index / BERTH_CLASS_CHUNK], memory_order_acquire);
    return chunk ? &chunk[index % BERTH_CLASS_CHUNK] : NULL;
}

/* A number from one of the two lists; 0: it is empty. */
static uint32_t take_from(struct berth_classifier *classifier, _Atomic uint64_t *list)
{
    uint64_t head = atomic_load_explicit(list, memory_order_acquire);
    uint64_t next;

    do {
        struct berth_class_block *block =
            berth__class_block(classifier, (uint32_t)(head & NUMBER_MASK));

        if (!block)
            return 0;
        next = ((head & ~NUMBER_MASK) + HEAD_CHANGE) |
               atomic_load_explicit(&block->next_free, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(list, &head, next, memory_order_acq_rel,
                                                    memory_order_acquire));
    return (uint32_t)(head & NUMBER_MASK);
}

/* Makes the chunk if there is none; false: there is no memory. */
static bool chunk_make(struct berth_classifier *classifier, uint32_t index)
{
    _Atomic(struct berth_class_block *) *at = &classifier->chunks[index / BERTH_CLASS_CHUNK];
    size_t size = BERTH_CLASS_CHUNK * sizeof(struct berth_class_block);
    struct berth_class_block *none = NULL;
    void *chunk;

    if (atomic_load_explicit(at, memory_order_acquire))
        return true;
    chunk = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
    if (chunk == MAP_FAILED)
        return false;
    if (!atomic_compare_exchange_strong_explicit(at, &none, chunk, memory_order_acq_rel,
                                                 memory_order_acquire))
        munmap(chunk, size);
    return true;
}

uint32_t berth__class_block_take(struct berth_classifier *classifier)
{
    uint32_t number = take_from(classifier, &classifier->free_head);
    uint32_t index = atomic_load_explicit(&classifier->block_count, memory_order_relaxed);

    if (number)
        return number;
    do {
        if (index >= BERTH_CLASS_BLOCKS || !chunk_make(classifier, index))
            return 0;
    } while (!atomic_compare_exchange_weak_explicit(&classifier->block_count, &index, index + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return index + 1;
}

void berth__class_block_give(struct berth_classifier *classifier, uint32_t number, bool is_held)
{
    struct berth_class_block *block = berth__class_block(classifier, number);
    _Atomic uint64_t *list = is_held ? &classifier->held_head : &classifier->free_head;
    uint64_t head = atomic_load_explicit(list, memory_order_relaxed);
    uint64_t next;

    do {
        atomic_store_explicit(&block->next_free, (uint32_t)(head & NUMBER_MASK),
                              memory_order_relaxed);
        next = ((head & ~NUMBER_MASK) + HEAD_CHANGE) | number;
    } while (!atomic_compare_exchange_weak_explicit(list, &head, next, memory_order_acq_rel,
                                                    memory_order_relaxed));
}

/* One by one: a child that is forked in between loses one number, and not all of them. */
void berth__class_block_give_held(struct berth_classifier *classifier)
{
    uint32_t number;

    while ((number = take_from(classifier, &classifier->held_head)) != 0)
        berth__class_block_give(classifier, number, false);
}
