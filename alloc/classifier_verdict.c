/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict on one block. Classifier.7 tells it in words.
 */
#include "alloc/classifier_parts.h"

/* So many comparisons without a change, and a block is taken to be read only. */
#define COMPARISONS_FINAL 3
/* A block that was made late has no load phase to speak for it. */
#define COMPARISONS_LATE 4
/* So many steps without a fill, and a block that was filled is taken to be read only. */
#define STEPS_LOADED 3

/* Blocks of one size that are such a part of what was there before the steps may be inputs; less
 * of it does not matter, and may be the scales of quantised weights, which are above zero, too. */
#define DATA_SHARE 16

/* Of one size, activations may be by chance. */
#define MIRRORED_SIZES 2

/* A block that was made late, and is full, may be a weight after so many comparisons. */
#define COMPARISONS_FULL 2

/* Whether the block and those of its size are so much that it matters what they are. */
static bool is_much(const struct berth_judgement *judgement, const struct berth_class_seen *seen)
{
    return berth__class_size(judgement, seen->size)->alive * seen->size >=
           judgement->old_bytes / DATA_SHARE;
}

/* Whether it may be inputs that the program keeps: integers, as indices and labels are, or so many
 * of its size that are above zero. */
static bool is_data(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                    const struct berth_class_block *block)
{
    return block->is_positive && (block->is_integers || is_much(judgement, seen));
}

/* Whether a layer may begin with such numbers, and inputs are larger; what has the size of a
 * gradient may be an optimiser's state. */
static bool is_made_small(const struct berth_judgement *judgement,
                          const struct berth_class_seen *seen,
                          const struct berth_class_block *block)
{
    return block->is_small && !berth__class_has_size(judgement, seen->size);
}

/* Whether it is one number everywhere, and no scales of a normalisation, which begin like that. */
static bool is_uniform(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                       const struct berth_class_block *block)
{
    return block->is_constant && is_much(judgement, seen);
}

/*
 * Whether its numbers tell that it is no weight as long as it has them: it may be cleared so before
 * it is used, and what is written there then speaks for itself.
 */
static bool is_void(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                    const struct berth_class_block *block, enum berth_class_reason *ret_reason)
{
    if (block->is_mask)
        *ret_reason = BERTH_REASON_MASK;
    else if (block->is_angles)
        *ret_reason = BERTH_REASON_ANGLES;
    else if (block->is_pointers)
        *ret_reason = BERTH_REASON_POINTERS;
    else if (is_uniform(judgement, seen, block))
        *ret_reason = BERTH_REASON_CONSTANT;
    else
        return false;
    return true;
}

/* How certain the phase is: by one less where it may be no more than the program's start, of which
 * who asks is told nevertheless. */
static enum berth_class_level level_of_phase(const struct berth_judgement *judgement)
{
    if (judgement->is_settled)
        return judgement->is_starting ? BERTH_CLASS_FIRM : BERTH_CLASS_FINAL;
    if (judgement->is_firm && !judgement->is_starting)
        return BERTH_CLASS_FIRM;
    return judgement->is_starting && !judgement->is_firm && !judgement->is_asked
               ? BERTH_CLASS_UNKNOWN
               : BERTH_CLASS_TENTATIVE;
}

/* At most `level`, and no more certain than the phase is. */
static void say(const struct berth_judgement *judgement, struct berth_class_verdict *ret,
                enum berth_tag tag, enum berth_class_level level, enum berth_class_reason reason)
{
    enum berth_class_level phase = level_of_phase(judgement);

    ret->tag = tag;
    ret->level = level < phase ? level : phase;
    ret->reason = reason;
}

static enum berth_class_level final_if(bool is_final)
{
    return is_final ? BERTH_CLASS_FINAL : BERTH_CLASS_FIRM;
}

/* Of the judgements that saw steps, two of three must have found that a block was there before
 * them: in training, as long as the second step goes on, what the first one keeps looks so, too. */
#define FOUND_YOUNG_SHARE 2

