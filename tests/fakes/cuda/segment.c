/* SPDX-License-Identifier: Apache-2.0 */
#include "segment.h"

#include "device.h"
#include "window.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A large new block is poisoned at both ends only: filling all of it would
 * make memory real that the program may never touch. */
#define POISON_EDGE (4ULL << 10)

static uint64_t next_serial = 1;

static void block_poison(uint64_t base, uint64_t size)
{
    if (size <= 2 * POISON_EDGE || size <= SEGMENT_SMALL_MAX) {
        memset((void *)base, SEGMENT_POISON, size);
        return;
    }
    memset((void *)base, SEGMENT_POISON, POISON_EDGE);
    memset((void *)(base + size - POISON_EDGE), SEGMENT_POISON, POISON_EDGE);
}

static CUresult segment_new(struct segment_list *list, uint64_t size, struct segment **ret_segment)
{
    struct segment *segment = calloc(1, sizeof(*segment));
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;

    if (!segment)
        return result;
    segment->device = list->device;
    segment->size = size;
    if (device_take(list->device, size) != CUDA_SUCCESS)
        goto err_segment;
    segment->base = window_reserve(size, WINDOW_GRANULE, 0, WINDOW_OWN);
    if (!segment->base)
        goto err_take;
    if (window_fill(segment->base, size) < 0)
        goto err_window;
    segment->search_from = segment->base;
    segment->serial = next_serial++;
    window_set_serial(segment->base, segment->serial);
    segment->next = list->head;
    list->head = segment;
    list->total += size;
    *ret_segment = segment;
    return CUDA_SUCCESS;
err_window:
    window_release(segment->base);
err_take:
    device_give(list->device, size);
err_segment:
    free(segment);
    return result;
}

static void segment_delete(struct segment_list *list, struct segment *segment)
{
    struct segment **link = &list->head;

    while (*link != segment)
        link = &(*link)->next;
    *link = segment->next;
    list->total -= segment->size;
    window_set_serial(segment->base, 0);
    window_empty(segment->base, segment->size);
    window_release(segment->base);
    device_give(segment->device, segment->size);
    range_clear(&segment->blocks);
    free(segment);
}

static uint64_t segment_find_place(struct segment *segment, uint64_t size)
{
    if (segment->size - segment->used < size)
        return 0;
    return range_find_gap(&segment->blocks, segment->search_from, segment->base + segment->size,
                          size, SEGMENT_ALIGNMENT);
}

CUresult segment_alloc(struct segment_list *list, uint64_t size, uint64_t segment_min,
                       uint64_t *ret_base, struct segment **ret_segment)
{
    uint64_t held = (size + SEGMENT_ALIGNMENT - 1) & ~(SEGMENT_ALIGNMENT - 1);
    bool share = size <= SEGMENT_SMALL_MAX || segment_min;
    struct segment *segment = NULL;
    uint64_t base = 0;
    CUresult result;

    if (size == 0 || held < size || window_round(held) < held)
        return CUDA_ERROR_OUT_OF_MEMORY;
    for (struct segment *s = share ? list->head : NULL; s && !base; s = s->next)
        if (s->is_shared) {
            base = segment_find_place(s, held);
            segment = s;
        }
    if (!base) {
        uint64_t wanted = window_round(held);

        result = CUDA_ERROR_OUT_OF_MEMORY;
        if (wanted < segment_min)
            result = segment_new(list, segment_min, &segment);
        if (result != CUDA_SUCCESS)
            result = segment_new(list, wanted, &segment);
        if (result != CUDA_SUCCESS)
            return result;
        segment->is_shared = share;
        base = segment->base;
    }
    if (range_add(&segment->blocks, base, held, NULL) < 0) {
        if (segment->blocks.count == 0)
            segment_delete(list, segment);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    segment->used += held;
    if (base == segment->search_from)
        segment->search_from += held;
    block_poison(base, size);
    *ret_base = base;
    *ret_segment = segment;
    return CUDA_SUCCESS;
}

void segment_free(struct segment_list *list, struct segment *segment, uint64_t base, bool keep)
{
    const struct range *block = range_find(&segment->blocks, base);
    uint64_t size = block->end - block->start;

    range_remove(&segment->blocks, base);
    segment->used -= size;
    if (base < segment->search_from)
        segment->search_from = base;
    if (segment->blocks.count == 0 && !keep)
        segment_delete(list, segment);
    else
        block_poison(base, size);
}

int segment_cut(struct segment *segment, uint64_t base, uint64_t size)
{
    uint64_t end = range_find(&segment->blocks, base)->end;

    range_remove(&segment->blocks, base);
    /* What was removed has left room for one. */
    range_add(&segment->blocks, base, size, NULL);
    if (range_add(&segment->blocks, base + size, end - base - size, NULL) == 0)
        return 0;
    range_remove(&segment->blocks, base);
    range_add(&segment->blocks, base, end - base, NULL);
    return -ENOMEM;
}

void segment_free_all(struct segment_list *list)
{
    while (list->head)
        segment_delete(list, list->head);
}

void segment_trim(struct segment_list *list, uint64_t keep_bytes)
{
    struct segment *segment = list->head, *next;

    for (; segment && list->total > keep_bytes; segment = next) {
        next = segment->next;
        if (segment->blocks.count == 0)
            segment_delete(list, segment);
    }
}
