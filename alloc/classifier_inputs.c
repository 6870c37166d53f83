/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the order tells in which blocks were made. A model's weights are numbers near zero, and what
 * is scaled to 1 beside them is a table or inputs. What a program makes last before its first step
 * is what it gives that step; and where many such blocks were made one behind the other, with no
 * weight between them, they are a list of samples rather than so many tables.
 */
#include "alloc/classifier_parts.h"

/* Of what was made before them, numbers near zero are that part at least: else the program's
 * weights are as large as inputs are, and the order tells nothing. */
#define NEAR_ZERO_SHARE 8
/* So many samples in a row; a model that looks up words and properties has fewer tables. */
#define LISTED_BLOCKS 16u
/* Of what a step takes as a whole, what it makes is that part at least; tables are larger. */
#define TAKEN_SHARE 8

/* Whether a model may have it: old, of the allocator that makes the weights, and nobody's yet. */
static bool is_of_model(const struct berth_judgement *judgement,
                        const struct berth_class_seen *seen)
{
    return !judgement->only_main || seen->family == judgement->main;
}

static bool is_scaled(const struct berth_class_block *block)
{
    return block->looks > 0 && block->is_scaled && !block->is_positive && block->changed == 0;
}

/* What may be beside inputs, and is no weight either: labels, masks, room for results. */
static bool is_beside(const struct berth_class_block *block)
{
    return block->looks > 0 && (block->is_positive || block->is_mask ||
                                (block->changed != 0 && block->tag != BERTH_TAG_WEIGHT) ||
                                berth__class_blank(block) == BERTH_LOOK_WORDS);
}

/* Marks a row of scaled blocks that ends before `end`. */
static void note_row(struct berth_judgement *judgement, uint32_t end, uint32_t row)
{
    for (uint32_t i = end; row >= LISTED_BLOCKS && i-- > 0;) {
        struct berth_class_block *block =
            berth__class_block(judgement->classifier, judgement->seen[i].number);

        if (!is_of_model(judgement, &judgement->seen[i]))
            continue;
        if (!is_scaled(block))
            return;
        block->is_listed = true;
    }
}

/* Looks at what is old, and marks the lists among it; how many blocks that are. */
static uint32_t note_lists(struct berth_judgement *judgement)
{
    uint32_t end, row = 0;

    for (end = 0; end < judgement->count && judgement->seen[end].birth <= judgement->boundary;
         end++) {
        struct berth_class_block *block =
            berth__class_block(judgement->classifier, judgement->seen[end].number);

        block->is_listed = block->is_last = false;
        if (!is_of_model(judgement, &judgement->seen[end]))
            continue;
        /* What is watched was looked at when that began. */
        if (!block->is_watched && block->level != BERTH_CLASS_FINAL &&
            block->told == BERTH_TAG_UNTAGGED &&
            (judgement->is_asked || !berth__class_is_filled(judgement, &judgement->seen[end])))
            berth__class_look(judgement, &judgement->seen[end], block);
        if (is_scaled(block)) {
            row++;
            continue;
        }
        note_row(judgement, end, row);
        row = 0;
    }
    note_row(judgement, end, row);
    return end;
}

/* Whether so many of the first blocks have enough numbers near zero. */
static bool has_weights(const struct berth_judgement *judgement, uint32_t end)
{
    uint64_t all = 0, near_zero = 0;

    for (uint32_t i = 0; i < end; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];
        const struct berth_class_block *block =
            berth__class_block(judgement->classifier, seen->number);

        if (!is_of_model(judgement, seen))
            continue;
        all += seen->size;
        near_zero += is_scaled(block) || is_beside(block) ? 0 : seen->size;
    }
    return near_zero > 0 && near_zero >= all / NEAR_ZERO_SHARE;
}

void berth__class_inputs_find(struct berth_judgement *judgement)
{
    uint32_t end, from;

    if (!judgement->is_steady)
        return;
    end = from = note_lists(judgement);
    for (; from > 0; from--) {
        const struct berth_class_block *block =
            berth__class_block(judgement->classifier, judgement->seen[from - 1].number);

        if (is_of_model(judgement, &judgement->seen[from - 1]) &&
            (block->told != BERTH_TAG_UNTAGGED || !(is_scaled(block) || is_beside(block))))
            break;
    }
    if (!has_weights(judgement, from)) {
        for (uint32_t i = 0; i < end; i++)
            berth__class_block(judgement->classifier, judgement->seen[i].number)->is_listed = false;
        return;
    }
    for (uint32_t i = from; i < end; i++) {
        struct berth_class_block *block =
            berth__class_block(judgement->classifier, judgement->seen[i].number);

        block->is_last =
            is_scaled(block) && judgement->seen[i].size / TAKEN_SHARE <= judgement->largest_made;
    }
}