/* Whether what is said of a block for being there before the first step may be final. */
static bool is_surely_old(const struct berth_class_block *block)
{
    return block->found_old > FOUND_YOUNG_SHARE * block->found_young;
}

/* How certain it is what a block is that was there before the first step. */
static enum berth_class_level level_of_old(const struct berth_class_block *block, bool can_see)
{
    return final_if((!can_see || block->compared >= COMPARISONS_FINAL) && is_surely_old(block));
}

/* Whether it changes as what is trained does. */
static bool is_like_trained(const struct berth_class_block *block)
{
    return berth__class_is_steady(block) && !block->is_positive;
}

/*
 * Whether this may be a gradient or state of that one, which has its size and was there before it:
 * that is steadier, or has numbers below zero where this has none, as sums of squares.
 */
static bool is_original(const struct berth_class_block *other,
                        const struct berth_class_block *block)
{
    return is_like_trained(other) ||
           (block->is_positive && other->replacements > 0 && !other->is_positive);
}

/* Whether an older one is its original. */
static bool is_state_of_older(const struct berth_judgement *judgement,
                              const struct berth_class_seen *seen,
                              const struct berth_class_block *block)
{
    if (is_like_trained(block))
        return false;
    for (uint32_t i = 0; i < judgement->count && judgement->seen[i].birth < seen->birth; i++) {
        const struct berth_class_seen *other = &judgement->seen[i];

        if (other->size == seen->size && other->family == seen->family &&
            is_original(berth__class_block(judgement->classifier, other->number), block))
            return true;
    }
    return false;
}

/* Whether of another of its size and its maker's, from before the steps, rows are seen to be
 * trained. */
static bool has_steady_twin(const struct berth_judgement *judgement,
                            const struct berth_class_seen *seen)
{
    for (uint32_t i = 0; i < judgement->count && judgement->seen[i].birth <= judgement->boundary;
         i++) {
        const struct berth_class_block *other;

        if (judgement->seen[i].size != seen->size || judgement->seen[i].family != seen->family ||
            judgement->seen[i].number == seen->number)
            continue;
        other = berth__class_block(judgement->classifier, judgement->seen[i].number);
        if (berth__class_is_steady(other) && !other->is_positive)
            return true;
    }
    return false;
}

/* What was there before the steps, but for what may be inputs. */
static uint64_t trainable_bytes(const struct berth_judgement *judgement)
{
    return judgement->old_bytes - (judgement->idle_bytes < judgement->old_bytes
                                       ? judgement->idle_bytes
                                       : judgement->old_bytes);
}

/* Whether most of what was there before the steps is seen to be trained. */
bool berth__class_is_trained(const struct berth_judgement *judgement)
{
    return judgement->trained_bytes > 0 &&
           judgement->trained_bytes >= trainable_bytes(judgement) / 2;
}

/* Whether the program trains: that, or steps make blocks as large as most of it, its gradients.
 * The first step has made these for some weights before it makes them for all. */
static bool is_training(const struct berth_judgement *judgement)
{
    return berth__class_is_trained(judgement) ||
           (judgement->mirrored_sizes >= MIRRORED_SIZES &&
            judgement->mirrored_bytes >= trainable_bytes(judgement) / 4 * 3);
}

/* Whether all else gets gradients, so that the next steps show whether it alone is not trained,
 * however much of it they read. The first time it is not known yet what else there is. */
static bool may_train(const struct berth_judgement *judgement,
                      const struct berth_class_block *block)
{
    if (judgement->is_settled && block->compared >= COMPARISONS_LATE)
        return false;
    return !judgement->classifier->knows_training ||
           (is_training(judgement) && !berth__class_is_trained(judgement));
}

/* Whether it will be known soon if a block is inputs: that, or a watch tells. */
static bool is_open(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                    const struct berth_class_block *block)
{
    return may_train(judgement, block) ||
           (block->reads == BERTH_READS_UNKNOWN && berth__class_may_watch(judgement, seen->size));
}

