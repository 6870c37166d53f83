/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* libconfuse takes time by the square of a word's length; strings may be of any length. */
#define WORD_MAX 4096

static int read_all(int fd, char **ret_bytes, size_t *ret_size)
{
    size_t room = 1 << 16;
    size_t size = 0;
    char *bytes = malloc(room);
    ssize_t n = 1;
    int r = bytes ? 0 : -ENOMEM;

    while (r == 0 && n > 0) {
        if (size + 1 == room) {
            char *larger = realloc(bytes, room * 2);

            if (!larger) {
                r = -ENOMEM;
                break;
            }
            bytes = larger;
            room *= 2;
        }
        n = read(fd, bytes + size, room - size - 1);
        if (n > 0)
            size += (size_t)n;
        else if (n < 0 && errno == EINTR)
            n = 1;
        else if (n < 0)
            r = -errno;
        if (size > BERTH_POLICY_SIZE_MAX)
            r = -EFBIG;
    }
    if (r < 0) {
        free(bytes);
        return r;
    }
    bytes[size] = '\0';
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

int berth__policy_read(const char *path, char **ret_bytes, size_t *ret_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    int r;

    if (fd < 0)
        return -errno;
    r = read_all(fd, ret_bytes, ret_size);
    close(fd);
    return r;
}

#define wrong(text, ...)                                                                           \
    do {                                                                                           \
        if (!(text)->quiet)                                                                        \
            berth__complain((text)->complaints, __VA_ARGS__);                                      \
    } while (0)

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_word_char(char c)
{
    return is_name_char(c) || (unsigned char)c >= 128 ||
           (c != '\0' && strchr("-./:%~@!?^&|<>;[]$", c));
}

/* `prefix` begins here. */
static bool at_prefix(const struct berth_policy_text *text, const char *prefix)
{
    size_t length = strlen(prefix);

    return (size_t)(text->end - text->at) >= length && memcmp(text->at, prefix, length) == 0;
}

static void skip_to_line_end(struct berth_policy_text *text)
{
    while (text->at < text->end && *text->at != '\n')
        text->at++;
}

static void skip_block_comment(struct berth_policy_text *text)
{
    unsigned begun = text->line;

    text->at += 2;
    while (text->at < text->end && !at_prefix(text, "*/")) {
        if (*text->at == '\n')
            text->line++;
        text->at++;
    }
    if (text->at < text->end)
        text->at += 2;
    else
        wrong(text, begun, "the comment is not closed; expected '*/'");
}

static void skip_blank(struct berth_policy_text *text)
{
    while (text->at < text->end) {
        if (*text->at == '\n')
            text->line++;
        if (is_space(*text->at))
            text->at++;
        else if (*text->at == '#' || at_prefix(text, "//"))
            skip_to_line_end(text);
        else if (at_prefix(text, "/*"))
            skip_block_comment(text);
        else
            break;
    }
}

/* At "${": checks ${NAME} or ${NAME:-otherwise} and goes behind it. False when it is wrong. */
static bool read_variable(struct berth_policy_text *text, const char *limit)
{
    const char *name = text->at + 2;
    const char *end = name;
    const char *close = memchr(name, '}', (size_t)(limit - name));
    char *copy;
    bool set;

    while (end < limit && is_name_char(*end))
        end++;
    text->at += 2;
    if (!close || end == name || (end != close && strncmp(end, ":-", 2) != 0)) {
        wrong(
            text, text->line,
            "'${' does not name a variable; expected ${NAME} or ${NAME:-otherwise}, or \\$ for the "
            "character");
        return false;
    }
    text->at = close + 1;
    if (end != close)
        return true;
    copy = strndup(name, (size_t)(end - name));
    set = copy && getenv(copy);
    if (!set)
        wrong(text, text->line,
              "the environment variable %s is not set; expected a value for it, or "
              "${%s:-otherwise}",
              copy ? copy : "", copy ? copy : "");
    free(copy);
    return set;
}

static bool read_escape(struct berth_policy_text *text, const char *limit, const char *allowed)
{
    char next = text->at + 1 < limit ? text->at[1] : '\0';

    if (next != '\0' && strchr(allowed, next)) {
        text->at += 2;
        return true;
    }
    wrong(text, text->line, "'\\%c' is not an escape; expected \\\\ or \\%c%s",
          next >= ' ' && next < 127 ? next : '?', allowed[1],
          allowed[2] ? ", or \\$ for a '$'" : "");
    text->at += 1;
    return false;
}

bool berth__text_is_control(char c)
{
    return (unsigned char)c < ' ' || c == 127;
}

static struct berth_token read_wrong(struct berth_policy_text *text)
{
    struct berth_token token = {BERTH_TOKEN_WRONG, text->at, 1, text->line};
    unsigned char c = (unsigned char)*text->at++;

    if (c == '\0')
        wrong(text, token.line, "there is a NUL byte; expected text");
    else if (berth__text_is_control((char)c))
        wrong(text, token.line, "there is a control character (%u); expected text", c);
    else if (c == '\\')
        wrong(text, token.line, "'\\' stands outside quotes; expected a quoted string");
    else
        wrong(text, token.line,
              "'%c' stands outside quotes; expected a quoted string, as in \"a%cb\"", c, c);
    return token;
}

static struct berth_token read_string(struct berth_policy_text *text)
{
    struct berth_token token = {BERTH_TOKEN_STRING, text->at, 0, text->line};
    const char quote = *text->at;
    const char *allowed = quote == '"' ? "\\\"$" : "\\'";
    const char *limit = memchr(text->at, '\n', (size_t)(text->end - text->at));

    if (!limit)
        limit = text->end;
    text->at++;
    while (text->at < limit && *text->at != quote) {
        bool right = true;

        if (*text->at == '\\')
            right = read_escape(text, limit, allowed);
        else if (quote == '"' && at_prefix(text, "${"))
            right = read_variable(text, limit);
        else if (berth__text_is_control(*text->at))
            right = false, read_wrong(text);
        else
            text->at++;
        if (!right)
            token.kind = BERTH_TOKEN_WRONG;
    }
    if (text->at < limit) {
        text->at++;
    } else {
        wrong(text, token.line, "the string is not closed; expected %c before the end of the line",
              quote);
        token.kind = BERTH_TOKEN_WRONG;
    }
    token.length = (size_t)(text->at - token.text);
    return token;
}

static struct berth_token read_word(struct berth_policy_text *text)
{
    struct berth_token token = {BERTH_TOKEN_WORD, text->at, 0, text->line};

    while (text->at < text->end && is_word_char(*text->at)) {
        if (at_prefix(text, "${") && token.kind == BERTH_TOKEN_WORD) {
            wrong(text, text->line, "a variable stands outside quotes; expected \"${NAME}\"");
            token.kind = BERTH_TOKEN_WRONG;
        }
        if (at_prefix(text, "${")) {
            const char *close = text->at;

            while (close < text->end && *close != '}' && *close != '\n')
                close++;
            text->at = close;
            if (close == text->end || *close != '}')
                continue;
        }
        text->at++;
    }
    token.length = (size_t)(text->at - token.text);
    if (token.length > WORD_MAX) {
        wrong(text, token.line,
              "a word has %zu characters; expected at most %d, or a string in quotes", token.length,
              WORD_MAX);
        token.kind = BERTH_TOKEN_WRONG;
    }
    return token;
}

struct berth_token berth__policy_next(struct berth_policy_text *text)
{
    struct berth_token token;

    skip_blank(text);
    token = (struct berth_token){BERTH_TOKEN_END, text->at, 0, text->line};
    if (text->at == text->end)
        return token;
    if (*text->at == '"' || *text->at == '\'')
        return read_string(text);
    if (is_word_char(*text->at))
        return read_word(text);
    token.kind = BERTH_TOKEN_PUNCTUATION;
    token.length = at_prefix(text, "+=") ? 2 : 1;
    if (token.length == 1 && (*text->at == '\0' || !strchr("={},()", *text->at)))
        return read_wrong(text);
    text->at += token.length;
    return token;
}

struct berth_token berth__policy_peek(const struct berth_policy_text *text)
{
    struct berth_policy_text ahead = *text;

    ahead.quiet = true;
    return berth__policy_next(&ahead);
}

/* The line has one complaint already; what follows from it would only be noise. */
void berth__policy_skip_line(struct berth_policy_text *text)
{
    unsigned line = text->line;
    bool quiet = text->quiet;

    text->quiet = true;
    for (;;) {
        struct berth_token token = berth__policy_peek(text);

        if (token.kind == BERTH_TOKEN_END || token.line != line || berth__token_is(&token, "}"))
            break;
        berth__policy_next(text);
    }
    text->quiet = quiet;
}

bool berth__token_is(const struct berth_token *token, const char *text)
{
    return (token->kind == BERTH_TOKEN_WORD || token->kind == BERTH_TOKEN_PUNCTUATION) &&
           token->length == strlen(text) && memcmp(token->text, text, token->length) == 0;
}
