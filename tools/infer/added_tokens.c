/* SPDX-License-Identifier: Apache-2.0 */
#include "added_tokens.h"

#include "utf8.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int token_load(struct berth_added_token *token, const struct berth_json_place *place,
                      const json_t *value)
{
    const struct {
        const char *field;
        bool *ret;
    } flags[] = {
        {"special", &token->special},       {"single_word", &token->single_word},
        {"lstrip", &token->strip_left},     {"rstrip", &token->strip_right},
        {"normalized", &token->normalized},
    };
    const json_t *id = json_object_get(value, "id");
    const char *content;
    int r;

    r = berth__json_get_string(place, value, "content", &content);
    if (r < 0)
        return r;
    if (content[0] == '\0')
        return berth__json_refuse(place, "content", json_object_get(value, "content"),
                                  "at least one character");
    if (!json_is_integer(id) || json_integer_value(id) < 0 ||
        (uint64_t)json_integer_value(id) >= BERTH_VOCABULARY_IDS_MAX)
        return berth__json_refuse(place, "id", id, "an id from 0 to 16777215");
    token->id = (uint32_t)json_integer_value(id);
    for (size_t i = 0; r == 0 && i < sizeof(flags) / sizeof(flags[0]); i++)
        r = berth__json_opt_bool(place, value, flags[i].field, flags[i].ret);
    if (r < 0)
        return r;
    token->size = strlen(content);
    token->content = (unsigned char *)strdup(content);
    if (!token->content)
        return berth__failure_no_memory(place->failure, place->file, token->size);
    return 0;
}

static int token_compare(const void *a, const void *b)
{
    const struct berth_added_token *x = a, *y = b;

    if (x->content[0] != y->content[0])
        return x->content[0] < y->content[0] ? -1 : 1;
    return (x->size < y->size) - (x->size > y->size);
}

static void tokens_index(struct berth_added_tokens *added)
{
    size_t at = 0;

    qsort(added->tokens, added->count, sizeof(added->tokens[0]), token_compare);
    for (unsigned int byte = 0; byte < 256; byte++) {
        added->first[byte] = at;
        while (at < added->count && added->tokens[at].content[0] == byte)
            at++;
    }
    added->first[256] = at;
}

int berth__added_tokens_load(struct berth_added_tokens *added, const struct berth_json_place *place,
                             const json_t *value, struct berth_vocabulary *vocabulary)
{
    struct berth_json_place inner = *place;
    char section[48];
    int r;

    *added = (struct berth_added_tokens){0};
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_array(value))
        return berth__json_refuse(place, "added_tokens", value, "an array of objects");
    added->tokens = calloc(json_array_size(value) + 1, sizeof(added->tokens[0]));
    if (!added->tokens)
        return berth__failure_no_memory(place->failure, place->file, json_array_size(value));
    inner.section = section;
    for (size_t i = 0; i < json_array_size(value); i++) {
        struct berth_added_token *token = &added->tokens[i];

        snprintf(section, sizeof(section), "added_tokens[%zu].", i);
        r = token_load(token, &inner, json_array_get(value, i));
        if (r < 0)
            return r;
        added->count++;
        r = berth__vocabulary_add(vocabulary, token->id, token->content, token->size, false);
        /* The model's vocabulary may list it too. */
        if (r < 0 && r != -EEXIST)
            return berth__failure_no_memory(place->failure, place->file, token->size);
    }
    tokens_index(added);
    return 0;
}

void berth__added_tokens_done(struct berth_added_tokens *added)
{
    for (size_t i = 0; i < added->count; i++)
        free(added->tokens[i].content);
    free(added->tokens);
    *added = (struct berth_added_tokens){0};
}

/* Bytes above ASCII count as word characters: only their neighbours can be cut off. */
static bool byte_is_word(unsigned char byte)
{
    return byte >= 0x80 || isalnum(byte) || byte == '_';
}

static bool token_matches(const struct berth_added_token *token, const unsigned char *text,
                          size_t size, size_t at)
{
    if (token->size > size - at || memcmp(text + at, token->content, token->size) != 0)
        return false;
    if (!token->single_word)
        return true;
    return !(at > 0 && byte_is_word(text[at - 1])) &&
           !(at + token->size < size && byte_is_word(text[at + token->size]));
}

static size_t spaces_after(const unsigned char *text, size_t size, size_t at)
{
    size_t length;
    uint32_t code;

    while (at < size &&
           berth__utf8_next(text + at, size - at, &code, &length) == BERTH_UTF8_VALID &&
           berth__utf8_is_space(code))
        at += length;
    return at;
}

static size_t spaces_before(const unsigned char *text, size_t from, size_t at)
{
    size_t length;
    uint32_t code;

    while (at > from) {
        size_t begin = at - 1;

        while (begin > from && (text[begin] & 0xc0) == 0x80)
            begin--;
        if (berth__utf8_next(text + begin, at - begin, &code, &length) != BERTH_UTF8_VALID ||
            begin + length != at || !berth__utf8_is_space(code))
            break;
        at = begin;
    }
    return at;
}

const struct berth_added_token *berth__added_tokens_find(const struct berth_added_tokens *added,
                                                         bool normalized, const unsigned char *text,
                                                         size_t size, size_t from,
                                                         size_t *ret_begin, size_t *ret_end)
{
    for (size_t at = from; at < size; at++) {
        for (size_t i = added->first[text[at]]; i < added->first[text[at] + 1u]; i++) {
            const struct berth_added_token *token = &added->tokens[i];
            size_t end = at + token->size;

            if (token->normalized != normalized || !token_matches(token, text, size, at))
                continue;
            *ret_begin = token->strip_left ? spaces_before(text, from, at) : at;
            *ret_end = token->strip_right ? spaces_after(text, size, end) : end;
            return token;
        }
    }
    return NULL;
}

const struct berth_added_token *berth__added_tokens_by_id(const struct berth_added_tokens *added,
                                                          uint32_t id)
{
    for (size_t i = 0; i < added->count; i++) {
        if (added->tokens[i].id == id)
            return &added->tokens[i];
    }
    return NULL;
}