/* Whether it is rather inputs than a table of a model, as long as no watch has told. */
static bool is_likely_input(const struct berth_class_block *block)
{
    return block->is_suspect && block->reads == BERTH_READS_UNKNOWN &&
           (block->is_last || block->is_listed);
}

/* A block from before the boundary whose content was not seen to change. */
static void judge_unwritten(const struct berth_judgement *judgement,
                            const struct berth_class_seen *seen, struct berth_class_block *block,
                            bool can_see, struct berth_class_verdict *ret)
{
    enum berth_class_level level = level_of_old(block, can_see);
    enum berth_class_reason reason;

    /* What is trained has gradients of its size; else that of what steps make tells nothing. */
    block->is_suspect = can_see && block->is_wide &&
                        !(berth__class_has_size(judgement, seen->size) && is_training(judgement));
    if (can_see && is_data(judgement, seen, block) && !is_made_small(judgement, seen, block))
        say(judgement, ret, BERTH_TAG_UNTAGGED, level, BERTH_REASON_DATA);
    else if (can_see && is_void(judgement, seen, block, &reason))
        say(judgement, ret, BERTH_TAG_UNTAGGED, BERTH_CLASS_TENTATIVE, reason);
    else if (block->is_suspect && berth__class_is_trained(judgement) &&
             !has_steady_twin(judgement, seen))
        say(judgement, ret, BERTH_TAG_UNTAGGED, level, BERTH_REASON_UNTRAINED);
    else if (block->is_suspect && block->reads == BERTH_READS_PARTS)
        say(judgement, ret, BERTH_TAG_UNTAGGED, level, BERTH_REASON_PARTS);
    else if (is_likely_input(block) &&
             (block->compared < COMPARISONS_LATE || may_train(judgement, block) ||
              berth__class_is_watching(judgement, seen->size)))
        return;
    else if (block->is_suspect && block->is_last && block->reads != BERTH_READS_ROWS)
        say(judgement, ret, BERTH_TAG_UNTAGGED, level, BERTH_REASON_LAST);
    else if (block->is_suspect && is_open(judgement, seen, block))
        /* It is known soon; who asks before has an answer that may change. */
        say(judgement, ret, BERTH_TAG_WEIGHT,
            judgement->is_asked ? BERTH_CLASS_TENTATIVE : BERTH_CLASS_UNKNOWN,
            BERTH_REASON_READ_ONLY);
    else
        say(judgement, ret, BERTH_TAG_WEIGHT, level, BERTH_REASON_READ_ONLY);
}

/*
 * Whether the block was written piece by piece, no place twice: a cache. Of what has the size of a
 * gradient, that may be the rows of a table that is trained: then numbers change that were there,
 * by little.
 */
static bool is_appended(const struct berth_judgement *judgement,
                        const struct berth_class_seen *seen, const struct berth_class_block *block)
{
    if (!block->is_pieced || block->rewritten != 0)
        return false;
    return !berth__class_has_size(judgement, seen->size) ||
           (!is_training(judgement) && block->replaced_words != 1);
}

/*
 * Whether numbers were replaced for the last time between two looks of which the first was before
 * the steps: a framework fills a layer when it makes it, and again when the model is complete or a
 * file is read. Steps that are declared make the time of a look larger than any birth. What was
 * appended is a cache's, whenever it was.
 */
static bool is_made_anew(const struct berth_judgement *judgement,
                         const struct berth_class_block *block)
{
    return block->replaced_words > 0 && block->unchanged_to <= judgement->boundary;
}

/* A block from before the boundary. */
static void judge_old(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                      struct berth_class_block *block, bool can_see,
                      struct berth_class_verdict *ret)
{
    struct berth_class_key *key = berth__class_key(judgement->classifier, block->key, false);
    bool has_gradient = berth__class_has_size(judgement, seen->size);
    enum berth_class_level level;
    bool appended;

