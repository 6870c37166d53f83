/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/pool_walk.h"

#include "alloc/page_map.h"
#include "alloc/pool_class.h"
#include "alloc/pool_foreign.h"
#include "alloc/pool_parts.h"
#include "alloc/pool_stream_set.h"
#include "alloc/trace.h"

#include <errno.h>

/* An array that grows by mapping OS pages: never malloc, this may run in a hook. */
struct rows {
    struct berth_block_row *row;
    size_t bytes;
};

static int rows_reserve(struct rows *rows, size_t count)
{
    size_t bytes = (count * sizeof(*rows->row) * 3 / 2 + 4095) & ~(size_t)4095;
    void *memory = berth__slab_map(bytes);

    if (!memory)
        return -ENOMEM;
    if (rows->row)
        berth__slab_unmap(rows->row, rows->bytes);
    rows->row = memory;
    rows->bytes = bytes;
    return 0;
}

static enum berth_block_use use_of(const struct berth_block *block)
{
    switch (berth__block_state(block)) {
    case BERTH_BLOCK_FREE:
    case BERTH_BLOCK_CACHED:
        return BERTH_USE_FREE;
    case BERTH_BLOCK_LIVE:
        return BERTH_USE_LIVE;
    case BERTH_BLOCK_HOLE:
    case BERTH_BLOCK_MOVING:
        return BERTH_USE_HOLE;
    default:
        return BERTH_USE_WAITING;
    }
}

static void fill_row(const struct berth_block *block, struct berth_block_row *ret)
{
    enum berth_block_use use = use_of(block);

    *ret = (struct berth_block_row){
        .address = berth__block_address(block),
        .size = block->size,
        .requested = use == BERTH_USE_LIVE ? block->requested : 0,
        .site = use == BERTH_USE_LIVE ? block->site : 0,
        .tag = block->tag,
        .use = (uint8_t)use,
        .is_cached = berth__block_state(block) == BERTH_BLOCK_CACHED,
    };
}

static enum berth_segment_use segment_use(enum berth_segment_kind kind)
{
    switch (kind) {
    case BERTH_SEGMENT_WHOLE:
        return BERTH_USE_WHOLE;
    case BERTH_SEGMENT_RANGE:
        return BERTH_USE_RANGE;
    case BERTH_SEGMENT_BORROWED:
        return BERTH_USE_BORROWED;
    default:
        return BERTH_USE_SHARED;
    }
}

/* A pool's segment at this moment; its row says 0 blocks when it is gone. */
static int read_pool_segment(struct berth_segment *segment, struct berth_pool *pool,
                             struct rows *rows, struct berth_segment_row *ret)
{
    size_t count;

    for (;;) {
        count = 0;
        berth__pool_lock(pool);
        if (!segment->is_mapped || berth__page_map_find(segment->base) != segment)
            break;
        for (const struct berth_block *block = segment->first; block; block = block->next)
            count++;
        if (count * sizeof(*rows->row) <= rows->bytes)
            break;
        berth__pool_unlock(pool);
        if (rows_reserve(rows, count) < 0)
            return -ENOMEM;
    }
    *ret = (struct berth_segment_row){
        .base = segment->base,
        .size = segment->size,
        .device = pool->device,
        .use = (uint8_t)segment_use(segment->kind),
        .tier = pool->tier,
        .is_planned = pool->is_planned,
    };
    for (const struct berth_block *block = count ? segment->first : NULL; block;
         block = block->next)
        fill_row(block, &rows->row[ret->blocks++]);
    berth__pool_unlock(pool);
    return 0;
}

/* A stream-ordered block: its fields are each right by themselves. */
static void read_stream_block(const struct berth_stream_block *block, struct berth_block_row *row,
                              struct berth_segment_row *ret)
{
    const struct berth_segment *segment = &block->segment;
    int state = atomic_load_explicit(&block->state, memory_order_acquire);

    *ret = (struct berth_segment_row){
        .base = segment->base,
        .size = segment->size,
        .blocks = 1,
        .device = block->home->device,
        .use = BERTH_USE_STREAM,
        .tier = BERTH_TIER_DEVICE,
    };
    *row = (struct berth_block_row){
        .address = ret->base,
        .size = ret->size,
        .use = state == BERTH_STREAM_BLOCK_CACHED ? BERTH_USE_FREE
               : state == BERTH_STREAM_BLOCK_LIVE ? BERTH_USE_LIVE
                                                  : BERTH_USE_WAITING,
    };
    if (row->use != BERTH_USE_LIVE)
        return;
    row->requested = atomic_load(&block->requested);
    row->site = atomic_load(&block->site);
    row->tag = atomic_load(&block->tag);
    if (row->requested > row->size)
        row->requested = row->size;
}

static void read_foreign(uintptr_t address, struct berth_block_row *row,
                         struct berth_segment_row *ret)
{
    struct berth_foreign foreign;

    ret->blocks = 0;
    if (berth__foreign_peek(address, &foreign) < 0)
        return;
    *ret = (struct berth_segment_row){
        .base = foreign.address,
        .size = foreign.size,
        .blocks = 1,
        .device = -1,
        .use = BERTH_USE_FOREIGN,
        .tier = foreign.tier,
    };
    *row = (struct berth_block_row){
        .address = foreign.address,
        .size = foreign.size,
        .requested = foreign.size,
        .tag = (uint8_t)foreign.tag,
        .use = BERTH_USE_LIVE,
    };
}

static int read_segment(struct berth_segment *segment, struct rows *rows,
                        struct berth_segment_row *ret)
{
    struct berth_pool *pool = segment->pool;
    enum berth_segment_kind kind = segment->kind;

