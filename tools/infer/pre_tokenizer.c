/* SPDX-License-Identifier: Apache-2.0 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "pre_tokenizer.h"

#include "utf8.h"

#include <errno.h>
#include <pcre2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_MAX 32

/* What the ByteLevel step of the format cuts by when it is asked to use its own expression. */
#define BYTE_LEVEL_PATTERN                                                                         \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

struct step {
    pcre2_code *code; /* NULL: the piece is not cut */
    pcre2_match_data *match;
    bool drop_matches; /* behaviour "Removed": what is cut out is not a piece */
    bool invert;       /* what lies between the matches counts as the matches */
    bool prefix_space; /* a piece that does not begin with a space gets one */
};

struct berth_pre_tokenizer {
    struct step steps[STEPS_MAX];
    size_t count;
};

struct cut {
    struct berth_pre_tokenizer *pre_tokenizer;
    berth_piece_fn *fn;
    void *arg;
};

/*
 * The expression with \s and \S spelled out, or NULL without memory; the caller frees it. PCRE2
 * takes the Mongolian vowel separator U+180E for a space there, which Unicode has not done since
 * 6.3 and the expressions' home, Oniguruma, does not do.
 */
static char *spaces_spell_out(const char *pattern)
{
    static const char space[] = "\\p{White_Space}", not_space[] = "\\P{White_Space}";
    char *spelled = malloc(strlen(pattern) * (sizeof(space) / 2) + 1), *at = spelled;

    while (spelled && *pattern) {
        size_t size = pattern[0] == '\\' && pattern[1] ? 2 : 1;

        if (size == 2 && (pattern[1] == 's' || pattern[1] == 'S'))
            at = stpcpy(at, pattern[1] == 's' ? space : not_space);
        else
            at = mempcpy(at, pattern, size);
        pattern += size;
    }
    if (spelled)
        *at = '\0';
    return spelled;
}

static int step_compile(struct step *step, const struct berth_json_place *place, const char *field,
                        const char *pattern, bool literal)
{
    uint32_t flags = literal ? PCRE2_UTF | PCRE2_LITERAL : PCRE2_UTF | PCRE2_UCP;
    char *spelled = literal ? strdup(pattern) : spaces_spell_out(pattern);
    PCRE2_UCHAR message[256];
    PCRE2_SIZE offset;
    int code;

    if (!spelled)
        return berth__failure_no_memory(place->failure, place->file, strlen(pattern));
    step->code =
        pcre2_compile((PCRE2_SPTR)spelled, PCRE2_ZERO_TERMINATED, flags, &code, &offset, NULL);
    free(spelled);
    if (!step->code) {
        pcre2_get_error_message(code, message, sizeof(message));
        return berth__failure_set(place->failure, EINVAL,
                                  "%s: %s%s: %s in \"%s\"; expected a regular expression",
                                  place->file, place->section, field, (char *)message, pattern);
    }
    step->match = pcre2_match_data_create_from_pattern(step->code, NULL);
    if (!step->match)
        return berth__failure_no_memory(place->failure, place->file, sizeof(*step));
    return 0;
}