    if (is_made_anew(judgement, block))
        berth__class_forget_changes(block);
    level = level_of_old(block, can_see);
    appended = is_appended(judgement, seen, block);
    block->is_suspect = false;
    /* Reserved, and not filled yet or filled from its start on: it may become anything. */
    if (can_see && berth__class_has_room(block) && block->changed == 0)
        return;
    if (block->changed != 0 && block->replacements == 0 && berth__class_is_steady(block) &&
        !(has_gradient && is_state_of_older(judgement, seen, block))) {
        say(judgement, ret, BERTH_TAG_WEIGHT, level, BERTH_REASON_TOUCHED_UP);
        return;
    }
    /* One word may have been struck by either. */
    if (block->is_pieced && block->replaced_words == 1 &&
        (has_gradient ? !is_training(judgement) : appended && block->turned_words == 0))
        return;
    if (key && appended)
        key->appended = 1;
    /* What is full and never written is no cache, whatever else has its size. */
    if (appended || (block->changed == 0 && key && key->appended && berth__class_blank(block) > 0))
        say(judgement, ret, BERTH_TAG_KV, final_if(block->compared >= COMPARISONS_LATE),
            BERTH_REASON_APPENDED);
    else if (block->changed == 0)
        judge_unwritten(judgement, seen, block, can_see, ret);
    else if (has_gradient && is_state_of_older(judgement, seen, block))
        say(judgement, ret, BERTH_TAG_UNTAGGED, level, BERTH_REASON_STATE);
    else if (has_gradient)
        say(judgement, ret, BERTH_TAG_WEIGHT, level, BERTH_REASON_TRAINED);
    else
        say(judgement, ret, BERTH_TAG_ACTIVATION, level, BERTH_REASON_REUSED);
}

/* How many steps there were since this birth, in this step; 0 where steps are not known. */
static uint64_t steps_since(const struct berth_judgement *judgement, uint64_t birth, uint64_t step)
{
    if (judgement->steps > 0)
        return judgement->steps > step ? judgement->steps - step : 0;
    if (judgement->births_per_step == 0 || judgement->births < birth)
        return 0;
    return (judgement->births - birth) / judgement->births_per_step;
}

static uint64_t steps_lived(const struct berth_judgement *judgement,
                            const struct berth_class_seen *seen,
                            const struct berth_class_block *block)
{
    return steps_since(judgement, seen->birth, block->step);
}

/* Whether a block of the same size was there before the steps began. */
static bool has_older_twin(const struct berth_judgement *judgement,
                           const struct berth_class_seen *seen)
{
    return berth__class_size(judgement, seen->size)->old > 0;
}

/* Whether steps add blocks of this key, and have not ceased to: a pool would at some time. */
static bool is_collected(const struct berth_judgement *judgement,
                         const struct berth_class_seen *seen, const struct berth_class_key *key)
{
    uint64_t steps = judgement->steps_seen ? judgement->steps_seen : 1;
    uint64_t last = key->last_birth;

    return key->births >= 3 && key->deaths == 0 && last > seen->birth &&
           (last - seen->birth) / ((judgement->births - judgement->boundary) / steps + 1) >= 2;
}

/* Whether others of its kind go, and come until now, as gradients do. */
static bool is_still_made(const struct berth_judgement *judgement,
                          const struct berth_class_seen *seen, const struct berth_class_key *key)
{
    return key->deaths > 0 && key->last_birth > seen->birth + (judgement->births - seen->birth) / 2;
}

/* Gradients may be summed in so many steps before what the optimiser keeps is written. */
#define STEPS_SUMMED 8

/* Whether it is as large as a weight, and an optimiser may write it yet: judgements may all fall
 * between two times that he works. */
static bool may_be_awaited(const struct berth_judgement *judgement,
                           const struct berth_class_seen *seen,
                           const struct berth_class_block *block)
{
    return has_older_twin(judgement, seen) && is_training(judgement) &&
           steps_lived(judgement, seen, block) < STEPS_SUMMED;
}

/* A block from behind the boundary that has lived for some steps. */
static void judge_kept(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                       struct berth_class_block *block, struct berth_class_key *key,
                       struct berth_class_verdict *ret)
{
    bool is_final = block->compared >= COMPARISONS_LATE;
    enum berth_class_reason reason;

