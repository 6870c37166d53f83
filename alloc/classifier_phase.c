/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The phase: where the steps begin, who makes what they use, and how many there were.
 */
#include "alloc/classifier_parts.h"

/* Of the blocks that stay, the main family's must have this share to be all the weights there are;
 * else the weights come from elsewhere. */
#define MAIN_SHARE 64

/*
 * Births of blocks that stay are dense while a program loads, and sparse once it works. The
 * boundary is where the share of all survivors that were born so far is furthest above the share of
 * all births. `all` births; those of `family` alone unless that is UINT32_MAX. Returns the lead in
 * units of 1 / (all * survivors), 0 when there is none.
 */
#define ANY_FAMILY UINT32_MAX
static uint64_t find_boundary(const struct berth_judgement *judgement, uint32_t family,
                              uint64_t all, uint64_t *ret_boundary)
{
    uint64_t survivors = 0, so_far = 0, best = 0;

    for (uint32_t i = 0; i < judgement->count; i++)
        survivors += family == ANY_FAMILY || judgement->seen[i].family == family;
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];
        uint64_t births = family == ANY_FAMILY ? seen->birth : seen->family_birth;

        if (family != ANY_FAMILY && seen->family != family)
            continue;
        so_far++;
        if (so_far * all > births * survivors && so_far * all - births * survivors > best) {
            best = so_far * all - births * survivors;
            *ret_boundary = seen->birth;
        }
    }
    return best;
}

static const struct berth_class_key *key_at(const struct berth_judgement *judgement, uint32_t at)
{
    const struct berth_class_key *key =
        &atomic_load_explicit(&judgement->classifier->keys, memory_order_acquire)[at];

    return key->id == 0 ? NULL : key;
}

/* Whether blocks of this key come in steps, and go. */
static bool is_stepped(const struct berth_judgement *judgement, const struct berth_class_key *key)
{
    return key->deaths > 0 && key->last_birth > judgement->boundary;
}

/* The family of which most bytes came and went behind the boundary; false: nothing did. */
static bool find_main(struct berth_judgement *judgement)
{
    uint64_t *turnover = judgement->sizes; /* not used yet */
    uint64_t most = 0;

    for (uint32_t i = 0; i < BERTH_CLASS_KEYS; i++) {
        const struct berth_class_key *key = key_at(judgement, i);
        uint32_t family = key ? key->family % BERTH_CLASS_FAMILIES : 0;

        if (!key || !is_stepped(judgement, key))
            continue;
        turnover[family] += key->size * key->deaths;
        if (turnover[family] > most) {
            most = turnover[family];
            judgement->main = family;
        }
    }
    for (uint32_t i = 0; i < BERTH_CLASS_FAMILIES; i++)
        turnover[i] = 0;
    return most > 0;
}

/* Whether what stays of the main family is worth to be called the weights. */
static bool main_has_weights(const struct berth_judgement *judgement)
{
    uint64_t blocks = 0, bytes = 0, all = 0;

    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];

        if (seen->birth > judgement->boundary)
            break;
        all += seen->size;
        if (seen->family == judgement->main) {
            bytes += seen->size;
            blocks++;
        }
    }
    return blocks >= 2 && bytes >= all / MAIN_SHARE;
}

static void sort(uint64_t *numbers, uint32_t length)
{
    for (uint32_t gap = length / 2; gap > 0; gap /= 2)
        for (uint32_t i = gap; i < length; i++)
            for (uint32_t j = i; j >= gap && numbers[j - gap] > numbers[j]; j -= gap) {
                uint64_t swapped = numbers[j];

                numbers[j] = numbers[j - gap];
                numbers[j - gap] = swapped;
            }
}

/* A number of each key that comes again in each step, sorted; how many. */
static uint32_t list_repeated(struct berth_judgement *judgement, bool firsts)
{
    uint32_t length = 0;

    for (uint32_t i = 0; i < BERTH_CLASS_KEYS; i++) {
        const struct berth_class_key *key = key_at(judgement, i);

        if (key && key->births >= 2 && is_stepped(judgement, key) &&
            (!judgement->only_main || key->family == judgement->main))
            judgement->numbers[length++] = firsts ? key->first_dead : key->births;
    }
    sort(judgement->numbers, length);
    return length;
}

/*
 * In training, what the first step makes and keeps (an optimiser's state, gradients) looks as if
 * the loading ended behind it. But blocks that come and go in each step were there before: where
 * most kinds of them had their first, the steps had begun.
 */
static void pull_boundary(struct berth_judgement *judgement)
{
    uint32_t length = list_repeated(judgement, true);

    if (length > 0 && judgement->numbers[length / 2] < judgement->boundary)
        judgement->boundary = judgement->numbers[length / 2];
}

/* A key that comes k times in a step was born k times as often as there were steps. */
static void count_steps(struct berth_judgement *judgement)
{
    uint32_t length = list_repeated(judgement, false);
    uint64_t since = judgement->births - judgement->boundary;

    if (length == 0)
        return;
    judgement->steps_seen = judgement->numbers[length / 4];
    judgement->births_per_step = since / judgement->steps_seen;
}

bool berth__class_has_size(const struct berth_judgement *judgement, uint64_t size)
{
    uint64_t at = berth__class_mix(size) & (judgement->sizes_room - 1);

    while (judgement->sizes[at] != 0 && judgement->sizes[at] != size)
        at = (at + 1) & (judgement->sizes_room - 1);
    return judgement->sizes[at] == size;
}

static void add_size(struct berth_judgement *judgement, uint64_t size)
{
    uint64_t at = berth__class_mix(size) & (judgement->sizes_room - 1);

    while (judgement->sizes[at] != 0 && judgement->sizes[at] != size)
        at = (at + 1) & (judgement->sizes_room - 1);
    judgement->sizes[at] = size;
}

/* The sizes of what the steps make: among them are those of the gradients of what is trained. */
static void note_sizes(struct berth_judgement *judgement)
{
    for (uint32_t i = 0; i < BERTH_CLASS_KEYS; i++) {
        const struct berth_class_key *key = key_at(judgement, i);

        if (key && is_stepped(judgement, key))
            add_size(judgement, key->size);
    }
    for (uint32_t i = judgement->count; i-- > 0;)
        if (judgement->seen[i].birth > judgement->boundary)
            add_size(judgement, judgement->seen[i].size);
}

void berth__class_phase(struct berth_judgement *judgement)
{
    struct berth_classifier *classifier = judgement->classifier;
    struct berth_class_family *families =
        atomic_load_explicit(&classifier->families, memory_order_acquire);
    uint64_t declared = berth__class_load(&classifier->first_step_birth);
    bool has_boundary =
        find_boundary(judgement, ANY_FAMILY, judgement->births, &judgement->boundary) > 0;

    if (declared)
        judgement->boundary = declared - 1;
    judgement->is_steady = find_main(judgement) && (declared || has_boundary);
    judgement->only_main = judgement->is_steady && main_has_weights(judgement);
    if (declared) {
        judgement->is_steady = true;
        judgement->is_settled = judgement->steps >= 2;
        judgement->steps_seen = judgement->steps;
    } else if (judgement->is_steady) {
        if (judgement->only_main)
            find_boundary(judgement, judgement->main, families[judgement->main].births,
                          &judgement->boundary);
        pull_boundary(judgement);
        count_steps(judgement);
        judgement->is_settled = judgement->births - judgement->boundary >= judgement->boundary ||
                                judgement->steps_seen >= 2;
    }
    note_sizes(judgement);
}