static int split_load(struct step *step, const struct berth_json_place *place, const json_t *value)
{
    const json_t *pattern = json_object_get(value, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *literal = json_object_get(pattern, "String");
    const char *behaviour;
    int r;

    if (!json_is_string(regex) && !json_is_string(literal))
        return berth__json_refuse(place, "pattern", pattern,
                                  "{\"Regex\": \"...\"} or {\"String\": \"...\"}");
    r = berth__json_get_string(place, value, "behavior", &behaviour);
    if (r == 0)
        r = berth__json_opt_bool(place, value, "invert", &step->invert);
    if (r < 0)
        return r;
    step->drop_matches = strcmp(behaviour, "Removed") == 0;
    if (!step->drop_matches && strcmp(behaviour, "Isolated") != 0)
        return berth__json_refuse(place, "behavior", json_object_get(value, "behavior"),
                                  "\"Isolated\" or \"Removed\"");
    return step_compile(step, place, "pattern",
                        json_string_value(json_is_string(regex) ? regex : literal),
                        !json_is_string(regex));
}

static int byte_level_load(struct step *step, const struct berth_json_place *place,
                           const json_t *value)
{
    bool use_regex = true;
    int r;

    /* The format's default, which files of every age state anyway. */
    step->prefix_space = true;
    r = berth__json_opt_bool(place, value, "add_prefix_space", &step->prefix_space);
    if (r == 0)
        r = berth__json_opt_bool(place, value, "use_regex", &use_regex);
    if (r == 0 && use_regex)
        r = step_compile(step, place, "use_regex", BYTE_LEVEL_PATTERN, false);
    return r;
}

static int digits_load(struct step *step, const struct berth_json_place *place, const json_t *value)
{
    bool individual = false;
    int r;

    r = berth__json_opt_bool(place, value, "individual_digits", &individual);
    if (r == 0)
        r = step_compile(step, place, "type", individual ? "\\p{N}" : "\\p{N}+", false);
    return r;
}

static int steps_load(struct berth_pre_tokenizer *pre_tokenizer,
                      const struct berth_json_place *place, const json_t *value)
{
    const json_t *list = json_object_get(value, "pretokenizers");
    struct step *step = &pre_tokenizer->steps[pre_tokenizer->count];
    const char *type;
    size_t index;
    json_t *item;
    int r;

    r = berth__json_get_string(place, value, "type", &type);
    if (r < 0)
        return r;
    if (strcmp(type, "Sequence") == 0 && json_is_array(list)) {
        json_array_foreach((json_t *)list, index, item)
        {
            /* One sequence inside another would be the same steps: none is known to exist. */
            if (json_object_get(item, "pretokenizers"))
                return berth__json_refuse(place, "pretokenizers", item, "no nested sequence");
            r = steps_load(pre_tokenizer, place, item);
            if (r < 0)
                return r;
        }
        return 0;
    }
    if (pre_tokenizer->count == STEPS_MAX)
        return berth__json_refuse(place, "pretokenizers", list, "at most 32 steps");
    /* Counted first, so that what a failing step has compiled is freed with the rest. */
    pre_tokenizer->count++;
    if (strcmp(type, "Split") == 0)
        return split_load(step, place, value);
    if (strcmp(type, "ByteLevel") == 0)
        return byte_level_load(step, place, value);
    if (strcmp(type, "Digits") == 0)
        return digits_load(step, place, value);
    return berth__json_refuse(place, "type", json_object_get(value, "type"),
                              "\"Split\", \"ByteLevel\", \"Digits\" or \"Sequence\"");
}

int berth__pre_tokenizer_new(const struct berth_json_place *place, const json_t *value,
                             struct berth_pre_tokenizer **ret_pre_tokenizer)
{
    struct berth_pre_tokenizer *pre_tokenizer = calloc(1, sizeof(*pre_tokenizer));
    int r = 0;

    if (!pre_tokenizer)
        return berth__failure_no_memory(place->failure, place->file, sizeof(*pre_tokenizer));
    if (value && !json_is_null(value))
        r = steps_load(pre_tokenizer, place, value);
    if (r < 0) {
        berth__pre_tokenizer_free(pre_tokenizer);
        return r;
    }
    *ret_pre_tokenizer = pre_tokenizer;
    return 0;
}

void berth__pre_tokenizer_free(struct berth_pre_tokenizer *pre_tokenizer)
{
    if (!pre_tokenizer)
        return;
    for (size_t i = 0; i < pre_tokenizer->count; i++) {
        pcre2_match_data_free(pre_tokenizer->steps[i].match);
        pcre2_code_free(pre_tokenizer->steps[i].code);
    }
    free(pre_tokenizer);
}

static int step_cut(const struct cut *cut, size_t index, const unsigned char *text, size_t size);

static int part_give(const struct cut *cut, size_t index, const unsigned char *text, size_t begin,
                     size_t end, bool matched)
{
    const struct step *step = &cut->pre_tokenizer->steps[index];

    if (begin == end || (step->drop_matches && matched != step->invert))
        return 0;
    return step_cut(cut, index + 1, text + begin, end - begin);
}

/*
 * The next match at or after `at` that is not empty; 0 and begin == size when there is none. The
 * text is valid UTF-8: PCRE2's own check would read all that is left of it at every match.
 */
static int match_find(const struct step *step, const unsigned char *text, size_t size, size_t at,
                      size_t *ret_begin, size_t *ret_end)
{
    const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(step->match);
    int count = pcre2_match(step->code, text, size, at, PCRE2_NOTEMPTY | PCRE2_NO_UTF_CHECK,
                            step->match, NULL);

    if (count < 0 && count != PCRE2_ERROR_NOMATCH)
        return -EOVERFLOW;
    *ret_begin = count < 0 ? size : ends[0];
    *ret_end = count < 0 ? size : ends[1];
    return 0;
}

static int matches_cut(const struct cut *cut, size_t index, const unsigned char *text, size_t size)
{
    const struct step *step = &cut->pre_tokenizer->steps[index];
    size_t at = 0, begin, end;
    int r = 0;

    while (r == 0 && at < size) {
        r = match_find(step, text, size, at, &begin, &end);
        if (r == 0)
            r = part_give(cut, index, text, at, begin, false);
        if (r == 0)
            r = part_give(cut, index, text, begin, end, true);
        at = end;
    }
    return r;
}

/* How many bytes from the start are all valid UTF-8, or all not. */
static size_t run_length(const unsigned char *text, size_t size, bool *ret_valid)
{
    size_t at = 0;

    while (at < size) {
        uint32_t code;
        size_t length;
        bool valid = berth__utf8_next(text + at, size - at, &code, &length) == BERTH_UTF8_VALID;

        if (at > 0 && valid != *ret_valid)
            break;
        *ret_valid = valid;
        at += length;
    }
    return at;
}

/* Bytes that are no UTF-8 match nothing; what lies between them is matched as a text of its own. */
static int runs_cut(const struct cut *cut, size_t index, const unsigned char *text, size_t size)
{
    int r = 0;

    for (size_t at = 0, length; r == 0 && at < size; at += length) {
        bool valid = false;

        length = run_length(text + at, size - at, &valid);
        r = valid ? matches_cut(cut, index, text + at, length)
                  : part_give(cut, index, text + at, 0, length, false);
    }
    return r;
}

static int step_cut(const struct cut *cut, size_t index, const unsigned char *text, size_t size)
{
    const struct step *step = &cut->pre_tokenizer->steps[index];
    unsigned char *spaced = NULL;
    int r;

    if (index == cut->pre_tokenizer->count)
        return cut->fn(cut->arg, text, size);
    if (step->prefix_space && text[0] != ' ') {
        spaced = malloc(size + 1);
        if (!spaced)
            return -ENOMEM;
        spaced[0] = ' ';
        memcpy(spaced + 1, text, size);
        text = spaced;
        size++;
    }
    r = step->code ? runs_cut(cut, index, text, size) : step_cut(cut, index + 1, text, size);
    free(spaced);
    return r;
}

int berth__pre_tokenizer_cut(struct berth_pre_tokenizer *pre_tokenizer, const unsigned char *text,
                             size_t size, berth_piece_fn *fn, void *arg)
{
    const struct cut cut = {pre_tokenizer, fn, arg};

    return size > 0 ? step_cut(&cut, 0, text, size) : 0;
}