    /* What may be loading fills a layer when it makes it, and when the model is complete. */
    if (judgement->is_doubtful && block->replacements == 1)
        return;
    if (block->is_pieced && !block->rewritten)
        key->appended = 1;
    /* The gradient of a table, and what follows it, is written in the rows that a step has read. */
    if (has_older_twin(judgement, seen) &&
        (block->rewritten || berth__class_is_trained(judgement) ||
         (block->changed != 0 && is_training(judgement))))
        say(judgement, ret, BERTH_TAG_UNTAGGED,
            /* A copy that follows a weight may not have changed yet. */
            block->changed == 0 && !is_final ? BERTH_CLASS_TENTATIVE : final_if(is_final),
            BERTH_REASON_STATE);
    else if (block->rewritten)
        say(judgement, ret, BERTH_TAG_ACTIVATION, final_if(is_final), BERTH_REASON_REUSED);
    else if (has_older_twin(judgement, seen) && is_still_made(judgement, seen, key) &&
             (block->changed != 0 || berth__class_has_room(block)))
        return; /* a state, or a cache as large as a weight, and as what the prompt makes */
    else if (key->appended)
        say(judgement, ret, BERTH_TAG_KV, final_if(is_final), BERTH_REASON_APPENDED);
    else if (is_collected(judgement, seen, key))
        say(judgement, ret, BERTH_TAG_KV,
            judgement->is_filling ? BERTH_CLASS_UNKNOWN : final_if(is_final),
            BERTH_REASON_COLLECTED);
    else if (berth__class_has_room(block))
        say(judgement, ret, BERTH_TAG_KV,
            judgement->is_doubtful || (has_older_twin(judgement, seen) && is_training(judgement))
                ? BERTH_CLASS_UNKNOWN
                : BERTH_CLASS_TENTATIVE,
            BERTH_REASON_KEPT);
    else if (is_data(judgement, seen, block))
        say(judgement, ret, BERTH_TAG_UNTAGGED, final_if(is_final), BERTH_REASON_DATA);
    else if (is_void(judgement, seen, block, &reason))
        say(judgement, ret, BERTH_TAG_UNTAGGED, BERTH_CLASS_TENTATIVE, reason);
    else if (berth__class_may_be_replaced(judgement, seen, key) ||
             may_be_awaited(judgement, seen, block))
        return;
    else if (is_final)
        say(judgement, ret, BERTH_TAG_WEIGHT, BERTH_CLASS_FINAL, BERTH_REASON_LATE);
    else if (block->compared >= COMPARISONS_FULL)
        say(judgement, ret, BERTH_TAG_WEIGHT,
            block->compared > COMPARISONS_FULL ? BERTH_CLASS_FIRM : BERTH_CLASS_TENTATIVE,
            BERTH_REASON_LATE);
}

static bool judge_growing(const struct berth_judgement *judgement,
                          const struct berth_class_seen *seen, struct berth_class_verdict *ret)
{
    unsigned growths;

    if (has_older_twin(judgement, seen) ||
        !berth__class_grows(judgement->classifier, seen->family, seen->size, &growths) ||
        growths == 0)
        return false;
    say(judgement, ret, BERTH_TAG_KV, growths >= 2 ? BERTH_CLASS_FIRM : BERTH_CLASS_TENTATIVE,
        BERTH_REASON_GROWING);
    return true;
}

/* A block that may go as others of its key did: that is a guess, as it is at birth, so that what is
 * seen of the block itself counts for more. Of weights that are packed, copies go, and one stays.
 */
static void judge_passing(const struct berth_judgement *judgement,
                          const struct berth_class_seen *seen, const struct berth_class_key *key,
                          struct berth_class_verdict *ret)
{
    /* Not for a block that has outlived all others of its kind. */
    if (key->deaths < 2 || key->deaths * 2 < key->births ||
        judgement->births - seen->birth > 2 * (uint64_t)key->longest)
        return;
    if (key->instant * 2 > key->deaths)
        say(judgement, ret, BERTH_TAG_WORKSPACE, BERTH_CLASS_GUESSED, BERTH_REASON_IN_OPERATOR);
    else
        say(judgement, ret, BERTH_TAG_ACTIVATION, BERTH_CLASS_GUESSED, BERTH_REASON_IN_STEP);
}

