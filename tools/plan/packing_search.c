/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A randomised depth-first search with restarts for a packing within a capacity.
 *
 * Buffers are placed in order of their offsets, each on top of what was placed where it lives; so a
 * gap beneath is lost for good, and the search may give up as soon as some section has more left to
 * place than there is room above. What is left falls into parts that do not meet as soon as all of
 * some section is placed; these are searched one by one.
 */
#include "tools/plan/packing_parts.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BRANCHES_MAX 8    /* candidates that are tried in one place */
#define FAILURES_FIRST 50 /* of the first attempt, then growing */
#define FAILURES_LAST 20000
#define FAILURES_GROWTH 1.05
#define ATTEMPTS_MAX 16 /* at one capacity, before an easier one is tried */
/* A buffer's key is its lifetime, more or less by this fraction, times its weight. */
#define NOISE 0.3
/* That a placement takes, see berth__packing_spend(), for each section of its life; and that a part
 * takes for each item. */
#define SECTION_LOOKS 4
#define PART_LOOKS 8
/* One frame of the search, with room to spare for what sanitizers add to it. */
#define FRAME_SIZE ((size_t)4096)

enum change_kind { CHANGE_BOTTOM, CHANGE_TOP };

struct change {
    uint32_t index;
    uint32_t kind;
    uint64_t value; /* before it */
};

struct search {
    struct berth_packing *packing;
    uint64_t capacity;
    /* By item. */
    uint64_t *offsets;
    uint64_t *bottom; /* the end of the highest that is placed where the item lives */
    double *weight;   /* grows when the item was left over where an attempt failed */
    double *key;
    bool *is_placed;
    /* By section. */
    uint64_t *top;  /* the end of the highest that is placed */
    uint64_t *left; /* bytes that are not placed yet */
    uint32_t *left_count;
    /* What to take back. */
    struct change *changes;
    size_t change_count, change_room;
    uint32_t *placed; /* in order */
    uint32_t placed_count;
    uint64_t nodes, failures, failures_max;
    bool is_stopped; /* out of time, of failures or of memory */
    int error;
};

struct branch {
    uint64_t offset;
    double key;
    uint32_t item;
};

/* Items that live in section t: those that lived before its first one, and those that begin. */
struct members {
    const uint32_t *earlier;
    uint64_t earlier_count;
    uint32_t first, end;
};

static struct members members_of(const struct berth_packing *packing, uint32_t t)
{
    uint32_t first = packing->section_first[t];
    uint64_t at = packing->earlier_at[first];

    return (struct members){&packing->earlier[at], packing->earlier_at[first + 1] - at, first,
                            packing->section_first[t + 1]};
}

static void search_fail(struct search *search, uint32_t t)
{
    struct members members = members_of(search->packing, t);

    for (uint64_t k = 0; k < members.earlier_count; k++)
        if (!search->is_placed[members.earlier[k]])
            search->weight[members.earlier[k]] += 1;
    for (uint32_t i = members.first; i < members.end; i++)
        if (!search->is_placed[i])
            search->weight[i] += 1;
    if (++search->failures > search->failures_max)
        search->is_stopped = true;
}

static void search_remember(struct search *search, enum change_kind kind, uint32_t index,
                            uint64_t value)
{
    if (search->change_count == search->change_room) {
        size_t room = search->change_room ? 2 * search->change_room : 4096;
        struct change *changes = realloc(search->changes, room * sizeof(*changes));

        if (!changes) {
            search->error = -ENOMEM;
            search->is_stopped = true;
            return;
        }
        search->changes = changes;
        search->change_room = room;
    }
    search->changes[search->change_count++] = (struct change){index, kind, value};
}

static void search_undo(struct search *search, size_t change_count, uint32_t placed_count)
{
    while (search->change_count > change_count) {
        const struct change *change = &search->changes[--search->change_count];

        if (change->kind == CHANGE_TOP)
            search->top[change->index] = change->value;
        else
            search->bottom[change->index] = change->value;
    }
    while (search->placed_count > placed_count) {
        uint32_t i = search->placed[--search->placed_count];
        const struct berth_packing_item *item = &search->packing->items[i];

        search->is_placed[i] = false;
        for (uint32_t t = item->first; t < item->end; t++) {
            search->left[t] += item->size;
            search->left_count[t]++;
        }
    }
}

