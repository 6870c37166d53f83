/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/site_search.h"

#include "tools/berth/symbol_name.h"
#include "tools/berth/tool.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

/* Sites whose paths one request asks for; the answer may hold fewer. */
#define PATHS_AT_ONCE 256
/* Of those that a text may mean, so many are told. */
#define TOLD_MAX 5

/* The frames that are looked for. */
struct pattern {
    char **frame;
    size_t count;
};

/* Those that were found so far, at the beginning of a path, or further out. */
struct found {
    uint64_t site[TOLD_MAX];
    size_t count;
};

int berth__site_search_is_path(const char *text)
{
    return strchr(text, '!') || strstr(text, "+0x");
}

/* Without spaces at either end; the caller frees it. */
static char *trimmed(const char *text, size_t length)
{
    while (length > 0 && *text == ' ') {
        text++;
        length--;
    }
    while (length > 0 && text[length - 1] == ' ')
        length--;
    return berth__tool_format("%.*s", (int)length, text);
}

static void pattern_add(struct pattern *pattern, const char *text, size_t length)
{
    pattern->frame =
        berth__tool_realloc(pattern->frame, (pattern->count + 1) * sizeof(pattern->frame[0]));
    pattern->frame[pattern->count++] = trimmed(text, length);
}

/* Of the operator that a name ends in after "operator", as in operator>>(: its length, or 0. */
static size_t operator_length(const char *start, const char *text)
{
    static const char word[] = "operator";
    size_t length = strlen(word), signs;

    if (strncmp(text, word, length) != 0 || (text > start && !strchr(":! *&", text[-1])))
        return 0;
    signs = strspn(text + length, "<>=-*");
    return signs > 0 && strchr("( <", text[length + signs]) ? length + signs : 0;
}

/* Up to the '>' that ends a frame: not that of a template's arguments, nor an operator's. */
static size_t frame_length(const char *text)
{
    size_t open = 0, i = 0;

    while (text[i]) {
        size_t skipped = operator_length(text, text + i);

        if (skipped == 0 && text[i] == '>' && open == 0)
            return i;
        if (skipped == 0 && text[i] == '<')
            open++;
        else if (skipped == 0 && text[i] == '>')
            open--;
        i += skipped > 0 ? skipped : 1;
    }
    /* Part of a template's name, as a pattern may have it. */
    return open > 0 ? strcspn(text, ">") : i;
}

static struct pattern pattern_read(const char *text)
{
    struct pattern pattern = {0};
    size_t length;

    for (;; text += length + 1) {
        length = frame_length(text);
        pattern_add(&pattern, text, length);
        if (text[length] == '\0')
            return pattern;
    }
}

static void pattern_free(struct pattern *pattern)
{
    for (size_t i = 0; i < pattern->count; i++)
        free(pattern->frame[i]);
    free(pattern->frame);
}

/* A frame as it may be written: by its module, by its symbol too, and with the offset. */
static int frame_matches(const char *pattern, const json_t *frame)
{
    const char *module = json_string_value(json_object_get(frame, "module"));
    const char *symbol = json_string_value(json_object_get(frame, "symbol"));
    unsigned long long offset =
        (unsigned long long)json_integer_value(json_object_get(frame, "offset"));
    char *name = symbol ? berth__symbol_name(symbol) : NULL;
    const char *const names[] = {symbol, name};
    int matches = 0;

    for (int i = 0; i < 2 && !matches; i++) {
        char *plain = names[i] ? berth__tool_format("%s!%s", module ? module : "?", names[i])
                               : berth__tool_strdup(module ? module : "?");
        char *exact = berth__tool_format("%s+0x%llx", plain, offset);

        matches = fnmatch(pattern, plain, FNM_NOESCAPE) == 0 || strcmp(pattern, plain) == 0 ||
                  strcmp(pattern, exact) == 0;
        free(plain);
        free(exact);
    }
    free(name);
    return matches;
}

/*
 * Whether the frames from `at` on are as the pattern says. What lies before a '**' needs no second
 * look when what comes after it does not fit: only the last one tries further frames.
 */
