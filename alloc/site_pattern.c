/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/site_pattern.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Part of a text; not terminated. */
struct span {
    const char *at;
    size_t length;
};

/* Names longer than this are cut in messages. */
#define SHOWN_MAX 60

static int shown(struct span s)
{
    return s.length > SHOWN_MAX ? SHOWN_MAX : (int)s.length;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t';
}

static struct span span_trim(struct span s)
{
    while (s.length > 0 && is_space(s.at[0])) {
        s.at++;
        s.length--;
    }
    while (s.length > 0 && is_space(s.at[s.length - 1]))
        s.length--;
    return s;
}

/* Takes the next frame off `*rest`; false when there is none. `*rest` ends as NULL. */
static bool frame_next(const char **rest, struct span *ret)
{
    if (!*rest)
        return false;
    ret->at = *rest;
    ret->length = strcspn(*rest, ">");
    *rest = ret->at[ret->length] == '>' ? ret->at + ret->length + 1 : NULL;
    *ret = span_trim(*ret);
    return true;
}

static bool span_is(struct span s, const char *text)
{
    return s.length == strlen(text) && memcmp(s.at, text, s.length) == 0;
}

/* Splits a frame at its `!`; a frame without one has a symbol of no address. */
static void frame_split(struct span frame, struct span *ret_module, struct span *ret_symbol)
{
    const char *mark = memchr(frame.at, '!', frame.length);

    *ret_module = frame;
    *ret_symbol = (struct span){NULL, 0};
    if (!mark)
        return;
    ret_module->length = (size_t)(mark - frame.at);
    *ret_symbol = (struct span){mark + 1, frame.length - ret_module->length - 1};
}

/* Length of a "+0x1f" or "+31" at the end, or 0. */
static size_t offset_length(struct span s)
{
    size_t digits = 0;
    size_t n = s.length;

    while (n > 0 && memchr("0123456789abcdefABCDEF", s.at[n - 1], 22)) {
        n--;
        digits++;
    }
    if (digits > 0 && n > 2 && s.at[n - 1] == 'x' && s.at[n - 2] == '0' && s.at[n - 3] == '+')
        return digits + 3;
    return 0;
}

static int check_characters(struct span frame, char *why, size_t why_size)
{
    for (size_t i = 0; i < frame.length; i++) {
        unsigned char c = (unsigned char)frame.at[i];

        if (c < ' ' || c == 0x7f) {
            snprintf(why, why_size,
                     "the frame '%.*s' has a control character (code %u); expected module!symbol "
                     "or module",
                     (int)i > SHOWN_MAX ? SHOWN_MAX : (int)i, frame.at, c);
            return -EINVAL;
        }
    }
    return 0;
}

static int check_symbol(struct span frame, struct span symbol, char *why, size_t why_size)
{
    if (symbol.length == 0) {
        snprintf(why, why_size,
                 "the frame '%.*s' has no symbol after its '!'; expected "
                 "module!symbol, or module alone for any of its functions",
                 shown(frame), frame.at);
        return -EINVAL;
    }
    if (memchr(symbol.at, '!', symbol.length)) {
        snprintf(why, why_size,
                 "the frame '%.*s' has two '!'; expected module!symbol with '>' "
                 "between frames",
                 shown(frame), frame.at);
        return -EINVAL;
    }
    for (size_t i = 0; i < symbol.length; i++)
        if (memchr(" \t():<,&", symbol.at[i], 8)) {
            snprintf(why, why_size,
                     "the symbol '%.*s' is not a linker's name; expected a mangled "
                     "one, such as _ZN3foo3barEv for foo::bar()",
                     shown(symbol), symbol.at);
            return -EINVAL;
        }
    return 0;
}

static int check_module(struct span frame, struct span module, char *why, size_t why_size)
{
    if (module.length == 0) {
        snprintf(why, why_size,
                 "the frame '%.*s' has no module before its '!'; expected "
                 "module!symbol, with * for any module",
                 shown(frame), frame.at);
        return -EINVAL;
    }
    if (memchr(module.at, '/', module.length)) {
        snprintf(why, why_size, "the module '%.*s' has a directory; expected the file's base name",
                 shown(module), module.at);
        return -EINVAL;
    }
    if (memmem(module.at, module.length, "::", 2)) {
        snprintf(why, why_size,
                 "the module '%.*s' is a function's name; expected module!symbol "
                 "with the linker's (mangled) name",
                 shown(module), module.at);
        return -EINVAL;
    }
    return 0;
}

