/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Synchronous copies (CU_POINTER_ATTRIBUTE_SYNC_MEMOPS) are a property of the driver's allocation:
 * of a segment, or in a range of each page. It is set as long as any block in it has the mark: then
 * copies of the others wait, too, which is slower, and for a program that counts on their not
 * waiting may be for ever.
 */
#include "alloc/device_context.h"
#include "alloc/pool_parts.h"
#include "alloc/range.h"

#define ATTRIBUTE_SYNC_MEMOPS 6 /* CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, cuda.h */

static bool has_mark(const struct berth_block *block)
{
    return (atomic_load_explicit(&block->flags, memory_order_relaxed) & BERTH_BLOCK_SYNC_MEMOPS) !=
           0;
}

bool berth__pool_set_sync_memops(uintptr_t base, bool value)
{
    int r;
    struct berth_block *block = berth__pool_find_and_lock(base, &r);
    struct berth_segment *segment;
    bool had, tell;

    if (!block)
        return true;
    segment = block->segment;
    had = has_mark(block);
    if (value && !had) {
        atomic_fetch_or_explicit(&block->flags, BERTH_BLOCK_SYNC_MEMOPS, memory_order_relaxed);
        segment->sync_memops_blocks++;
    } else if (!value && had) {
        atomic_fetch_and_explicit(&block->flags, (uint8_t)~BERTH_BLOCK_SYNC_MEMOPS,
                                  memory_order_relaxed);
        segment->sync_memops_blocks--;
    }
    tell = value || segment->sync_memops_blocks == 0;
    berth__pool_unlock(block->pool);
    return tell;
}

/* What the driver marks at once: all of a segment, or the pages of a range from `start` to `end`.
 */
struct span {
    uintptr_t start, end;
    uint64_t step;
};

static struct span span_of(const struct berth_block *block)
{
    const struct berth_range *range = block->segment->range;
    uintptr_t base = berth__block_address(block);
    uint64_t page = range ? berth__range_page_size(range) : 0;

    if (!range)
        return (struct span){.start = base, .end = base + 1, .step = 1};
    return (struct span){.start = base & ~(uintptr_t)(page - 1),
                         .end = (base + block->size + page - 1) & ~(uintptr_t)(page - 1),
                         .step = page};
}

/* With the lock held: leaves out of the span what a marked neighbour has a part of. */
static void leave_out_marked(const struct berth_block *block, struct span *span)
{
    for (const struct berth_block *other = block->prev;
         other && berth__block_address(other) + other->size > span->start; other = other->prev) {
        if (has_mark(other)) {
            span->start += span->step;
            break;
        }
    }
    for (const struct berth_block *other = block->next;
         other && berth__block_address(other) < span->end; other = other->next) {
        if (has_mark(other)) {
            span->end -= span->step;
            break;
        }
    }
}

/* With the lock held: where nobody has the mark, of what the block lies in. */
static struct span unmarked_span(const struct berth_block *block)
{
    struct span span = span_of(block);

    if (block->segment->range)
        leave_out_marked(block, &span);
    else if (block->segment->sync_memops_blocks > 0)
        span.end = span.start;
    return span;
}

static void tell(const struct berth_pool *pool, const struct span *span, unsigned value)
{
    bool pushed = false;

    if (span->start >= span->end || !berth__driver.cuPointerSetAttribute ||
        berth__device_enter(atomic_load_explicit(&pool->context, memory_order_relaxed), &pushed) <
            0)
        return;
    for (uintptr_t address = span->start; address < span->end; address += span->step)
        berth__driver.cuPointerSetAttribute(&value, ATTRIBUTE_SYNC_MEMOPS, address);
    berth__device_leave(pushed);
}

void berth__pool_unmark(struct berth_block *block)
{
    struct berth_pool *pool = block->pool;
    struct span span = {0}, now = {0};

    berth__pool_lock(pool);
    if (berth__block_state(block) == BERTH_BLOCK_LEAVING && has_mark(block)) {
        atomic_fetch_and_explicit(&block->flags, (uint8_t)~BERTH_BLOCK_SYNC_MEMOPS,
                                  memory_order_relaxed);
        block->segment->sync_memops_blocks--;
        span = unmarked_span(block);
    }
    berth__pool_unlock(pool);
    tell(pool, &span, 0);
    /* A neighbour may have got the mark meanwhile, and the driver been told of it before. */
    berth__pool_lock(pool);
    if (span.start < span.end && berth__block_state(block) == BERTH_BLOCK_LEAVING)
        now = unmarked_span(block);
    berth__pool_unlock(pool);
    if (now.step != 0 && (now.start != span.start || now.end != span.end))
        tell(pool, &span, 1);
}

void berth__pool_mark_again(uintptr_t base)
{
    int r;
    struct span span = {0};
    struct berth_block *block;

    if (!berth__pool_set_sync_memops(base, true))
        return;
    block = berth__pool_find_and_lock(base, &r);
    if (!block)
        return;
    span = span_of(block);
    berth__pool_unlock(block->pool);
    tell(block->pool, &span, 1);
}
