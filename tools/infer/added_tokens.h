/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Added tokens: strings such as <|eot_id|> that are found in the text before anything
 * is cut, and become one token each. Immutable after load.
 */
#ifndef BERTH_INFER_ADDED_TOKENS_H
#define BERTH_INFER_ADDED_TOKENS_H

#include "json_field.h"
#include "vocabulary.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct berth_added_token {
    unsigned char *content; /* owned */
    size_t size;
    uint32_t id;
    bool special;     /* not shown when text is decoded */
    bool single_word; /* only where no letter or digit touches it */
    bool strip_left;  /* takes the white space before it along */
    bool strip_right;
    bool normalized; /* looked for after the others */
};

struct berth_added_tokens {
    struct berth_added_token *tokens; /* by first byte, then the longest first */
    size_t count;
    size_t first[257]; /* tokens that begin with byte b are [first[b], first[b + 1]) */
};

/* `value` is the field `added_tokens` of the file, or NULL. Ids also go to the vocabulary. */
int berth__added_tokens_load(struct berth_added_tokens *added, const struct berth_json_place *place,
                             const json_t *value, struct berth_vocabulary *vocabulary);
void berth__added_tokens_done(struct berth_added_tokens *added);

/*
 * The first added token in text[from, size) of the given kind, or NULL. *ret_begin and *ret_end
 * are what it takes of the text, white space that it strips included.
 */
const struct berth_added_token *berth__added_tokens_find(const struct berth_added_tokens *added,
                                                         bool normalized, const unsigned char *text,
                                                         size_t size, size_t from,
                                                         size_t *ret_begin, size_t *ret_end);

/* NULL where the id is not an added token's. */
const struct berth_added_token *berth__added_tokens_by_id(const struct berth_added_tokens *added,
                                                          uint32_t id);

#endif
