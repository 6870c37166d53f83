/* SPDX-License-Identifier: Apache-2.0 */
/* berth limit: how much device memory a process and its tags may have. */
#include "tools/berth/limit.h"
#include "alloc/quantity.h"
#include "alloc/types.h"
#include "tools/berth/grid.h"
#include "tools/berth/process.h"
#include "tools/berth/tool.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* Whether there is such a limit, or was when something was refused. */
static int is_told(const json_t *limit)
{
    return json_is_integer(json_object_get(limit, "limit")) || number(limit, "refused_blocks") > 0;
}

void berth__limit_print(const json_t *limits, int only_those_set, FILE *out)
{
    static const char *const heads[] = {"LIMIT",   "BYTES",         "USED",
                                        "REFUSED", "REFUSED BYTES", "FROM"};
    struct berth_grid grid;
    const json_t *limit;
    size_t i, shown = 0;

    json_array_foreach(limits, i, limit) shown += !only_those_set || is_told(limit);
    if (shown == 0)
        return;
    if (only_those_set)
        putc('\n', out);
    berth__grid_init(&grid, "lrrrrl", heads);
    json_array_foreach(limits, i, limit)
    {
        if (only_those_set && !is_told(limit))
            continue;
        const char *tag = json_string_value(json_object_get(limit, "tag"));
        const char *origin = json_string_value(json_object_get(limit, "origin"));

        berth__grid_text(&grid, tag ? tag : "process");
        if (json_is_integer(json_object_get(limit, "limit")))
            berth__grid_size(&grid, number(limit, "limit"));
        else
            berth__grid_text(&grid, "none");
        berth__grid_size(&grid, number(limit, "used"));
        berth__grid_number(&grid, number(limit, "refused_blocks"));
        berth__grid_size(&grid, number(limit, "refused_bytes"));
        berth__grid_text(&grid, origin ? origin : "?");
    }
    berth__grid_finish(&grid, out);
}

/* Sends the request, whose reference is taken, and prints the limits in force. */
static int ask(const char *pid, json_t *request)
{
    struct berth_process process;
    char text[BERTH_QUANTITY_TEXT_MAX];
    json_t *reply;

    if (berth__process_find(pid, &process) != 0) {
        json_decref(request);
        return BERTH_EXIT_FAILURE;
    }
    reply = berth__session_ask(&process, request, -1, 0);
    berth__process_done(&process);
    if (!reply)
        return BERTH_EXIT_FAILURE;
    if (number(reply, "released") > 0)
        printf("%s given back\n", berth__quantity_format(number(reply, "released"), text));
    berth__limit_print(json_object_get(reply, "limits"), 0, stdout);
    json_decref(reply);
    return 0;
}

int berth__command_limit(int argc, char **argv)
{
    static const struct option options[] = {{"tag", required_argument, NULL, 't'},
                                            {NULL, 0, NULL, 0}};
    json_t *request = json_pack("{s:s}", "op", "limit");
    const char *tag = NULL, *value;
    uint64_t bytes = 0;
    int c;

    while ((c = getopt_long(argc, argv, "t:", options, NULL)) != -1) {
        if (c == '?')
            return BERTH_EXIT_MISUSE;
        tag = optarg;
    }
    if (argc - optind < 1 || argc - optind > 2)
        return berth__tool_misuse("limit: expected berth limit PID [--tag TAG] [BYTES|none]");
    value = argv[optind + 1];
    if (tag && berth__tag_from_name(tag) < 0)
        return berth__tool_misuse("limit: --tag '%s' is no tag; expected weight, activation, kv, "
                                  "workspace or untagged",
                                  tag);
    if (tag && !value)
        return berth__tool_misuse("limit: --tag needs a limit; expected BYTES, as in 64M, or none");
    if (value && strcmp(value, "none") != 0 &&
        (berth__quantity_parse(value, strlen(value), &bytes) < 0 || bytes == 0))
        return berth__tool_misuse("limit: '%s' is no limit; expected BYTES, as in 64M, or none",
                                  value);
    if (tag)
        json_object_set_new(request, "tag", json_string(tag));
    if (value)
        /* As it was given: the process tells what it does not take. */
        json_object_set_new(request, "bytes", bytes ? json_string(value) : json_null());
    return berth__tool_finish(ask(argv[optind], request));
}
