/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What who asks is told where no steps are seen, or none but such as may be loading: what is filled
 * is likely to be of use. A program whose steps allocate nothing is like that for good; what it
 * writes is then seen from one question to the next, where it has worked in between.
 */
#include "alloc/classifier_parts.h"

/* Calls so close together are of one source file, or of one that is inlined into others. */
#define NEAR_CODE ((uintptr_t)64 << 10)
/* Of what is there, numbers near zero are that part at least: else the program's weights are as
 * large as inputs are, and those that were made last tell nothing. */
#define NEAR_ZERO_SHARE 8
/* A model may be filled when it is made, when it is complete, and from a file. */
#define REWRITES_SURE 3
/* So many comparisons without a change, while other blocks are written again and again. */
#define COMPARISONS_SURE 4

/* Whether who made it is the largest family, or the same code: a program in C asks for its weights
 * in several places. */
static bool is_near_largest(const struct berth_judgement *judgement, uint32_t family)
{
    const struct berth_class_family *families =
        atomic_load_explicit(&judgement->classifier->families, memory_order_acquire);
    uintptr_t largest =
        atomic_load_explicit(&families[judgement->largest].id, memory_order_relaxed);
    uintptr_t own = atomic_load_explicit(&families[family].id, memory_order_relaxed);

    return family == judgement->largest ||
           (own != 0 && largest != 0 && own - largest + NEAR_CODE <= 2 * NEAR_CODE);
}

/* What is no number of a model's, or not written yet. */
static bool is_void(const struct berth_class_block *block)
{
    return berth__class_has_room(block) || block->is_constant || block->is_integers ||
           block->is_mask || block->is_angles || block->is_pointers;
}

/* Written again and again, and not as weights are trained. */
static bool is_rewritten(const struct berth_class_block *block, unsigned times)
{
    return block->silent_rewrites >= times && !berth__class_is_steady(block);
}

/* Whether it has numbers near zero, of both signs, as most of a model has. */
static bool is_near_zero(const struct berth_class_block *block)
{
    return !block->is_positive && !block->is_scaled && !is_void(block) && !is_rewritten(block, 1);
}

/* What is watched was looked at when that began. */
static bool can_see(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                    struct berth_class_block *block)
{
    return is_near_largest(judgement, seen->family) &&
           (block->is_watched || berth__class_look(judgement, seen, block));
}

/* Of what the same code has made, the last birth of a block with a number below zero, and that of
 * one with numbers near zero. */
static void find_last(struct berth_judgement *judgement)
{
    uint64_t all = 0, near_zero = 0;

    judgement->last_signed = judgement->last_near_zero = 0;
    for (uint32_t i = judgement->count; i-- > 0;) {
        const struct berth_class_seen *seen = &judgement->seen[i];
        struct berth_class_block *block = berth__class_block(judgement->classifier, seen->number);

        if (!can_see(judgement, seen, block))
            continue;
        all += seen->size;
        if (judgement->last_signed == 0 && !block->is_positive)
            judgement->last_signed = seen->birth;
        if (!is_near_zero(block))
            continue;
        near_zero += seen->size;
        if (judgement->last_near_zero == 0)
            judgement->last_near_zero = seen->birth;
    }
    if (near_zero == 0 || near_zero < all / NEAR_ZERO_SHARE)
        judgement->last_near_zero = UINT64_MAX;
}

/* Whether it and all that the same code has made behind it are results or inputs: a program makes
 * room for these when its weights are there. */
static bool is_last(struct berth_judgement *judgement, const struct berth_class_seen *seen,
                    const struct berth_class_block *block)
{
    if (!block->is_positive && !block->is_scaled)
        return false;
    if (!judgement->has_last)
        find_last(judgement);
    judgement->has_last = true;
    return seen->birth > judgement->last_near_zero ||
           (block->is_positive && seen->birth > judgement->last_signed);
}

/*
 * Whether layers stay while others are written, as in inference. Who trains in place changes all of
 * them, after many steps by more than they were; and what changes like that may be a weight.
 */
static bool have_layers_stayed(struct berth_judgement *judgement)
{
    uint64_t all = 0, stayed = 0;

    for (uint32_t i = 0; !judgement->has_stayed && i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];
        struct berth_class_block *block = berth__class_block(judgement->classifier, seen->number);

        if (!can_see(judgement, seen, block))
            continue;
        all += seen->size;
        if (block->compared >= REWRITES_SURE && block->changed == 0 && is_near_zero(block))
            stayed += seen->size;
    }
    if (!judgement->has_stayed)
        judgement->have_layers_stayed = stayed > 0 && stayed >= all / NEAR_ZERO_SHARE;
    judgement->has_stayed = true;
    return judgement->have_layers_stayed;
}

void berth__class_quiet(struct berth_judgement *judgement, const struct berth_class_seen *seen,
                        struct berth_class_block *block, struct berth_class_verdict *ret)
{
    bool is_sure;

    if (!can_see(judgement, seen, block))
        return;
    if (is_rewritten(block, REWRITES_SURE) && have_layers_stayed(judgement)) {
        judgement->classifier->has_rewritten = true;
        *ret = (struct berth_class_verdict){BERTH_TAG_ACTIVATION, BERTH_CLASS_FINAL,
                                            BERTH_REASON_REUSED};
        return;
    }
    if (is_rewritten(block, 1) || is_void(block) || is_last(judgement, seen, block))
        return;
    is_sure = block->compared >= COMPARISONS_SURE && block->changed == 0 &&
              judgement->classifier->has_rewritten;
    *ret = (struct berth_class_verdict){
        BERTH_TAG_WEIGHT, is_sure ? BERTH_CLASS_FIRM : BERTH_CLASS_TENTATIVE, BERTH_REASON_QUIET};
}
