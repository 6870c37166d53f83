/* SPDX-License-Identifier: Apache-2.0 */
/* berth trim: has a process give its cached device memory back. */
#include "alloc/quantity.h"
#include "tools/berth/process.h"
#include "tools/berth/tool.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Giving back may wait for the device. */
static int ask(const char *pid, json_t *request)
{
    char released[BERTH_QUANTITY_TEXT_MAX], cached[BERTH_QUANTITY_TEXT_MAX];
    struct berth_process process;
    json_t *reply;

    if (berth__process_find(pid, &process) != 0) {
        json_decref(request);
        return BERTH_EXIT_FAILURE;
    }
    reply = berth__session_ask(&process, request, -1, 0);
    if (reply)
        printf("process %d: %s given back, %s still cached\n", (int)process.pid,
               berth__quantity_format(
                   (uint64_t)json_integer_value(json_object_get(reply, "released")), released),
               berth__quantity_format(
                   (uint64_t)json_integer_value(json_object_get(reply, "cached")), cached));
    berth__process_done(&process);
    json_decref(reply);
    return reply ? 0 : BERTH_EXIT_FAILURE;
}

/* Reads a device's number into the request. */
static int add_device(json_t *request, const char *text)
{
    char *end;
    unsigned long device = strtoul(text, &end, 10);

    if (end == text || *end || *text == '-' || *text == '+' || device > 1023)
        return berth__tool_misuse("trim: --device '%s' is no device; expected 0 to 1023", text);
    return json_object_set_new(request, "device", json_integer((json_int_t)device));
}

static int add_keep(json_t *request, const char *text)
{
    uint64_t bytes;

    if (berth__quantity_parse(text, strlen(text), &bytes) < 0 || bytes > INT64_MAX)
        return berth__tool_misuse("trim: --keep '%s' is no size; expected BYTES, as in 64M", text);
    return json_object_set_new(request, "keep", json_integer((json_int_t)bytes));
}

int berth__command_trim(int argc, char **argv)
{
    static const struct option options[] = {{"device", required_argument, NULL, 'd'},
                                            {"keep", required_argument, NULL, 'k'},
                                            {NULL, 0, NULL, 0}};
    json_t *request = json_pack("{s:s}", "op", "trim");
    int c, r = 0;

    while (r == 0 && (c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == '?')
            r = BERTH_EXIT_MISUSE;
        else
            r = c == 'd' ? add_device(request, optarg) : add_keep(request, optarg);
    }
    if (r == 0 && argc - optind != 1)
        r = berth__tool_misuse("trim: expected berth trim PID [--device N] [--keep BYTES]");
    if (r != 0) {
        json_decref(request);
        return BERTH_EXIT_MISUSE;
    }
    return berth__tool_finish(ask(argv[optind], request));
}
