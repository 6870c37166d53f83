/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/table_plan.h"

#include <string.h>
#include <sys/mman.h>

#define CHUNK_SIZE ((size_t)64 << 10)

struct berth_plan_chunk {
    struct berth_plan_chunk *older;
    size_t size;         /* of the mapping */
    _Atomic size_t used; /* may grow above `size`: what is above was not given out */
};

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* A new chunk in front of `newest`, unless another thread was faster. */
static bool add_chunk(struct berth_plan_arena *arena, struct berth_plan_chunk *newest, size_t need)
{
    size_t size = need + sizeof(struct berth_plan_chunk);
    struct berth_plan_chunk *chunk = map(size < CHUNK_SIZE ? CHUNK_SIZE : size);

    if (!chunk)
        return false;
    chunk->size = size < CHUNK_SIZE ? CHUNK_SIZE : size;
    chunk->older = newest;
    atomic_init(&chunk->used, sizeof(*chunk));
    if (!atomic_compare_exchange_strong(&arena->newest, &newest, chunk))
        munmap(chunk, chunk->size);
    return true;
}

static void *arena_alloc(struct berth_plan_arena *arena, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    for (;;) {
        struct berth_plan_chunk *chunk = atomic_load(&arena->newest);

        if (chunk) {
            size_t at = atomic_fetch_add_explicit(&chunk->used, size, memory_order_relaxed);

            if (at <= chunk->size && size <= chunk->size - at)
                return (char *)chunk + at;
        }
        if (!add_chunk(arena, chunk, size))
            return NULL;
    }
}

void berth__plan_arena_done(struct berth_plan_arena *arena)
{
    struct berth_plan_chunk *chunk = atomic_load(&arena->newest);

    while (chunk) {
        struct berth_plan_chunk *older = chunk->older;

        munmap(chunk, chunk->size);
        chunk = older;
    }
    atomic_store(&arena->newest, NULL);
}

static void sift_down(uint64_t *values, size_t root, size_t count)
{
    for (;;) {
        size_t child = 2 * root + 1;
        uint64_t value = values[root];

        if (child >= count)
            return;
        if (child + 1 < count && values[child + 1] > values[child])
            child++;
        if (values[child] <= value)
            return;
        values[root] = values[child];
        values[child] = value;
        root = child;
    }
}

/* Heapsort: the C library's qsort may call malloc, which may be waiting for this decision. */
static void sort(uint64_t *values, size_t count)
{
    for (size_t i = count / 2; i-- > 0;)
        sift_down(values, i, count);
    for (size_t end = count; end-- > 1;) {
        uint64_t last = values[end];

        values[end] = values[0];
        values[0] = last;
        sift_down(values, 0, end);
    }
}

/* The sizes at which a step begins, ascending and each once; returns their count. */
static size_t collect_bounds(const struct berth_plan_entry *entries, size_t count, uint64_t *bounds)
{
    size_t found = 0;
    size_t kept = 1;

    bounds[found++] = 0;
    for (size_t i = 0; i < count; i++) {
        bounds[found++] = entries[i].min_size;
        if (entries[i].max_size != UINT64_MAX)
            bounds[found++] = entries[i].max_size + 1;
    }
    sort(bounds, found);
    for (size_t i = 1; i < found; i++)
        if (bounds[i] != bounds[kept - 1])
            bounds[kept++] = bounds[i];
    return kept;
}

/* The entries that a size can match, written to `indexes` if it is not NULL; returns their count.
 */
static uint32_t list_step(const struct berth_plan_entry *entries, size_t count, uint64_t size,
                          uint32_t *indexes)
{
    uint32_t listed = 0;

    for (size_t i = 0; i < count; i++) {
        if (size < entries[i].min_size || size > entries[i].max_size)
            continue;
        if (indexes)
            indexes[listed] = entries[i].index;
        listed++;
        if (entries[i].is_final)
            break;
    }
    return listed;
}

static struct berth_plan *fill(struct berth_plan_arena *arena,
                               const struct berth_plan_entry *entries, size_t count,
                               const uint64_t *bounds, size_t bound_count)
{
    size_t head = sizeof(struct berth_plan) + bound_count * sizeof(struct berth_plan_step);
    size_t listed = 0;
    struct berth_plan *plan;
    uint32_t *indexes;

    for (size_t i = 0; i < bound_count; i++)
        listed += list_step(entries, count, bounds[i], NULL);
    plan = arena_alloc(arena, head + listed * sizeof(uint32_t));
    if (!plan)
        return NULL;
    indexes = (uint32_t *)(void *)((char *)plan + head);
    plan->indexes = indexes;
    plan->step_count = (uint32_t)bound_count;
    listed = 0;
    for (size_t i = 0; i < bound_count; i++) {
        struct berth_plan_step *step = &plan->step[i];

        step->max_size = i + 1 < bound_count ? bounds[i + 1] - 1 : UINT64_MAX;
        step->first = (uint32_t)listed;
        step->count = list_step(entries, count, bounds[i], indexes + listed);
        listed += step->count;
    }
    return plan;
}

const struct berth_plan *berth__plan_build(struct berth_plan_arena *arena,
                                           const struct berth_plan_entry *entries, size_t count)
{
    size_t scratch = (2 * count + 1) * sizeof(uint64_t);
    struct berth_plan *plan;
    uint64_t *bounds;

    if (count > BERTH_PLAN_ENTRIES_MAX)
        return NULL;
    bounds = map(scratch);
    if (!bounds)
        return NULL;
    plan = fill(arena, entries, count, bounds, collect_bounds(entries, count, bounds));
    munmap(bounds, scratch);
    return plan;
}

const struct berth_plan_step *berth__plan_find(const struct berth_plan *plan, uint64_t size)
{
    const struct berth_plan_step *step = plan->step;
    uint32_t count = plan->step_count;

    /* The first whose max_size is not below `size`; the last one's never is. */
    while (count > 1) {
        uint32_t half = count / 2;

        if (step[half - 1].max_size < size) {
            step += half;
            count -= half;
        } else {
            count = half;
        }
    }
    return step;
}
