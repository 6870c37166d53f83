/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the home of a device holds, as a question of the program's sees it, which is seldom asked.
 *
 * What the device would have back of stream-ordered memory while some of it lives.
 *
 * The driver takes memory for its pools in large pieces, and which of them have nothing that lives
 * only it could tell, once all that is cached was given back. A question must not do that. What is
 * cached side by side, and covers such pieces wholly, does come back with it.
 */
#include "alloc/page_map.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream_set.h"

/* As drivers were seen to take for their pools; where they take less, less is told than there is.
 */
#define POOL_PIECE ((uint64_t)32 << 20)
/* Of more blocks than these the largest of each stream are looked at. On the stack. */
#define SPANS_MAX 512

struct spans {
    const struct berth_stream_home *home;
    unsigned count;
    struct berth_stream_span span[SPANS_MAX];
};

static int add_stream(struct berth_stream *stream, void *argument)
{
    struct spans *spans = argument;

    if (atomic_load(&stream->device) == spans->home->device)
        spans->count += berth__stream_set_look(&stream->set, SPANS_MAX - spans->count,
                                               &spans->span[spans->count]);
    return spans->count == SPANS_MAX;
}

/* They come nearly in order, or are few: the library's sort may allocate. */
static void sort(struct spans *spans)
{
    for (unsigned gap = spans->count / 2; gap > 0; gap /= 2) {
        for (unsigned i = gap; i < spans->count; i++) {
            struct berth_stream_span span = spans->span[i];
            unsigned at = i;

            for (; at >= gap && spans->span[at - gap].base > span.base; at -= gap)
                spans->span[at] = spans->span[at - gap];
            spans->span[at] = span;
        }
    }
}

static uint64_t pieces_in(const struct berth_stream_span *span)
{
    uint64_t first = (span->base + POOL_PIECE - 1) / POOL_PIECE, end = span->end / POOL_PIECE;

    return end > first ? (end - first) * POOL_PIECE : 0;
}

/* Between them is a rest of the driver's rounding, in which nothing is known to live. */
static bool is_beside(const struct berth_stream_span *run, const struct berth_stream_span *next)
{
    const struct berth_segment *between;

    if (next->base == run->end)
        return true;
    if (next->base - run->end >= BERTH_DRIVER_PIECE)
        return false;
    between = berth__page_map_next(run->end);
    return between && between->base == next->base;
}

uint64_t berth__stream_home_whole(struct berth_stream_home *home)
{
    struct spans spans;
    struct berth_stream_span run = {0};
    uint64_t bytes = 0;

    spans.home = home;
    spans.count = berth__stream_set_look(&home->idle, SPANS_MAX, spans.span);
    berth__stream_each_cached(add_stream, &spans);
    sort(&spans);
    for (unsigned i = 0; i < spans.count; i++) {
        if (!is_beside(&run, &spans.span[i])) {
            bytes += pieces_in(&run);
            run.base = spans.span[i].base;
        }
        run.end = spans.span[i].end;
    }
    return bytes + pieces_in(&run);
}

uint64_t berth__stream_home_excess(const struct berth_stream_home *home)
{
    struct berth_segment *segment;
    uintptr_t address = 0;
    uint64_t bytes = 0;

    while ((segment = berth__page_map_next(address))) {
        const struct berth_stream_block *block;
        uintptr_t end = segment->base + segment->size;
        uint64_t size;

        /* Host memory may end within a granule, and a record may serve another segment by now. */
        address = end > address + BERTH_GRANULE ? end : address + BERTH_GRANULE;
        if (segment->kind != BERTH_SEGMENT_STREAM)
            continue;
        block = berth__stream_block_of(segment);
        if (block->home != home || atomic_load(&block->state) != BERTH_STREAM_BLOCK_LIVE)
            continue;
        /* They may change meanwhile, each by itself. */
        size = berth__size_round(atomic_load(&block->requested));
        bytes +=
            berth__stream_block_size(block) > size ? berth__stream_block_size(block) - size : 0;
    }
    return bytes;
}
