/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A class in words, for `berth explain` and the debug log.
 */
#include "alloc/classifier_parts.h"

#include "alloc/log.h"

#include <stdio.h>

static const char *const level_names[BERTH_CLASS_LEVELS] = {
    [BERTH_CLASS_UNKNOWN] = "unknown",     [BERTH_CLASS_GUESSED] = "guessed",
    [BERTH_CLASS_TENTATIVE] = "tentative", [BERTH_CLASS_FIRM] = "firm",
    [BERTH_CLASS_FINAL] = "final",
};

static const char *const reasons[BERTH_REASON_COUNT] = {
    [BERTH_REASON_NONE] = "nothing is known yet",
    [BERTH_REASON_READ_ONLY] = "there before the first step, and not written since",
    [BERTH_REASON_QUIET] = "filled, and not written since; no steps were seen",
    [BERTH_REASON_TRAINED] =
        "there before the first step, and rewritten; steps make blocks of its size, its gradients",
    [BERTH_REASON_REUSED] = "alive across steps, and its content is replaced again and again",
    [BERTH_REASON_APPENDED] = "alive across steps, and written piece by piece",
    [BERTH_REASON_KEPT] = "made in a step, alive across steps, and not full",
    [BERTH_REASON_GROWING] = "step by step, as many larger blocks take the place of the last",
    [BERTH_REASON_COLLECTED] = "steps add blocks of its kind, and none goes",
    [BERTH_REASON_LATE] = "made after the first step, alive across steps, and not written since",
    [BERTH_REASON_DERIVED] = "made after the first step of a weight, whose size and numbers' signs "
                             "it has, and not written since",
    [BERTH_REASON_FOLLOWING] = "made after the first step of a weight, whose size and numbers' "
                               "signs it has, and changed by little, as weights that are trained",
    [BERTH_REASON_TWIN] = "made after the first step, of a kind of which all were weights, with "
                          "numbers as large, and not written since",
    [BERTH_REASON_STATE] =
        "made in a step, rewritten, and as large as a weight: a gradient or optimiser's state",
    [BERTH_REASON_IN_STEP] = "blocks of its kind go within a step",
    [BERTH_REASON_IN_OPERATOR] = "blocks of its kind go before the next is made",
    [BERTH_REASON_ELSEWHERE] = "not of the allocator that serves the steps and has the weights",
    [BERTH_REASON_REPEATED] = "blocks of its call path were found to be this",
    [BERTH_REASON_LOADED] = "filled from the host before the first step, and not since",
    [BERTH_REASON_LOADED_LATE] = "filled from the host once, and not for some steps since",
    [BERTH_REASON_LOADED_IDLE] = "filled from the host once; no steps were seen",
    [BERTH_REASON_REFILLED] = "filled from the host again and again",
    [BERTH_REASON_DATA] = ("there before the first step, and not written since, but none of its "
                           "numbers is below zero: inputs, and no weights"),
    [BERTH_REASON_CONSTANT] = "filled with one number: neither weights nor a cache so far",
    [BERTH_REASON_MASK] = "filled with one number and zeros: a mask, and no weight",
    [BERTH_REASON_ANGLES] = "filled with sines and cosines: a table, and no weight",
    [BERTH_REASON_POINTERS] = "most of it are addresses: a program's table, and no weight",
    [BERTH_REASON_PARTS] = "there before the first step, and not written since, but steps read it "
                           "part by part: inputs, and no weights",
    [BERTH_REASON_LAST] = "made last before the first step, not written since, and of numbers as "
                          "large as inputs have: inputs, and no weights",
    [BERTH_REASON_UNTRAINED] = "there before the first step, and not written since, while the "
                               "others are trained: inputs, and no weights",
    [BERTH_REASON_TOUCHED_UP] =
        "there before the first step, and since changed in some places, by little",
    [BERTH_REASON_WAVERING] = "it was taken for one thing, for another, and for the first again",
};

const char *berth__class_level_name(enum berth_class_level level)
{
    return level < BERTH_CLASS_LEVELS ? level_names[level] : NULL;
}

bool berth__classifier_view(struct berth_classifier *classifier, uint32_t number,
                            struct berth_class_view *ret, char *why, size_t why_size)
{
    const struct berth_class_block *block = berth__class_block(classifier, number);
    struct berth_class_view view;
    uint64_t birth;
    uint8_t reason;

    if (!block || atomic_load_explicit(&block->address, memory_order_acquire) == 0)
        return false;
    birth = atomic_load_explicit(&block->birth, memory_order_acquire);
    view = (struct berth_class_view){.tag = (enum berth_tag)block->tag,
                                     .level = (enum berth_class_level)block->level,
                                     .changes = block->changes,
                                     .size = block->size,
                                     .told = (enum berth_tag)block->told,
                                     .noted = (enum berth_tag)block->noted};
    reason = block->reason;
    /* It was there before and after, and it is the same: so it was there all the time. */
    if (atomic_load_explicit(&block->address, memory_order_acquire) == 0 ||
        berth__class_load(&block->birth) != birth)
        return false;
    *ret = view;
    snprintf(why, why_size, "%s", reasons[reason]);
    return true;
}

void berth__class_log(const struct berth_class_block *block, uint32_t number)
{
    berth__log(BERTH_LOG_DEBUG, BERTH_TOPIC_CLASSIFIER,
               "block %u of birth %llu, %llu bytes at 0x%llx: %s, %s: %s (the program: %s)", number,
               (unsigned long long)block->birth, (unsigned long long)block->size,
               (unsigned long long)block->address, berth__tag_name(block->tag),
               level_names[block->level], reasons[block->reason], berth__tag_name(block->noted));
}

void berth__class_log_phase(const struct berth_judgement *judgement)
{
    const struct berth_class_family *families =
        atomic_load_explicit(&judgement->classifier->families, memory_order_relaxed);

    if (!berth__log_enabled(BERTH_LOG_DEBUG, BERTH_TOPIC_CLASSIFIER))
        return;
    berth__log(
        BERTH_LOG_DEBUG, BERTH_TOPIC_CLASSIFIER,
        "%llu births, %u alive: %s; boundary %llu, main family 0x%llx%s, %llu steps of %llu "
        "births, which make the sizes of %llu bytes of %llu from before them",
        (unsigned long long)judgement->births, judgement->count,
        !judgement->is_steady   ? "no steps"
        : judgement->is_settled ? "settled"
        : judgement->is_firm    ? "firm"
                                : "steps begin",
        (unsigned long long)judgement->boundary, (unsigned long long)families[judgement->main].id,
        judgement->only_main ? ", which has the weights" : "",
        (unsigned long long)judgement->steps_seen, (unsigned long long)judgement->births_per_step,
        (unsigned long long)judgement->mirrored_bytes, (unsigned long long)judgement->old_bytes);
}