    if (kind == BERTH_SEGMENT_STREAM)
        read_stream_block(berth__stream_block_of(segment), rows->row, ret);
    else if (kind == BERTH_SEGMENT_FOREIGN)
        read_foreign(segment->base, rows->row, ret);
    else if (pool)
        return read_pool_segment(segment, pool, rows, ret);
    return 0;
}

/* Shows a segment; where parts of its addresses have no memory, each part that has. */
static int show_segment(const struct berth_segment_row *segment,
                        const struct berth_block_row *blocks, berth_segment_visitor visit,
                        void *context)
{
    struct berth_segment_row part = *segment;
    uint32_t first = 0;
    int r = 0;

    if (segment->use != BERTH_USE_RANGE)
        return visit(context, segment, blocks);
    for (uint32_t i = 0; r == 0 && i < segment->blocks; i = first) {
        for (part.size = part.blocks = 0; i < segment->blocks && blocks[i].use != BERTH_USE_HOLE;
             i++, part.blocks++)
            part.size += blocks[i].size;
        if (part.blocks > 0) {
            part.base = blocks[first].address;
            r = visit(context, &part, &blocks[first]);
        }
        first = i + 1;
    }
    return r;
}

int berth__pool_walk(berth_segment_visitor visit, void *context)
{
    struct rows rows = {0};
    uintptr_t address = 0;
    struct berth_segment *segment;
    int r = berth__pool_disabled() ? 0 : rows_reserve(&rows, 1);

    while (r == 0 && !berth__pool_disabled() && (segment = berth__page_map_next(address))) {
        struct berth_segment_row row = {0};
        uintptr_t end = segment->base + segment->size;

        r = read_segment(segment, &rows, &row);
        if (r == 0 && row.blocks > 0 && row.base + row.size > address)
            r = show_segment(&row, rows.row, visit, context);
        /* A record that serves another segment by now does not lead backwards. */
        if (end <= address && __builtin_add_overflow(address, (uintptr_t)BERTH_GRANULE, &end))
            break;
        address = end;
    }
    if (rows.row)
        berth__slab_unmap(rows.row, rows.bytes);
    return r;
}

/* The live block at this first address, with its pool locked; NULL with nothing locked. */
static struct berth_block *find_and_lock(struct berth_segment *segment, uintptr_t address)
{
    struct berth_pool *pool = segment ? segment->pool : NULL;
    struct berth_block *block;

    if (!pool || berth__pool_disabled())
        return NULL;
    berth__pool_lock(pool);
    if (berth__page_map_find(address) == segment) {
        block = berth__segment_block(segment, address);
        if (block && berth__block_address(block) == address && use_of(block) == BERTH_USE_LIVE)
            return block;
    }
    berth__pool_unlock(pool);
    return NULL;
}

int berth__pool_row(uintptr_t address, struct berth_block_row *ret, int *ret_device)
{
    struct berth_segment *segment = berth__page_map_find(address);
    struct berth_segment_row row = {.device = -1};
    struct berth_block *block;

    *ret_device = -1;
    if (!segment || berth__pool_disabled())
        return -ENOENT;
    if (!segment->pool) {
        struct rows rows = {.row = ret};
        int r = read_segment(segment, &rows, &row);

        *ret_device = row.device;
        return r == 0 && row.blocks == 1 && ret->address == address && ret->use == BERTH_USE_LIVE
                   ? 0
                   : -ENOENT;
    }
    block = find_and_lock(segment, address);
    if (!block)
        return -ENOENT;
    fill_row(block, ret);
    *ret_device = block->segment->pool->device;
    berth__pool_unlock(block->segment->pool);
    return 0;
}

void berth__pool_set_site(uintptr_t address, berth_site_id site)
{
    struct berth_segment *segment = berth__page_map_find(address);
    struct berth_block *block;

    if (segment && segment->kind == BERTH_SEGMENT_STREAM) {
        struct berth_stream_block *stream_block = berth__stream_block_of(segment);
        berth_site_id none = 0;

        berth__pool_class_lock();
        if (atomic_compare_exchange_strong(&stream_block->site, &none, site))
            berth__stream_site_enter(stream_block);
        berth__pool_class_unlock();
        return;
    }
    block = find_and_lock(segment, address);
    if (!block)
        return;
    berth__pool_class_lock();
    if (block->site == 0) {
        block->site = site;
        berth__pool_site_enter(block);
    }
    berth__pool_class_unlock();
    berth__pool_unlock(block->segment->pool);
}

static enum berth_trace_kind kind_of(const struct berth_segment_row *segment)
{
    if (segment->use == BERTH_USE_STREAM)
        return BERTH_TRACE_ASYNC;
    if (segment->use != BERTH_USE_FOREIGN)
        return BERTH_TRACE_DEVICE;
    return segment->tier == BERTH_TIER_PINNED ? BERTH_TRACE_HOST : BERTH_TRACE_PITCH;
}

static int record_existing(void *context, const struct berth_segment_row *segment,
                           const struct berth_block_row *blocks)
{
    for (uint32_t i = 0; i < segment->blocks; i++) {
        struct berth_trace_call call = {
            .action = BERTH_TRACE_EXISTING,
            .kind = kind_of(segment),
            .address = blocks[i].address,
            .requested = blocks[i].requested,
            .held = blocks[i].size,
            .site = blocks[i].site,
            .tag = (enum berth_tag)blocks[i].tag,
            .device = segment->device < 0 ? 0 : segment->device,
        };

        if (blocks[i].use == BERTH_USE_LIVE)
            berth__trace_record(&call);
    }
    return 0;
}

void berth__trace_existing(void)
{
    berth__pool_walk(record_existing, NULL);
}
