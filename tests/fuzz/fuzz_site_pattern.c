/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the text of a pattern is, it is refused with a reason, or it matches exactly the
 * paths that the plainest reading of it matches.
 * Method: patterns and paths made from a small alphabet by a seed, so that matches are frequent;
 * compared with a matcher that tries everything, which short texts allow. berth__site_frame() of
 * this file answers for the one path. LLVMFuzzerTestOneInput is libFuzzer's entry; built with
 * -DBERTH_LIBFUZZER, main is left to it.
 */
#include "alloc/site_pattern.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FRAMES_MAX 6
#define TEXT_MAX 200

static struct berth_site_frame path[FRAMES_MAX];
static unsigned depth;
static unsigned long accepted, matched;

unsigned berth__site_depth(berth_site_id site)
{
    return site == 1 ? depth : 0;
}

int berth__site_frame(berth_site_id site, unsigned index, struct berth_site_frame *ret)
{
    if (site != 1 || index >= depth)
        return -ENOENT;
    *ret = path[index];
    return 0;
}

/* Of some frames it is known, of others not. */
const char *berth__site_frame_module(berth_site_id site, unsigned index)
{
    return site == 1 && index < depth && index % 2 != 0 ? path[index].module : NULL;
}

/* Never false where it is so, and not always where it is not. */
bool berth__site_frame_may_be(berth_site_id site, unsigned index, const char *symbol, size_t length)
{
    const char *its = site == 1 && index < depth ? path[index].symbol : NULL;

    return index % 3 == 0 || (its && strlen(its) == length && memcmp(its, symbol, length) == 0);
}

/* Tries every length for a star. */
static bool plain_glob(const char *glob, const char *text)
{
    if (*glob == '\0')
        return *text == '\0';
    if (*glob == '*')
        return plain_glob(glob + 1, text) || (*text && plain_glob(glob, text + 1));
    return *glob == *text && plain_glob(glob + 1, text + 1);
}

static bool plain_frame(const char *frame, const struct berth_site_frame *name)
{
    char copy[TEXT_MAX];
    char *symbol;

    snprintf(copy, sizeof(copy), "%s", frame);
    symbol = strchr(copy, '!');
    if (symbol)
        *symbol++ = '\0';
    return plain_glob(copy, name->module) &&
           (!symbol || (name->symbol && plain_glob(symbol, name->symbol)));
}

static bool plain_match(char *const *frames, unsigned count, unsigned at)
{
    if (count == 0)
        return true;
    if (strcmp(frames[0], "**") == 0) {
        for (unsigned i = at; i <= depth; i++)
            if (plain_match(frames + 1, count - 1, i))
                return true;
        return false;
    }
    return at < depth && plain_frame(frames[0], &path[at]) &&
           plain_match(frames + 1, count - 1, at + 1);
}

/* The frames of a pattern that was accepted, without the spaces around them. */
static unsigned split(char *pattern, char **frames, unsigned most)
{
    unsigned count = 0;
    char *frame;

    while (count < most && (frame = strsep(&pattern, ">")) != NULL) {
        char *end = frame + strlen(frame);

        frame += strspn(frame, " \t");
        while (end > frame && (end[-1] == ' ' || end[-1] == '\t'))
            *--end = '\0';
        frames[count++] = frame;
    }
    return count;
}

static void fail(const char *pattern, const char *what)
{
    fprintf(stderr, "pattern '%s': %s; path", pattern, what);
    for (unsigned i = 0; i < depth; i++)
        fprintf(stderr, " > %s!%s", path[i].module, path[i].symbol ? path[i].symbol : "");
    fprintf(stderr, "\n");
    abort();
}

static void check(const char *pattern)
{
    char *frames[TEXT_MAX];
    char copy[TEXT_MAX];
    char why[256] = "";
    unsigned count;

    if (berth__site_pattern_check(pattern, why, sizeof(why)) < 0) {
        if (!strstr(why, "; expected"))
            fail(pattern, "was refused without a reason");
        return;
    }
    accepted++;
    snprintf(copy, sizeof(copy), "%s", pattern);
    count = split(copy, frames, TEXT_MAX);
    if (berth__site_pattern_match(pattern, 1) != plain_match(frames, count, 0))
        fail(pattern, "is matched wrongly");
    matched += berth__site_pattern_match(pattern, 1);
}

/* The first bytes make the path, the others the pattern, of letters that meet often. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"a", "b", "ab", "aab", "ba", "bab", NULL, NULL};
    static const char letters[] = "aabb***!> >>\n(+:/0x";
    char pattern[TEXT_MAX];
    size_t length = 0;

    depth = size > 0 ? 1 + data[0] % FRAMES_MAX : 0;
    if (size < 1 + depth)
        return 0;
    for (unsigned i = 0; i < depth; i++)
        path[i] = (struct berth_site_frame){names[data[1 + i] % 6], names[data[1 + i] / 6 % 8], 0};
    /* The rare letters, which are mistakes, come from high values. */
    for (size_t i = 1 + depth; i < size && length < 24; i++)
        pattern[length++] = letters[data[i] < 240 ? data[i] % 12 : 12 + data[i] % 7];
    pattern[length] = '\0';
    check(pattern);
    return 0;
}

#ifndef BERTH_LIBFUZZER
int main(int argc, char **argv)
{
    unsigned long rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;

    printf("seed %lu\n", seed);
    for (unsigned long i = 0; i < rounds; i++) {
        uint8_t bytes[32];

        for (size_t j = 0; j < sizeof(bytes); j++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            bytes[j] = (uint8_t)(state >> 56);
        }
        LLVMFuzzerTestOneInput(bytes, 8 + bytes[31] % 24);
    }
    printf("%lu patterns, %lu accepted, %lu matched\n", rounds, accepted, matched);
    return accepted > rounds / 100 && matched > rounds / 1000 ? 0 : 1;
}
#endif
