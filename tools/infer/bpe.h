/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BPE: byte-pair encoding. A piece of text starts as one token per byte; of all
 * neighbours that the merge list knows, the pair with the lowest rank (leftmost
 * first) is joined, again and again, until no pair is left. Immutable after load.
 */
#ifndef BERTH_INFER_BPE_H
#define BERTH_INFER_BPE_H

#include "id_list.h"
#include "json_field.h"
#include "vocabulary.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* An open hash from a pair of ids to its rank and what it becomes. */
struct berth_bpe_merge {
    uint32_t left, right; /* left is BERTH_ID_NONE in a free slot */
    uint32_t rank;
    uint32_t joined;
};

struct berth_bpe {
    struct berth_vocabulary *vocabulary; /* the tokenizer's */
    struct berth_bpe_merge *merges;
    size_t merge_slots; /* a power of two */
    uint32_t byte_ids[256];
    uint32_t unknown; /* for a byte without a token; BERTH_ID_NONE: such a byte is left out */
    bool ignore_merges;
};

/* Reads the object `model` of a tokenizer.json into *bpe and its tokens into the vocabulary. */
int berth__bpe_load(struct berth_bpe *bpe, const struct berth_json_place *place,
                    const json_t *model, struct berth_vocabulary *vocabulary);
void berth__bpe_done(struct berth_bpe *bpe);

/* Appends the tokens of one piece. 0 or -ENOMEM. */
int berth__bpe_encode(const struct berth_bpe *bpe, const unsigned char *piece, size_t size,
                      struct berth_id_list *list);

#endif