static int check_frame(struct span frame, char *why, size_t why_size)
{
    struct span module, symbol;
    int r = check_characters(frame, why, why_size);

    if (r < 0)
        return r;
    if (span_is(frame, "**"))
        return 0;
    for (size_t i = 0; i + 1 < frame.length; i++)
        if (frame.at[i] == '*' && frame.at[i + 1] == '*') {
            snprintf(why, why_size,
                     "the frame '%.*s' has '**' beside other characters; expected "
                     "'**' as a frame of its own, or a single '*'",
                     shown(frame), frame.at);
            return -EINVAL;
        }
    frame_split(frame, &module, &symbol);
    r = check_module(frame, module, why, why_size);
    if (r == 0 && symbol.at)
        r = check_symbol(frame, symbol, why, why_size);
    if (r < 0)
        return r;
    if (offset_length(frame) > 0) {
        snprintf(why, why_size,
                 "the frame '%.*s' ends in an offset; expected module!symbol or "
                 "module without '+0x...'",
                 shown(frame), frame.at);
        return -EINVAL;
    }
    return 0;
}

static int check_empty(const char *pattern, unsigned index, bool last, char *why, size_t why_size)
{
    if (index == 0 && last)
        snprintf(why, why_size,
                 "the pattern is empty; expected frames as in "
                 "'libfoo.so!make > app'");
    else if (index == 0)
        snprintf(why, why_size, "the pattern '%.*s' begins with '>'; expected a frame before it",
                 SHOWN_MAX, pattern);
    else if (last)
        snprintf(why, why_size,
                 "the pattern '%.*s' ends in '>'; expected a frame after it (frames "
                 "further out are free anyway)",
                 SHOWN_MAX, pattern);
    else
        snprintf(why, why_size,
                 "frame %u of the pattern '%.*s' is empty; expected module!symbol, "
                 "module, or ** for any frames",
                 index + 1, SHOWN_MAX, pattern);
    return -EINVAL;
}

int berth__site_pattern_check(const char *pattern, char *why, size_t why_size)
{
    const char *rest = pattern;
    struct span frame;
    int r;

    for (unsigned index = 0; frame_next(&rest, &frame); index++) {
        if (frame.length == 0)
            return check_empty(pattern, index, !rest, why, why_size);
        r = check_frame(frame, why, why_size);
        if (r < 0)
            return r;
    }
    return 0;
}

/*
 * `*` stands for any characters. Only the latest star is ever tried again: what an earlier one
 * took can be taken by the later as well, so time is at most pattern times text.
 */
static bool glob_match(struct span glob, const char *text)
{
    size_t g = 0;
    size_t star = SIZE_MAX;
    const char *star_text = text;

    while (*text) {
        if (g < glob.length && glob.at[g] == '*') {
            star = g++;
            star_text = text;
        } else if (g < glob.length && glob.at[g] == *text) {
            g++;
            text++;
        } else if (star != SIZE_MAX) {
            g = star + 1;
            text = ++star_text;
        } else {
            return false;
        }
    }
    while (g < glob.length && glob.at[g] == '*')
        g++;
    return g == glob.length;
}

/* Names are found, which takes a while, only where the answer depends on them. */
static bool frame_match(struct span frame, berth_site_id site, unsigned index)
{
    const char *its_module = berth__site_frame_module(site, index);
    struct berth_site_frame name;
    struct span module, symbol;

    frame_split(frame, &module, &symbol);
    if (its_module && !glob_match(module, its_module))
        return false;
    if (its_module && !symbol.at)
        return true;
    if (symbol.at && !memchr(symbol.at, '*', symbol.length) &&
        !berth__site_frame_may_be(site, index, symbol.at, symbol.length))
        return false;
    if (berth__site_frame(site, index, &name) < 0)
        return false;
    if (!its_module && !glob_match(module, name.module))
        return false;
    return !symbol.at || (name.symbol && glob_match(symbol, name.symbol));
}

/*
 * Walks the pattern once, keeping for each frame of the path whether the rest of the pattern may
 * begin there. The time is frames of the pattern times frames of the path, whatever its `**`.
 */
bool berth__site_pattern_match(const char *pattern, berth_site_id site)
{
    unsigned depth = berth__site_depth(site);
    bool begins[BERTH_SITE_FRAMES_MAX + 1] = {true};
    const char *rest = pattern;
    struct span frame;

    if (depth == 0)
        return false;
    while (frame_next(&rest, &frame)) {
        bool any = false;

        if (span_is(frame, "**")) {
            for (unsigned i = 0; i < depth; i++)
                begins[i + 1] |= begins[i];
            continue;
        }
        for (unsigned i = depth; i-- > 0;) {
            begins[i + 1] = begins[i] && frame_match(frame, site, i);
            any |= begins[i + 1];
        }
        begins[0] = false;
        if (!any)
            return false;
    }
    return true;
}

bool berth__site_pattern_may_begin(const char *pattern, const char *module)
{
    const char *rest = pattern;
    struct span frame, its_module, its_symbol;

    if (!frame_next(&rest, &frame) || span_is(frame, "**"))
        return true;
    frame_split(frame, &its_module, &its_symbol);
    return glob_match(its_module, module);
}
