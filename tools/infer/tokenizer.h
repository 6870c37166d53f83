/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tokenizer: text to token ids and back, as a tokenizer.json with a byte-level
 * BPE describes it. One thread at a time.
 */
#ifndef BERTH_INFER_TOKENIZER_H
#define BERTH_INFER_TOKENIZER_H

#include "failure.h"
#include "id_list.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct berth_tokenizer;

/*
 * Reads `dir`/tokenizer.json, and `dir`/tokenizer_config.json where it exists: its add_bos_token
 * asks for `bos` before a text when the tokenizer's own post-processor does not say.
 */
int berth__tokenizer_load(const char *dir, uint32_t bos, struct berth_failure *failure,
                          struct berth_tokenizer **ret_tokenizer);
void berth__tokenizer_free(struct berth_tokenizer *tokenizer);

/*
 * Appends the text's tokens; with `template`, also those that the post-processor puts around a
 * text. On failure the list may have grown.
 */
int berth__tokenizer_encode(struct berth_tokenizer *tokenizer, const char *text, size_t size,
                            bool template, struct berth_failure *failure,
                            struct berth_id_list *list);

/* The bytes of one token; no bytes for a special or unknown one. They may be part of a character.
 */
const unsigned char *berth__tokenizer_bytes(const struct berth_tokenizer *tokenizer, uint32_t id,
                                            size_t *ret_size);

#endif
