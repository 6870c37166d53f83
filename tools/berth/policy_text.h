/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of a policy file, token by token.
 *
 * libconfuse reads the values (policy_value.h), but its scanner passes over characters that it does
 * not know, counts the lines of comments wrongly and accepts a section that is not closed. So the
 * text is looked at here first, and only what this scanner understands goes further:
 *
 *   word     letters, digits and any of _ - . / : % ~ @ ! ? ^ & | < > ; [ ] $, or bytes above 127
 *   string   "..." with \\ \" \$ and ${NAME} or ${NAME:-otherwise}, or '...' with \\ \' and nothing
 *            else; it ends on the line where it began
 *   = { } ,
 *   comments: # and // to the end of the line, / * to * /
 */
#ifndef BERTH_TOOLS_POLICY_TEXT_H
#define BERTH_TOOLS_POLICY_TEXT_H

#include "tools/berth/policy_complaint.h"

/* Far above any policy; what is larger is no policy (say, /dev/zero). */
#define BERTH_POLICY_SIZE_MAX ((size_t)64 << 20)

/*
 * Reads a whole file, also a pipe. `*ret_bytes` is the caller's, aligned as malloc aligns, with a
 * NUL after its end. 0, or negative errno; -EFBIG above the limit.
 */
int berth__policy_read(const char *path, char **ret_bytes, size_t *ret_size);

enum berth_token_kind {
    BERTH_TOKEN_END,
    BERTH_TOKEN_WORD,
    BERTH_TOKEN_STRING,
    BERTH_TOKEN_PUNCTUATION, /* one of = { } , and += */
    BERTH_TOKEN_WRONG        /* something that no policy has; complained about already */
};

struct berth_token {
    enum berth_token_kind kind;
    const char *text; /* in the file, quotes included */
    size_t length;
    unsigned line;
};

struct berth_policy_text {
    const char *at, *end;
    unsigned line;
    struct berth_complaints *complaints;
    bool quiet; /* while looking ahead: nothing is complained about */
};

struct berth_token berth__policy_next(struct berth_policy_text *text);

/* The token after this position, which stays where it is. */
struct berth_token berth__policy_peek(const struct berth_policy_text *text);

/* Goes to the end of the current line, or to a '}' or the end of the text before it. */
void berth__policy_skip_line(struct berth_policy_text *text);

/* No part of a text, quoted or not: NUL, tabs in strings, terminal commands. */
bool berth__text_is_control(char c);

bool berth__token_is(const struct berth_token *token, const char *text);

#endif