/* The lowest bottom of what is left in a section. */
static uint64_t lowest_bottom(const struct search *search, uint32_t t)
{
    struct members members = members_of(search->packing, t);
    uint64_t lowest = UINT64_MAX;

    berth__packing_spend(search->packing, members.earlier_count + members.end - members.first);
    for (uint64_t k = 0; k < members.earlier_count; k++) {
        uint32_t i = members.earlier[k];

        if (!search->is_placed[i] && search->bottom[i] < lowest)
            lowest = search->bottom[i];
    }
    for (uint32_t i = members.first; i < members.end; i++)
        if (!search->is_placed[i] && search->bottom[i] < lowest)
            lowest = search->bottom[i];
    return lowest;
}

/* The sections whose room the last placement may have changed. */
struct touched {
    uint32_t first, end;
    uint32_t failed; /* a section without room, or UINT32_MAX */
};

static void raise_bottom(struct search *search, uint32_t i, uint64_t end, struct touched *touched)
{
    const struct berth_packing_item *item = &search->packing->items[i];

    if (search->is_placed[i] || search->bottom[i] >= end)
        return;
    search_remember(search, CHANGE_BOTTOM, i, search->bottom[i]);
    search->bottom[i] = end;
    if (item->first < touched->first)
        touched->first = item->first;
    if (item->end > touched->end)
        touched->end = item->end;
    if (end + item->size > search->capacity && touched->failed == UINT32_MAX)
        touched->failed = item->first;
}

static struct touched search_place(struct search *search, uint32_t i, uint64_t offset)
{
    struct berth_packing *packing = search->packing;
    const struct berth_packing_item *item = &packing->items[i];
    struct touched touched = {item->first, item->end, UINT32_MAX};
    uint64_t end = offset + item->size;

    berth__packing_spend(packing, SECTION_LOOKS * (item->end - item->first) +
                                      packing->earlier_at[i + 1] - packing->earlier_at[i] +
                                      berth__packing_later_end(packing, i) - i);

    search->offsets[i] = offset;
    search->is_placed[i] = true;
    search->placed[search->placed_count++] = i;
    for (uint32_t t = item->first; t < item->end; t++) {
        search_remember(search, CHANGE_TOP, t, search->top[t]);
        search->top[t] = end;
        search->left[t] -= item->size;
        search->left_count[t]--;
    }
    for (uint64_t k = packing->earlier_at[i]; k < packing->earlier_at[i + 1]; k++)
        raise_bottom(search, packing->earlier[k], end, &touched);
    for (uint32_t k = i + 1; k < berth__packing_later_end(packing, i); k++)
        raise_bottom(search, k, end, &touched);
    return touched;
}

/* Whether what is left in each touched section still fits above the lowest place for any of it. */
static void check_touched(const struct search *search, uint64_t offset, uint64_t end,
                          struct touched *touched)
{
    for (uint32_t t = touched->first; t < touched->end && touched->failed == UINT32_MAX; t++) {
        uint64_t bottom = search->top[t] > end ? search->top[t] : end;

        /* Mostly there is far more room than the lowest bottom could take: spare its search. */
        if (search->left_count[t] == 0 || bottom + search->left[t] <= search->capacity)
            continue;
        bottom = lowest_bottom(search, t);
        if (bottom < offset)
            bottom = offset;
        if (bottom + search->left[t] > search->capacity)
            touched->failed = t;
    }
}

/* A section of [first, end) that has no room left when nothing goes below `offset`; or none. */
static uint32_t section_without_room(const struct search *search, uint32_t first, uint32_t end,
                                     uint64_t offset)
{
    for (uint32_t t = first; t < end; t++)
        if (search->left_count[t] > 0 && offset + search->left[t] > search->capacity)
            return t;
    return UINT32_MAX;
}

static uint64_t offset_of(const struct search *search, uint32_t i, uint64_t low)
{
    return search->bottom[i] > low ? search->bottom[i] : low;
}

/*
 * The candidates for the next placement: the lowest, and of equally low ones those of large keys.
 * One that begins where another could end has no claim yet.
 */
