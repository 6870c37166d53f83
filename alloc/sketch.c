/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/sketch.h"

#include <errno.h>
#include <string.h>

/* Addresses that nobody uses: no sketch is as high as the address space. */
#define SKETCH_BASE ((uintptr_t)1 << 40)
#define SKETCH_SIZE ((uint64_t)1 << 56)

static struct berth_block *record_new(struct berth_sketch *sketch)
{
    struct berth_block *record = berth__slab_new(&sketch->slab, sizeof(*record));

    if (!record)
        berth__sketch_end(sketch);
    return record;
}

void berth__sketch_end(struct berth_sketch *sketch)
{
    struct berth_block *block = sketch->segment.first, *next;

    /* Nothing was entered since it ended, and names are many to look through. */
    if (!block)
        return;
    for (; block; block = next) {
        next = block->next;
        berth__slab_delete(&sketch->slab, block);
    }
    sketch->segment.first = NULL;
    memset(sketch->named, 0, sizeof(sketch->named));
}

int berth__sketch_begin(struct berth_sketch *sketch)
{
    struct berth_block *all;

    berth__sketch_end(sketch);
    sketch->segment = (struct berth_segment){
        .base = SKETCH_BASE, .size = SKETCH_SIZE, .kind = BERTH_SEGMENT_RANGE};
    sketch->set = (struct berth_free_set){0};
    sketch->height = 0;
    all = record_new(sketch);
    if (!all)
        return -ENOBUFS;
    berth__segment_place(&sketch->segment, all, NULL, SKETCH_BASE, SKETCH_SIZE);
    berth__free_set_insert(&sketch->set, all);
    return 0;
}

struct berth_block *berth__sketch_add(struct berth_sketch *sketch, uint64_t size)
{
    struct berth_block *rest = record_new(sketch), *place;
    uint64_t end;

    if (!rest)
        return NULL;
    place = berth__free_set_fit(&sketch->set, size);
    if (!place) {
        berth__slab_delete(&sketch->slab, rest);
        berth__sketch_end(sketch);
        return NULL;
    }
    berth__free_set_remove(&sketch->set, place);
    if (place->size > size) {
        berth__segment_split(place, size, rest);
        berth__free_set_insert(&sketch->set, rest);
    } else {
        berth__slab_delete(&sketch->slab, rest);
    }
    berth__block_set_state(place, BERTH_BLOCK_LIVE);
    end = berth__block_address(place) + size - SKETCH_BASE;
    if (sketch->height < end)
        sketch->height = end;
    return place;
}

/* `next` goes into `place`. */
static void absorb(struct berth_sketch *sketch, struct berth_block *place, struct berth_block *next)
{
    berth__segment_merge(place, next);
    berth__slab_delete(&sketch->slab, next);
}

void berth__sketch_remove(struct berth_sketch *sketch, struct berth_block *place)
{
    struct berth_block *prev = place->prev, *next = place->next;

    berth__block_set_state(place, BERTH_BLOCK_FREE);
    if (next && berth__block_state(next) == BERTH_BLOCK_FREE) {
        berth__free_set_remove(&sketch->set, next);
        absorb(sketch, place, next);
    }
    if (prev && berth__block_state(prev) == BERTH_BLOCK_FREE) {
        berth__free_set_remove(&sketch->set, prev);
        absorb(sketch, prev, place);
        place = prev;
    }
    berth__free_set_insert(&sketch->set, place);
}

static struct berth_block **chain_of(struct berth_sketch *sketch, uint64_t name)
{
    return &sketch->named[name * 0x9e3779b97f4a7c15u >> 32 & (BERTH_SKETCH_NAMES - 1)];
}

void berth__sketch_enter(struct berth_sketch *sketch, uint64_t name, uint64_t size)
{
    struct berth_block *place = berth__sketch_add(sketch, size);
    struct berth_block **chain = chain_of(sketch, name);

    if (!place)
        return;
    place->id = name;
    place->waiting = *chain;
    *chain = place;
}

void berth__sketch_leave(struct berth_sketch *sketch, uint64_t name)
{
    struct berth_block **link = chain_of(sketch, name), *place;

    while (*link && (*link)->id != name)
        link = &(*link)->waiting;
    place = *link;
    if (!place)
        return;
    *link = place->waiting;
    berth__sketch_remove(sketch, place);
}