static int matches_from(const struct pattern *pattern, const json_t *frames, size_t at)
{
    size_t count = json_array_size(frames), i = 0;
    size_t after_any = 0, tried = 0; /* behind the last '**': the pattern's frame, and the path's */

    while (i < pattern->count) {
        if (strcmp(pattern->frame[i], "**") == 0) {
            after_any = ++i;
            tried = at;
        } else if (at < count && frame_matches(pattern->frame[i], json_array_get(frames, at))) {
            i++;
            at++;
        } else if (after_any > 0 && tried < count) {
            i = after_any;
            at = ++tried;
        } else {
            return 0;
        }
    }
    return 1;
}

static void note(struct found *found, uint64_t site)
{
    if (found->count < TOLD_MAX)
        found->site[found->count] = site;
    found->count++;
}

static void look(const struct pattern *pattern, const json_t *path, struct found found[2])
{
    const json_t *frames = json_object_get(path, "frames");
    uint64_t site = (uint64_t)json_integer_value(json_object_get(path, "site"));

    if (matches_from(pattern, frames, 0)) {
        note(&found[0], site);
        return;
    }
    for (size_t at = 1; at < json_array_size(frames); at++)
        if (matches_from(pattern, frames, at)) {
            note(&found[1], site);
            return;
        }
}

/* Looks at the paths of some sites; their numbers that were answered go. 0, or after one line. */
static int look_at_some(struct berth_session *session, const struct pattern *pattern, json_t *ids,
                        struct found found[2])
{
    json_t *some = json_array();
    json_t *reply, *path;
    size_t i, got = 0;

    for (i = 0; i < json_array_size(ids) && i < PATHS_AT_ONCE; i++)
        json_array_append(some, json_array_get(ids, i));
    reply = berth__session_request(
        session, json_pack("{s:s,s:o}", "op", "sites.paths", "sites", some), -1, 0);
    if (!reply)
        return BERTH_EXIT_FAILURE;
    json_array_foreach(json_object_get(reply, "paths"), i, path)
    {
        look(pattern, path, found);
        got++;
    }
    json_decref(reply);
    for (; got > 0; got--)
        json_array_remove(ids, 0);
    return i > 0 ? 0 : berth__tool_fail("the process does not tell its call paths");
}

/* The numbers of all sites; NULL after one line. */
static json_t *list_sites(struct berth_session *session)
{
    json_t *ids = json_array();
    uint64_t first = 0;

    do {
        json_t *reply = berth__session_request(
            session, json_pack("{s:s,s:I}", "op", "sites", "first", (json_int_t)first), -1, 0);
        json_t *site;
        size_t i;

        if (!reply) {
            json_decref(ids);
            return NULL;
        }
        json_array_foreach(json_object_get(reply, "sites"), i, site)
            json_array_append(ids, json_object_get(site, "site"));
        first = (uint64_t)json_integer_value(json_object_get(reply, "next"));
        json_decref(reply);
    } while (first != 0);
    return ids;
}

/* More than one is meant: says which, for one of them to be asked for. */
static int tell_several(const char *text, const struct found *found)
{
    char *list = berth__tool_strdup("");

    for (size_t i = 0; i < found->count && i < TOLD_MAX; i++) {
        char *longer = berth__tool_format("%s%s#%llu", list, i ? ", " : "",
                                          (unsigned long long)found->site[i]);

        free(list);
        list = longer;
    }
    berth__tool_fail("explain: '%s' is %zu call sites: %s%s; expected one, by more of its path",
                     text, found->count, list, found->count > TOLD_MAX ? ", ..." : "");
    free(list);
    return BERTH_EXIT_FAILURE;
}

int berth__site_search(struct berth_session *session, const char *text, uint64_t *ret)
{
    struct pattern pattern = pattern_read(text);
    struct found found[2] = {0};
    json_t *ids = list_sites(session);
    int r = ids ? 0 : BERTH_EXIT_FAILURE;

    while (r == 0 && json_array_size(ids) > 0)
        r = look_at_some(session, &pattern, ids, found);
    json_decref(ids);
    pattern_free(&pattern);
    if (r != 0)
        return r;
    for (int i = 0; i < 2; i++) {
        if (found[i].count > 1)
            return tell_several(text, &found[i]);
        if (found[i].count == 1) {
            *ret = found[i].site[0];
            return 0;
        }
    }
    return berth__tool_fail("explain: no call site is '%s'; see `berth sites %d --full`", text,
                            (int)session->pid);
}
