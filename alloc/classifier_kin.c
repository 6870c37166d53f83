/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is made when the steps have begun and is a weight as an older one is: made of that one, a
 * copy that follows it while it is trained, or its like in another model of the same kind.
 */
#include "alloc/classifier_parts.h"

bool berth__class_may_be_replaced(const struct berth_judgement *judgement,
                                  const struct berth_class_seen *seen,
                                  const struct berth_class_key *key)
{
    return key->deaths > 0 && judgement->births - seen->birth <= 2 * (uint64_t)key->longest &&
           key->last_birth > judgement->boundary + (judgement->births - judgement->boundary) / 2;
}

/*
 * Whether a weight from before the steps has the same signs; `ret_later`: what has them may be
 * found to be one, or this judgement has looked at enough.
 */
static bool find_original(const struct berth_judgement *judgement,
                          const struct berth_class_seen *seen,
                          const struct berth_class_block *block, bool *ret_later)
{
    *ret_later = false;
    for (uint32_t i = 0; i < judgement->count && judgement->seen[i].birth <= judgement->boundary;
         i++) {
        const struct berth_class_block *other;

        if (judgement->classifier->pairs_left == 0) {
            *ret_later = true;
            return false;
        }
        judgement->classifier->pairs_left--;
        if (judgement->seen[i].size != seen->size || judgement->seen[i].family != seen->family)
            continue;
        other = berth__class_block(judgement->classifier, judgement->seen[i].number);
        if (other->looks == 0 || !berth__class_has_signs_of(block, other))
            continue;
        if (other->tag == BERTH_TAG_WEIGHT)
            return true;
        *ret_later = true;
    }
    return false;
}

/* What is found is kept: both may change, and signs with them. */
static bool has_original(const struct berth_judgement *judgement,
                         const struct berth_class_seen *seen, struct berth_class_block *block)
{
    bool is_later;

    if (!block->was_matched) {
        block->is_derived = find_original(judgement, seen, block, &is_later);
        block->was_matched = block->is_derived || !is_later;
    }
    return block->is_derived;
}

/* Whether all of its kind that were judged for good were weights, and none has gone. */
static bool is_of_weights(const struct berth_class_key *key)
{
    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++)
        if ((tag == BERTH_TAG_WEIGHT) !=
            (atomic_load_explicit(&key->finals[tag], memory_order_relaxed) > 0))
            return false;
    return key->deaths == 0;
}

/*
 * Whether it is the like of a weight that is there: a second model of the same kind, which is known
 * by that before it is known by time.
 */
static bool has_twin(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                     const struct berth_class_block *block, const struct berth_class_key *key)
{
    if (!is_of_weights(key))
        return false;
    for (uint32_t i = 0; i < judgement->count && judgement->seen[i].birth <= judgement->boundary;
         i++) {
        const struct berth_class_block *other;

        if (judgement->classifier->pairs_left == 0)
            return false;
        judgement->classifier->pairs_left--;
        if (judgement->seen[i].size != seen->size || judgement->seen[i].family != seen->family)
            continue;
        other = berth__class_block(judgement->classifier, judgement->seen[i].number);
        if (other->tag == BERTH_TAG_WEIGHT && other->level == BERTH_CLASS_FINAL &&
            other->changed == 0 && berth__class_is_like(block, other))
            return true;
    }
    return false;
}

/* Whether what changed of it did so by little: of the average of a table, of which steps train a
 * few rows, that may be one word. */
static bool is_following(const struct berth_class_block *block)
{
    return 2 * block->turned_words < block->replaced_words;
}

/*
 * What a compiler makes of weights when it has seen a first run, and folds other layers into them,
 * and a copy: signs tell at once what time would. What each step makes of them anew goes; and where
 * they are trained, a copy that does not change is what they were at that time, and no step reads
 * it; one that changes by little is their average.
 */
enum berth_class_reason berth__class_kin(const struct berth_judgement *judgement,
                                         const struct berth_class_seen *seen,
                                         struct berth_class_block *block,
                                         const struct berth_class_key *key)
{
    bool is_trained = berth__class_is_trained(judgement);
    bool is_changed = block->changed != 0;

    if (berth__class_size(judgement, seen->size)->old == 0 ||
        berth__class_may_be_replaced(judgement, seen, key))
        return BERTH_REASON_NONE;
    if (is_changed && !is_following(block))
        return BERTH_REASON_NONE;
    if (is_changed || !is_trained)
        if (has_original(judgement, seen, block))
            return is_changed ? BERTH_REASON_FOLLOWING : BERTH_REASON_DERIVED;
    return !is_changed && !is_trained && has_twin(judgement, seen, block, key) ? BERTH_REASON_TWIN
                                                                               : BERTH_REASON_NONE;
}
