/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict on one block. Classifier.7 tells it in words.
 */
#include "alloc/classifier_parts.h"

/* So many comparisons without a change, and a block is taken to be read only. */
#define COMPARISONS_FINAL 3
/* A block that was made late has no load phase to speak for it. */
#define COMPARISONS_LATE 4

static void look_offsets(size_t size, size_t offsets[BERTH_LOOK_WORDS])
{
    size_t stride = size / BERTH_LOOK_WORDS;

    /* A different place in each part, so that no row of a matrix is hit by all. */
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        size_t within = stride > 8 ? berth__class_mix(i + 1) % (stride - 7) : 0;

        offsets[i] = ((size_t)i * stride + within) & ~(size_t)7;
    }
}

/* 0 for zero alone. */
static uint16_t fold(uint64_t word)
{
    return word == 0 ? 0 : (uint16_t)(berth__class_mix(word) >> 40) | 1;
}

/* Looks at the block, if something was done since the last look. False: nothing can be seen. */
static bool look(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                 struct berth_class_block *block)
{
    const struct berth_classifier_ops *ops =
        atomic_load_explicit(&judgement->classifier->ops, memory_order_relaxed);
    uint64_t now = berth__class_now(judgement->classifier);
    uint64_t words[BERTH_LOOK_WORDS], changed = 0;
    size_t offsets[BERTH_LOOK_WORDS];

    if (block->looks > 0 && block->looked_at == now)
        return true;
    look_offsets(seen->size, offsets);
    if (!ops->look || seen->size < BERTH_LOOK_WORDS * sizeof(uint64_t) ||
        !ops->look(block->address, offsets, words))
        return false;
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        uint16_t folded = fold(words[i]);

        if (folded != block->words[i])
            changed |= (uint64_t)1 << i;
        block->words[i] = folded;
    }
    if (block->looks > 0) {
        block->rewritten |= changed & block->changed;
        block->changed |= changed;
        block->compared += block->compared < UINT8_MAX;
    }
    block->looks = 1;
    block->looked_at = now;
    return true;
}

static bool is_blank(const struct berth_class_block *block)
{
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        if (block->words[i] != 0)
            return false;
    return true;
}

/* At most `level`, and no more certain than the phase is. */
static void say(const struct berth_judgement *judgement, struct berth_class_verdict *ret,
                enum berth_tag tag, enum berth_class_level level, enum berth_class_reason reason)
{
    enum berth_class_level phase = judgement->is_settled ? BERTH_CLASS_FINAL
                                   : judgement->is_firm  ? BERTH_CLASS_FIRM
                                                         : BERTH_CLASS_TENTATIVE;

    ret->tag = tag;
    ret->level = level < phase ? level : phase;
    ret->reason = reason;
}

static enum berth_class_level final_if(bool is_final)
{
    return is_final ? BERTH_CLASS_FINAL : BERTH_CLASS_FIRM;
}

/* A block from before the boundary. */
static void judge_old(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                      const struct berth_class_block *block, bool can_see,
                      struct berth_class_verdict *ret)
{
    struct berth_class_key *key = berth__class_key(judgement->classifier, block->key, false);
    enum berth_class_level level = final_if(!can_see || block->compared >= COMPARISONS_FINAL);
    bool has_gradient = berth__class_has_size(judgement, seen->size);
    bool is_appended = block->changed != 0 && block->rewritten == 0 && !has_gradient;

    /* Reserved and not filled yet: it may become anything. */
    if (can_see && is_blank(block) && block->changed == 0)
        return;
    if (key && is_appended)
        key->appended = 1;
    if (is_appended || (block->changed == 0 && key && key->appended))
        say(judgement, ret, BERTH_TAG_KV, final_if(block->compared >= COMPARISONS_LATE),
            BERTH_REASON_APPENDED);
    else if (block->changed == 0)
        say(judgement, ret, BERTH_TAG_WEIGHT, level, BERTH_REASON_READ_ONLY);
    else if (has_gradient)
        say(judgement, ret, BERTH_TAG_WEIGHT, level, BERTH_REASON_TRAINED);
    else
        say(judgement, ret, BERTH_TAG_ACTIVATION, level, BERTH_REASON_REUSED);
}

/* How many steps the block has lived for; 0 where steps are not known. */
static uint64_t steps_lived(const struct berth_judgement *judgement,
                            const struct berth_class_seen *seen,
                            const struct berth_class_block *block)
{
    if (judgement->steps > 0)
        return judgement->steps - block->step;
    if (judgement->births_per_step == 0)
        return 0;
    return (judgement->births - seen->birth) / judgement->births_per_step;
}