static uint32_t choose_branches(const struct search *search, const uint32_t *part, uint32_t count,
                                uint64_t low, struct branch branches[BRANCHES_MAX])
{
    uint64_t lowest_end = UINT64_MAX;
    uint32_t found = 0;

    for (uint32_t k = 0; k < count; k++) {
        uint64_t end = offset_of(search, part[k], low) + search->packing->items[part[k]].size;

        if (end < lowest_end)
            lowest_end = end;
    }
    for (uint32_t k = 0; k < count; k++) {
        struct branch branch = {offset_of(search, part[k], low), search->key[part[k]], part[k]};
        uint32_t at = found;

        if (branch.offset >= lowest_end)
            continue;
        while (at > 0 &&
               (branches[at - 1].offset > branch.offset ||
                (branches[at - 1].offset == branch.offset && branches[at - 1].key < branch.key))) {
            if (at < BRANCHES_MAX)
                branches[at] = branches[at - 1];
            at--;
        }
        if (at < BRANCHES_MAX)
            branches[at] = branch;
        if (found < BRANCHES_MAX)
            found++;
    }
    return found;
}

static bool search_part(struct search *search, uint32_t *part, uint32_t count, uint64_t low);

/* Searches what is left of a part, piece by piece: a piece ends where nothing is left to place. */
static bool search_rest(struct search *search, const uint32_t *part, uint32_t count, uint64_t low)
{
    uint32_t *rest = malloc(count * sizeof(*rest));
    uint32_t rest_count = 0, reach = 0;
    bool is_found = true;

    if (!rest) {
        search->error = -ENOMEM;
        search->is_stopped = true;
        return false;
    }
    for (uint32_t k = 0; k < count && is_found; k++) {
        const struct berth_packing_item *item = &search->packing->items[part[k]];

        if (search->is_placed[part[k]])
            continue;
        if (rest_count > 0 && item->first >= reach) {
            is_found = search_part(search, rest, rest_count, low);
            rest_count = 0;
        }
        rest[rest_count++] = part[k];
        if (rest_count == 1 || item->end > reach)
            reach = item->end;
    }
    if (is_found && rest_count > 0)
        is_found = search_part(search, rest, rest_count, low);
    free(rest);
    return is_found;
}

static bool search_branch(struct search *search, const uint32_t *part, uint32_t count,
                          const struct branch *branch)
{
    size_t change_count = search->change_count;
    uint32_t placed_count = search->placed_count;
    struct touched touched = search_place(search, branch->item, branch->offset);

    check_touched(search, branch->offset,
                  branch->offset + search->packing->items[branch->item].size, &touched);
    if (search->is_stopped)
        return false;
    if (touched.failed != UINT32_MAX)
        search_fail(search, touched.failed);
    else if (search_rest(search, part, count, branch->offset))
        return true;
    search_undo(search, change_count, placed_count);
    return false;
}

static bool search_is_over(struct search *search)
{
    if (++search->nodes % 64 == 0 && berth__packing_is_over(search->packing))
        search->is_stopped = true;
    return search->is_stopped;
}

/* Places the items of a part, which are sorted and meet, at `low` or above. */
static bool search_part(struct search *search, uint32_t *part, uint32_t count, uint64_t low)
{
    struct branch branches[BRANCHES_MAX];
    uint32_t branch_count, first, end = 0;

    if (search_is_over(search))
        return false;
    berth__packing_spend(search->packing, PART_LOOKS * count);
    first = search->packing->items[part[0]].first;
    for (uint32_t k = 0; k < count; k++)
        if (search->packing->items[part[k]].end > end)
            end = search->packing->items[part[k]].end;
    branch_count = choose_branches(search, part, count, low, branches);
    for (uint32_t b = 0; b < branch_count && !search->is_stopped; b++) {
        uint32_t failed = section_without_room(search, first, end, branches[b].offset);

        if (failed != UINT32_MAX) {
            /* The next ones are not lower. */
            search_fail(search, failed);
            return false;
        }
        if (search_branch(search, part, count, &branches[b]))
            return true;
    }
    return false;
}

static double uniform(struct berth_packing *packing)
{
    return (double)(berth__packing_random(packing) >> 11) * 0x1p-53;
}

static bool search_attempt(struct search *search, uint32_t *all)
{
    struct berth_packing *packing = search->packing;

    search->change_count = 0;
    search->placed_count = 0;
    search->failures = 0;
    search->is_stopped = false;
    memset(search->top, 0, packing->sections * sizeof(*search->top));
    memset(search->left, 0, packing->sections * sizeof(*search->left));
    memset(search->left_count, 0, packing->sections * sizeof(*search->left_count));
    for (uint32_t i = 0; i < packing->count; i++) {
        const struct berth_packing_item *item = &packing->items[i];

        all[i] = i;
        search->bottom[i] = 0;
        search->is_placed[i] = false;
        search->key[i] =
            (item->end - item->first) * search->weight[i] * (1 + NOISE * (uniform(packing) - 0.5));
        for (uint32_t t = item->first; t < item->end; t++) {
            search->left[t] += item->size;
            search->left_count[t]++;
        }
    }
    return search_rest(search, all, packing->count, 0);
}