static void judge_young(const struct berth_judgement *judgement,
                        const struct berth_class_seen *seen, struct berth_class_block *block,
                        struct berth_class_verdict *ret)
{
    struct berth_class_key *key = berth__class_key(judgement->classifier, block->key, false);

    uint64_t lived = steps_lived(judgement, seen, block);
    enum berth_class_reason kin;
    bool can_see;

    /* What grows in each step is gone after two. */
    if ((lived < 2 && judge_growing(judgement, seen, ret)) || !key)
        return;
    can_see = lived >= 1 && berth__class_look(judgement, seen, block);
    kin = can_see ? berth__class_kin(judgement, seen, block, key) : BERTH_REASON_NONE;
    if (kin != BERTH_REASON_NONE)
        say(judgement, ret, BERTH_TAG_WEIGHT,
            block->compared >= COMPARISONS_LATE ? BERTH_CLASS_FINAL
            : kin == BERTH_REASON_FOLLOWING     ? BERTH_CLASS_FIRM
                                                : BERTH_CLASS_TENTATIVE,
            kin);
    else if (lived < 2)
        judge_passing(judgement, seen, key, ret);
    else if (can_see)
        judge_kept(judgement, seen, block, key, ret);
}

/* How many of a block's parts were filled from the host: most of each, and how often. */
struct fills {
    unsigned once, again, more; /* `again` of at least BERTH_FILLS_AGAIN times, `more` of above */
};

#define MOST_PARTS (BERTH_FILL_PARTS / 2)

static struct fills count_fills(const struct berth_class_block *block, uint64_t size)
{
    uint64_t part = berth__class_fill_part(size) / berth__class_fill_unit(size);
    struct fills fills = {0};

    for (unsigned i = 0; i < BERTH_FILL_PARTS; i++) {
        uint32_t fill = atomic_load_explicit(&block->fills[i], memory_order_relaxed);

        if (fill < BERTH_FILLS_AGAIN * part)
            fills.once += fill >= part / 2 && fill > 0;
        else
            fills.again++;
        fills.more += fill > BERTH_FILLS_AGAIN * part;
    }
    return fills;
}

/* A block that the host has filled, where fills alone are seen. */
static void judge_filled(const struct berth_judgement *judgement,
                         const struct berth_class_seen *seen, const struct berth_class_block *block,
                         const struct fills *fills, const struct berth_class_key *key,
                         struct berth_class_verdict *ret)
{
    uint64_t boundary = judgement->boundary;
    uint64_t since = steps_since(judgement, block->loaded_at, block->loaded_step);
    bool is_old = seen->birth <= boundary;

    if (is_old && block->filled_at <= boundary && block->filled_step == 0)
        say(judgement, ret, BERTH_TAG_WEIGHT, final_if(since >= STEPS_LOADED), BERTH_REASON_LOADED);
    else if (fills->again >= MOST_PARTS)
        say(judgement, ret, BERTH_TAG_ACTIVATION, final_if(fills->more >= MOST_PARTS),
            BERTH_REASON_REFILLED);
    else if (fills->once >= MOST_PARTS && since >= STEPS_LOADED && (!key || key->deaths == 0))
        say(judgement, ret, BERTH_TAG_WEIGHT, final_if(since > STEPS_LOADED),
            is_old && block->loaded_at <= boundary ? BERTH_REASON_LOADED
                                                   : BERTH_REASON_LOADED_LATE);
}

/* Somebody asks, and no steps were seen. */
static void judge_idle(const struct berth_judgement *judgement, const struct fills *fills,
                       struct berth_class_verdict *ret)
{
    if (fills->more >= MOST_PARTS)
        say(judgement, ret, BERTH_TAG_ACTIVATION, BERTH_CLASS_TENTATIVE, BERTH_REASON_REFILLED);
    else if (fills->once >= MOST_PARTS)
        say(judgement, ret, BERTH_TAG_WEIGHT, BERTH_CLASS_TENTATIVE, BERTH_REASON_LOADED_IDLE);
}