/* Whether a block of the same size was there before the steps began. */
static bool has_older_twin(const struct berth_judgement *judgement,
                           const struct berth_class_seen *seen)
{
    for (uint32_t i = 0; i < judgement->count; i++) {
        if (judgement->seen[i].birth > judgement->boundary)
            return false;
        if (judgement->seen[i].size == seen->size)
            return true;
    }
    return false;
}

/* A block from behind the boundary that has lived for some steps. */
static void judge_kept(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                       struct berth_class_block *block, struct berth_class_key *key,
                       struct berth_class_verdict *ret)
{
    bool is_final = block->compared >= COMPARISONS_LATE;

    if (block->changed && !block->rewritten)
        key->appended = 1;
    if (block->rewritten && has_older_twin(judgement, seen))
        say(judgement, ret, BERTH_TAG_UNTAGGED, final_if(is_final), BERTH_REASON_STATE);
    else if (block->rewritten)
        say(judgement, ret, BERTH_TAG_ACTIVATION, final_if(is_final), BERTH_REASON_REUSED);
    else if (key->appended)
        say(judgement, ret, BERTH_TAG_KV, final_if(is_final), BERTH_REASON_APPENDED);
    else if (key->births >= 3 && key->deaths == 0)
        say(judgement, ret, BERTH_TAG_KV, final_if(is_final), BERTH_REASON_COLLECTED);
    else if (is_final)
        say(judgement, ret, BERTH_TAG_WEIGHT, BERTH_CLASS_FINAL, BERTH_REASON_LATE);
    else
        say(judgement, ret, BERTH_TAG_KV, BERTH_CLASS_TENTATIVE, BERTH_REASON_KEPT);
}

static void judge_young(const struct berth_judgement *judgement,
                        const struct berth_class_seen *seen, struct berth_class_block *block,
                        struct berth_class_verdict *ret)
{
    struct berth_class_key *key = berth__class_key(judgement->classifier, block->key, false);
    unsigned growths;

    if (berth__class_grows(judgement->classifier, seen->family, seen->size, &growths)) {
        say(judgement, ret, BERTH_TAG_KV, growths >= 2 ? BERTH_CLASS_FIRM : BERTH_CLASS_TENTATIVE,
            BERTH_REASON_GROWING);
        return;
    }
    if (!key)
        return;
    if (steps_lived(judgement, seen, block) >= 2) {
        if (look(judgement, seen, block))
            judge_kept(judgement, seen, block, key, ret);
        return;
    }
    /* Not for a block that has outlived all others of its kind. */
    if (key->deaths < 2 || key->deaths * 2 < key->births ||
        judgement->births - seen->birth > 2 * (uint64_t)key->longest)
        return;
    if (key->instant * 2 > key->deaths)
        say(judgement, ret, BERTH_TAG_WORKSPACE, BERTH_CLASS_TENTATIVE, BERTH_REASON_IN_OPERATOR);
    else
        say(judgement, ret, BERTH_TAG_ACTIVATION, BERTH_CLASS_TENTATIVE, BERTH_REASON_IN_STEP);
}

/* Somebody asks, and no steps were seen: what is filled is likely to be of use. */
static void judge_quiet(const struct berth_judgement *judgement,
                        const struct berth_class_seen *seen, struct berth_class_block *block,
                        struct berth_class_verdict *ret)
{
    if (seen->family != judgement->largest || !look(judgement, seen, block) || is_blank(block))
        return;
    say(judgement, ret, BERTH_TAG_WEIGHT, BERTH_CLASS_TENTATIVE, BERTH_REASON_QUIET);
}

void berth__class_verdict(struct berth_judgement *judgement, const struct berth_class_seen *seen,
                          struct berth_class_verdict *ret)
{
    struct berth_class_block *block = berth__class_block(judgement->classifier, seen->number);

    if (!judgement->is_steady) {
        if (judgement->is_asked)
            judge_quiet(judgement, seen, block, ret);
        return;
    }
    if (judgement->only_main && seen->family != judgement->main) {
        say(judgement, ret, BERTH_TAG_UNTAGGED, final_if(seen->birth <= judgement->boundary),
            BERTH_REASON_ELSEWHERE);
        return;
    }
    if (seen->birth > judgement->boundary)
        judge_young(judgement, seen, block, ret);
    else
        judge_old(judgement, seen, block, look(judgement, seen, block), ret);
}