static uint64_t peak_of(const struct search *search)
{
    uint64_t peak = 0;

    for (uint32_t i = 0; i < search->packing->count; i++)
        if (search->offsets[i] + search->packing->items[i].size > peak)
            peak = search->offsets[i] + search->packing->items[i].size;
    return peak;
}

/*
 * Between max-live and the best peak, the capacity to try: half way at first, then ever nearer to
 * the best, and from the beginning again.
 */
static uint64_t next_capacity(const struct berth_packing *packing, unsigned step)
{
    uint64_t gap = packing->best_peak - packing->max_live;
    uint64_t capacity = packing->best_peak - (gap >> (2 + step));

    return capacity < packing->best_peak ? capacity : packing->best_peak - 1;
}

static void *search_run(void *argument)
{
    struct search *search = argument;
    struct berth_packing *packing = search->packing;
    uint32_t *all = malloc(packing->count * sizeof(*all));
    double failures_max = FAILURES_FIRST;
    unsigned attempts = 0, step = 0;

    if (!all)
        search->error = -ENOMEM;
    while (search->error == 0 && !berth__packing_is_over(packing)) {
        search->capacity = next_capacity(packing, step);
        search->failures_max = (uint64_t)failures_max;
        if (search_attempt(search, all)) {
            berth__packing_offer(packing, search->offsets, peak_of(search), "search");
            step = 0;
            attempts = 0;
            failures_max = FAILURES_FIRST;
            continue;
        }
        failures_max *= FAILURES_GROWTH;
        if (failures_max > FAILURES_LAST)
            failures_max = FAILURES_FIRST;
        if (++attempts % ATTEMPTS_MAX == 0)
            step = (step + 1) % 3;
    }
    free(all);
    return NULL;
}

static int search_init(struct search *search, struct berth_packing *packing)
{
    size_t count = packing->count, sections = packing->sections;

    *search = (struct search){
        .packing = packing,
        .offsets = calloc(count, sizeof(*search->offsets)),
        .bottom = calloc(count, sizeof(*search->bottom)),
        .weight = calloc(count, sizeof(*search->weight)),
        .key = calloc(count, sizeof(*search->key)),
        .is_placed = calloc(count, sizeof(*search->is_placed)),
        .top = calloc(sections, sizeof(*search->top)),
        .left = calloc(sections, sizeof(*search->left)),
        .left_count = calloc(sections, sizeof(*search->left_count)),
        .placed = calloc(count, sizeof(*search->placed)),
    };
    if (!search->offsets || !search->bottom || !search->weight || !search->key ||
        !search->is_placed || !search->top || !search->left || !search->left_count ||
        !search->placed)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        search->weight[i] = 1;
    return 0;
}

static void search_done(struct search *search)
{
    free(search->offsets);
    free(search->bottom);
    free(search->weight);
    free(search->key);
    free(search->is_placed);
    free(search->top);
    free(search->left);
    free(search->left_count);
    free(search->changes);
    free(search->placed);
}

/* The search is as deep as there are buffers: it has a thread of its own for the sake of a stack.
 */
static int search_on_stack(struct search *search)
{
    size_t size = ((size_t)search->packing->count + 64) * 3 * FRAME_SIZE;
    pthread_attr_t attributes;
    pthread_t thread;
    int r = pthread_attr_init(&attributes);

    if (r == 0) {
        r = pthread_attr_setstacksize(&attributes, size);
        if (r == 0)
            r = pthread_create(&thread, &attributes, search_run, search);
        if (r == 0)
            r = pthread_join(thread, NULL);
        pthread_attr_destroy(&attributes);
    }
    return r != 0 ? -r : search->error;
}

int berth__packing_search(struct berth_packing *packing)
{
    struct search search;
    int r = search_init(&search, packing);

    if (r == 0 && !berth__packing_is_over(packing))
        r = search_on_stack(&search);
    search_done(&search);
    return r;
}