/*
 * A block whose content is out of reach. What kernels write is not seen, so of blocks that the host
 * has not filled at least by half, only those of the steps are judged, by when they come and go.
 */
static void judge_unseen(const struct berth_judgement *judgement,
                         const struct berth_class_seen *seen, const struct berth_class_block *block,
                         struct berth_class_verdict *ret)
{
    struct berth_class_key *key = berth__class_key(judgement->classifier, block->key, false);
    struct fills fills = count_fills(block, seen->size);

    if (!judgement->is_steady) {
        if (judgement->is_asked)
            judge_idle(judgement, &fills, ret);
        return;
    }
    if (fills.once + fills.again >= MOST_PARTS) {
        judge_filled(judgement, seen, block, &fills, key, ret);
        return;
    }
    if (seen->birth <= judgement->boundary || judge_growing(judgement, seen, ret) || !key)
        return;
    if (steps_lived(judgement, seen, block) < 2)
        judge_passing(judgement, seen, key, ret);
    else if (is_collected(judgement, seen, key))
        say(judgement, ret, BERTH_TAG_KV, BERTH_CLASS_FIRM, BERTH_REASON_COLLECTED);
}

/*
 * A block of another family than the main one. Where another has more, that may turn out to be the
 * main one: nothing is said, so that a tentative word for it counts then. Else the main one has the
 * weights, and what was thought of this block while the program started counts no more.
 */
static void judge_elsewhere(const struct berth_judgement *judgement,
                            const struct berth_class_seen *seen,
                            const struct berth_class_block *block, struct berth_class_verdict *ret)
{
    bool is_old = seen->birth <= judgement->boundary;
    bool was_main = block->level == BERTH_CLASS_FIRM && block->tag != BERTH_TAG_UNTAGGED;

    if (judgement->main != judgement->largest)
        return;
    say(judgement, ret, BERTH_TAG_UNTAGGED, final_if(is_old), BERTH_REASON_ELSEWHERE);
    if ((is_old || was_main) && judgement->is_firm && !judgement->is_starting)
        ret->level = BERTH_CLASS_FINAL;
}

/* Counts on which side of the first step judgements find it. */
static void note_side(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                      struct berth_class_block *block)
{
    block->is_young = judgement->is_steady && seen->birth > judgement->boundary;
    if (!judgement->is_steady)
        return;
    if (block->found_young == UINT8_MAX || block->found_old == UINT8_MAX) {
        block->found_young /= 2;
        block->found_old /= 2;
    }
    block->found_young += block->is_young;
    block->found_old += !block->is_young;
}

void berth__class_verdict(struct berth_judgement *judgement, const struct berth_class_seen *seen,
                          struct berth_class_verdict *ret)
{
    struct berth_class_block *block = berth__class_block(judgement->classifier, seen->number);

    note_side(judgement, seen, block);
    if (atomic_load_explicit(&judgement->classifier->ops, memory_order_relaxed)->tells_fills) {
        judge_unseen(judgement, seen, block, ret);
        return;
    }
    if (!judgement->is_steady) {
        if (judgement->is_asked)
            berth__class_quiet(judgement, seen, block, ret);
        return;
    }
    if (judgement->only_main && seen->family != judgement->main) {
        judge_elsewhere(judgement, seen, block, ret);
        return;
    }
    if (!judgement->is_asked && berth__class_is_filled(judgement, seen)) {
        if (!block->is_watched)
            berth__class_look(judgement, seen, block);
        return;
    }
    if (block->is_watched && block->looks == 0) {
        /* Since before the steps: a look would be taken for a read. */
        if (judgement->is_asked && seen->birth <= judgement->boundary)
            say(judgement, ret, BERTH_TAG_WEIGHT, BERTH_CLASS_TENTATIVE, BERTH_REASON_READ_ONLY);
        return;
    }
    if (seen->birth > judgement->boundary) {
        judge_young(judgement, seen, block, ret);
        /* What may be the rest of the loading: of weights that are computed of others, as many come
         * and go as stay. */
        if (judgement->is_asked && judgement->is_doubtful && ret->level <= BERTH_CLASS_GUESSED)
            berth__class_quiet(judgement, seen, block, ret);
    } else {
        judge_old(judgement, seen, block, berth__class_look(judgement, seen, block), ret);
    }
}

