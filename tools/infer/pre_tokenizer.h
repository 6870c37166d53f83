/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pre-tokenizer: cuts text into the pieces that BPE then encodes one by one. Its
 * steps come from tokenizer.json: `Split` by a regular expression, `Digits`,
 * `ByteLevel` (with GPT-2's expression, or only naming the byte alphabet), and
 * `Sequence` of those. Each step sees one piece of the step before it at a time.
 * Immutable after load, but for the match data: one thread at a time.
 */
#ifndef BERTH_INFER_PRE_TOKENIZER_H
#define BERTH_INFER_PRE_TOKENIZER_H

#include "json_field.h"

#include <stddef.h>

struct berth_pre_tokenizer;

/* Takes one piece; a negative errno stops the cutting. */
typedef int berth_piece_fn(void *arg, const unsigned char *piece, size_t size);

/* `value` is the field `pre_tokenizer` of the file, or NULL. */
int berth__pre_tokenizer_new(const struct berth_json_place *place, const json_t *value,
                             struct berth_pre_tokenizer **ret_pre_tokenizer);
void berth__pre_tokenizer_free(struct berth_pre_tokenizer *pre_tokenizer);

/*
 * Hands every piece of the text to `fn` in order. The text may hold bytes that are no UTF-8: they
 * match nothing and become pieces of their own. -EOVERFLOW when an expression gave up.
 */
int berth__pre_tokenizer_cut(struct berth_pre_tokenizer *pre_tokenizer, const unsigned char *text,
                             size_t size, berth_piece_fn *fn, void *arg);

#endif
