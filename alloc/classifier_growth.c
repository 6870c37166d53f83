/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Caches that grow by being replaced: each step makes blocks that are a little larger than those of
 * the step before, as many, and frees those. No two have the same size, so that their keys never
 * repeat; what repeats is the number of equal ones that live together, and by how much they grow.
 */
#include "alloc/classifier_parts.h"

/* Of a group's size, what it may grow by at first, to be known by that. */
#define FIRST_GROWTH 4

/* After so many judgements without it, a group makes room. */
#define UNSEEN_MAX 8

static struct berth_class_group *find_group(struct berth_classifier *classifier, uint32_t family,
                                            uint32_t count, uint64_t size)
{
    struct berth_class_group *nearest = NULL;

    for (unsigned i = 0; i < BERTH_CLASS_GROUPS; i++) {
        struct berth_class_group *group = &classifier->groups[i];

        if (group->count == count && group->family == family && group->size <= size &&
            (!nearest || group->size > nearest->size))
            nearest = group;
    }
    return nearest;
}

static struct berth_class_group *new_group(struct berth_classifier *classifier)
{
    struct berth_class_group *oldest = &classifier->groups[0];

    for (unsigned i = 0; i < BERTH_CLASS_GROUPS; i++)
        if (classifier->groups[i].count == 0 || classifier->groups[i].unseen > oldest->unseen)
            oldest = &classifier->groups[i];
    return oldest->count == 0 || oldest->unseen >= UNSEEN_MAX ? oldest : NULL;
}

static uint64_t greatest_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* The group's blocks are gone and larger ones are there: it grows. */
static void group_grow(struct berth_classifier *classifier, struct berth_class_group *group,
                       uint64_t size)
{
    struct berth_class_growth *growth = &classifier->growths[group - classifier->groups];

    /* A step adds little to a cache. Where much is added once, other blocks took the place. */
    if (group->growths == 0 && size - group->size > group->size / FIRST_GROWTH) {
        group->size = size;
        return;
    }
    group->difference = greatest_divisor(size - group->size, group->difference);
    group->size = size;
    group->growths++;
    growth->family = group->family;
    growth->difference = group->difference;
    growth->size = size;
    growth->growths = group->growths;
    if (group - classifier->groups >= classifier->growth_count)
        atomic_store_explicit(&classifier->growth_count, (uint32_t)(group - classifier->groups) + 1,
                              memory_order_relaxed);
}

static uint32_t count_equal(const struct berth_judgement *judgement, uint32_t from)
{
    const struct berth_class_seen *first = &judgement->seen[from];
    uint32_t count = 0;

    for (uint32_t i = from; i < judgement->count; i++)
        count +=
            judgement->seen[i].size == first->size && judgement->seen[i].family == first->family;
    return count;
}

static bool is_first_of_its_kind(const struct berth_judgement *judgement, uint32_t from,
                                 uint32_t at)
{
    for (uint32_t i = from; i < at; i++)
        if (judgement->seen[i].size == judgement->seen[at].size &&
            judgement->seen[i].family == judgement->seen[at].family)
            return false;
    return true;
}

/*
 * A cache does not shrink from one step to the next. Where as many smaller blocks are there instead
 * of the group's, sizes go up and down, and it was no cache.
 */
static void drop_shrunken(struct berth_judgement *judgement, const struct berth_class_seen *seen,
                          uint32_t count)
{
    struct berth_classifier *classifier = judgement->classifier;

    for (unsigned i = 0; i < BERTH_CLASS_GROUPS; i++) {
        struct berth_class_group *group = &classifier->groups[i];

        if (group->unseen == 0 || group->count != count || group->family != seen->family ||
            group->size <= seen->size)
            continue;
        group->growths = 0;
        group->difference = 0;
        atomic_store_explicit(&classifier->growths[i].difference, 0, memory_order_relaxed);
    }
}

/* Blocks behind the boundary are few; of many, the newest are looked at. */
#define NEWEST 512

void berth__class_growth_note(struct berth_judgement *judgement)
{
    struct berth_classifier *classifier = judgement->classifier;
    uint32_t from = judgement->count;

    if (!judgement->is_steady)
        return;
    while (from > 0 && judgement->seen[from - 1].birth > judgement->boundary &&
           judgement->count - from < NEWEST)
        from--;
    for (unsigned i = 0; i < BERTH_CLASS_GROUPS; i++)
        classifier->groups[i].unseen++;
    for (uint32_t i = from; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];
        uint32_t count;
        struct berth_class_group *group;

        /* What is as large as a weight is a gradient, and the next layer's is larger. */
        if (!is_first_of_its_kind(judgement, from, i) ||
            berth__class_size(judgement, seen->size)->old > 0)
            continue;
        count = count_equal(judgement, i);
        group = count >= 2 ? find_group(classifier, seen->family, count, seen->size) : NULL;
        if (group && group->size < seen->size) {
            group_grow(classifier, group, seen->size);
        } else if (!group && count >= 2) {
            group = new_group(classifier);
            if (group)
                *group = (struct berth_class_group){
                    .size = seen->size, .family = seen->family, .count = count};
        }
        if (group)
            group->unseen = 0;
        if (count >= 2)
            drop_shrunken(judgement, seen, count);
    }
}

bool berth__class_grows(const struct berth_classifier *classifier, uint32_t family, uint64_t size,
                        unsigned *ret_growths)
{
    uint32_t count = atomic_load_explicit(&classifier->growth_count, memory_order_relaxed);

    for (unsigned i = 0; i < count; i++) {
        const struct berth_class_growth *growth = &classifier->growths[i];
        uint64_t difference = berth__class_load(&growth->difference);
        uint64_t last = berth__class_load(&growth->size);

        /* As it was, or some steps further on. */
        if (difference != 0 && growth->family == family && size >= last &&
            (size - last) % difference == 0 && (size - last) / difference <= BERTH_CLASS_GROUPS) {
            *ret_growths = growth->growths;
            return true;
        }
    }
    return false;
}