/*
 * Whether the verdict speaks against a weight by what was not seen: no write, or no gradient beside
 * the writes. The next step may show it.
 */
static bool is_from_absence(const struct berth_class_verdict *verdict)
{
    return verdict->reason == BERTH_REASON_DATA || verdict->reason == BERTH_REASON_PARTS ||
           verdict->reason == BERTH_REASON_LAST || verdict->reason == BERTH_REASON_UNTRAINED ||
           verdict->reason == BERTH_REASON_REUSED || verdict->reason == BERTH_REASON_CONSTANT ||
           verdict->reason == BERTH_REASON_MASK || verdict->reason == BERTH_REASON_ANGLES ||
           verdict->reason == BERTH_REASON_POINTERS;
}

/*
 * Whether a watch has answered what was not known when somebody asked: had nobody asked, the block
 * would have no tag yet, and what watches answer of its kind stays.
 */
static bool is_answered(const struct berth_class_block *block,
                        const struct berth_class_verdict *verdict)
{
    return (verdict->reason == BERTH_REASON_PARTS || verdict->reason == BERTH_REASON_LAST) &&
           block->reason == BERTH_REASON_READ_ONLY && block->level == BERTH_CLASS_TENTATIVE;
}

/*
 * Whether it is called a weight because it was there before the first step, and that was found so
 * by few judgements: most of them, and this one, have found that steps made it. As certainty falls
 * by that, it is done only where so many changes are left as certainties.
 */
static bool is_overtaken(const struct berth_class_block *block,
                         const struct berth_class_verdict *verdict)
{
    bool is_from_before = block->reason == BERTH_REASON_READ_ONLY ||
                          block->reason == BERTH_REASON_TRAINED ||
                          block->reason == BERTH_REASON_TOUCHED_UP;

    return block->tag == BERTH_TAG_WEIGHT && is_from_before && block->level != BERTH_CLASS_FINAL &&
           block->is_young && block->found_young > block->found_old &&
           verdict->level >= BERTH_CLASS_TENTATIVE &&
           block->changes + 1u + (BERTH_CLASS_FINAL - verdict->level) <= BERTH_CLASS_CHANGES_MAX;
}

/*
 * A return is not made: of two tags that took turns neither is believed, once the verdict is final.
 * So that the better one is seldom lost, a weight's is taken away from absence only for good.
 */
bool berth__class_heed(struct berth_class_block *block, struct berth_class_verdict *verdict)
{
    bool is_change = verdict->tag != (enum berth_tag)block->tag;
    bool is_return = is_change && (block->had & berth__class_bit(verdict->tag));

    if (verdict->level <= (enum berth_class_level)block->level && !is_overtaken(block, verdict))
        return false;
    if (verdict->level != BERTH_CLASS_FINAL &&
        (is_return || (is_change && block->tag == BERTH_TAG_WEIGHT && is_from_absence(verdict) &&
                       !is_answered(block, verdict))))
        return false;
    if (is_return) {
        if (block->had & berth__class_bit(BERTH_TAG_UNTAGGED))
            return false;
        verdict->tag = BERTH_TAG_UNTAGGED;
        verdict->reason = BERTH_REASON_WAVERING;
    }
    block->had |= berth__class_bit(verdict->tag);
    berth__class_set(&block->tag, (uint8_t)verdict->tag);
    berth__class_set(&block->level, (uint8_t)verdict->level);
    berth__class_set(&block->reason, (uint8_t)verdict->reason);
    return true;
}
