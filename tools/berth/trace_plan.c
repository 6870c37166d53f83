/* SPDX-License-Identifier: Apache-2.0 */
/* berth trace plan: where each allocation of a recorded run lies best, as a file that a pool
 * follows. */
#include "alloc/quantity.h"
#include "tools/berth/tool.h"
#include "tools/berth/trace.h"
#include "tools/berth/trace_file.h"
#include "tools/berth/whole_file.h"
#include "tools/plan/plan_make.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define EFFORT_UNIT 1e9 /* about a second of a core */
#define EFFORT_DEFAULT 10
#define EFFORT_MAX 1e9
#define TIME_LIMIT_DEFAULT 60.0 /* seconds */
#define TIME_LIMIT_MAX 1e6
#define DEVICE_MAX 65535

struct arguments {
    const char *trace, *out;
    struct berth_packing_limits limits;
    uint64_t device, delay; /* `device` beyond DEVICE_MAX: the busiest one */
    int json, is_unrepeated;
    bool has_effort;
};

static int parse_number(const char *option, const char *text, uint64_t most, uint64_t *ret)
{
    char *end = NULL;
    uint64_t value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (end == text || *end || *text == '-' || errno != 0 || value > most)
        return berth__tool_misuse("trace plan: %s '%s' is no number; expected 0 to %" PRIu64,
                                  option, text, most);
    *ret = value;
    return 0;
}

static int parse_effort(const char *text, uint64_t *ret)
{
    char *end = NULL;
    double effort = strtod(text, &end);

    if (end == text || *end || !(effort >= 0) || effort > EFFORT_MAX)
        return berth__tool_misuse("trace plan: --effort '%s' is no number; expected 0 to %.0f",
                                  text, EFFORT_MAX);
    *ret = (uint64_t)(effort * EFFORT_UNIT);
    return 0;
}

/* A time without an effort is searched to its end. */
static void limit(struct arguments *arguments)
{
    struct berth_packing_limits *limits = &arguments->limits;

    if (!arguments->has_effort)
        limits->effort =
            limits->seconds < 0 ? (uint64_t)(EFFORT_DEFAULT * EFFORT_UNIT) : UINT64_MAX;
    if (limits->seconds < 0)
        limits->seconds = TIME_LIMIT_DEFAULT;
}

static int parse_option(struct arguments *arguments, int c)
{
    char *end = NULL;

    switch (c) {
    case 'O':
        arguments->out = optarg;
        return 0;
    case 't':
        arguments->limits.seconds = strtod(optarg, &end);
        if (end == optarg || *end || !(arguments->limits.seconds >= 0) ||
            arguments->limits.seconds > TIME_LIMIT_MAX)
            return berth__tool_misuse("trace plan: --time-limit '%s' is no time; expected seconds, "
                                      "0 to %.0f",
                                      optarg, TIME_LIMIT_MAX);
        return 0;
    case 'e':
        arguments->has_effort = true;
        return parse_effort(optarg, &arguments->limits.effort);
    case 's':
        return parse_number("--seed", optarg, UINT64_MAX, &arguments->limits.seed);
    case 'd':
        return parse_number("--device", optarg, DEVICE_MAX, &arguments->device);
    case 'w':
        return parse_number("--delay", optarg, UINT32_MAX, &arguments->delay);
    default:
        return BERTH_EXIT_MISUSE;
    }
}

static int parse_arguments(int argc, char **argv, struct arguments *arguments)
{
    const struct option options[] = {
        {"output", required_argument, NULL, 'O'},
        {"effort", required_argument, NULL, 'e'},
        {"time-limit", required_argument, NULL, 't'},
        {"seed", required_argument, NULL, 's'},
        {"device", required_argument, NULL, 'd'},
        {"delay", required_argument, NULL, 'w'},
        {"json", no_argument, &arguments->json, 1},
        {"no-repeat", no_argument, &arguments->is_unrepeated, 1},
        {NULL, 0, NULL, 0},
    };
    int c, r;

    while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
        if (c == 0)
            continue;
        r = parse_option(arguments, c == 'o' ? 'O' : c);
        if (r != 0)
            return r;
    }
    if (optind + 1 != argc)
        return berth__tool_misuse("trace plan: %s; expected one trace",
                                  optind == argc ? "there is no trace" : "there are more traces");
    arguments->trace = argv[optind];
    limit(arguments);
    return 0;
}

static double ratio_of(const struct berth_plan_made *made)
{
    return made->run_max_live ? (double)made->packing.peak / (double)made->run_max_live : 1;
}

static void print_json(const struct berth_plan_run *run, const struct berth_plan_repeat *repeat,
                       const struct berth_plan_made *made)
{
    json_t *object = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:f, s:s, s:{s:I, s:I, s:I}, s:I, s:I, s:I, s:I}", "device",
        (json_int_t)run->device, "allocations", (json_int_t)run->count, "max_live",
        (json_int_t)made->run_max_live, "lower_bound", (json_int_t)made->packing.max_live, "peak",
        (json_int_t)made->packing.peak, "ratio", ratio_of(made), "method", made->packing.method,
        "repeat", "begin", (json_int_t)repeat->begin, "period", (json_int_t)repeat->period, "times",
        (json_int_t)repeat->times, "entries", (json_int_t)made->entries, "left_out",
        (json_int_t)made->left_out, "threads", (json_int_t)run->threads, "others",
        (json_int_t)run->others);

    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(object);
}

static void print_text(const struct berth_plan_run *run, const struct berth_plan_repeat *repeat,
                       const struct berth_plan_made *made)
{
    char text[BERTH_QUANTITY_TEXT_MAX];

    printf("allocations  %" PRIu32 " on device %" PRIu32 ", %" PRIu32 " thread%s\n", run->count,
           run->device, run->threads, run->threads == 1 ? "" : "s");
    if (repeat->times > 0)
        printf("repetition   %" PRIu32 " times the same %" PRIu32 " allocations, after %" PRIu32
               "\n",
               repeat->times, repeat->period, repeat->begin);
    else
        printf("repetition   none\n");
    printf("entries      %" PRIu32 ", of which without a place %" PRIu32 "\n", made->entries,
           made->left_out);
    printf("max-live     %s\n", berth__quantity_format(made->run_max_live, text));
    printf("lower bound  %s\n", berth__quantity_format(made->packing.max_live, text));
    printf("peak         %s, by %s\n", berth__quantity_format(made->packing.peak, text),
           made->packing.method);
    printf("ratio        %.4f\n", ratio_of(made));
    if (run->others > 0)
        printf("not planned  %" PRIu64 " allocations of other kinds or on other devices\n",
               run->others);
}

static int why_not(const struct arguments *arguments, int r)
{
    switch (r) {
    case -ERANGE:
        return berth__tool_fail("trace plan: %s: there is nothing to plan; expected cuMemAlloc "
                                "calls (kind device) on one device, of up to 128 TiB",
                                arguments->trace);
    case -E2BIG:
    case -EOVERFLOW:
        return berth__tool_fail("trace plan: %s: there is more in it than a plan can hold; "
                                "expected at most %zu allocations",
                                arguments->trace, BERTH_PACKING_BUFFERS_MAX);
    default:
        return berth__tool_fail("trace plan: %s: %s", arguments->trace, strerror(-r));
    }
}

static int plan_log(const struct arguments *arguments, const struct berth_trace_log *log)
{
    struct berth_plan_repeat repeat = {.times = 0};
    struct berth_plan_made made;
    struct berth_plan_run run;
    int r;

    berth__plan_run_init(log, arguments->device > DEVICE_MAX ? -1 : (int)arguments->device,
                         (uint32_t)arguments->delay, &run);
    if (!arguments->is_unrepeated)
        repeat = berth__plan_repeat_choose(&run);
    r = berth__plan_make(&run, &repeat, &arguments->limits, &made);
    if (r < 0) {
        berth__plan_run_done(&run);
        return why_not(arguments, r);
    }
    r = arguments->out ? berth__whole_file_output(arguments->out, made.bytes, made.size) : 0;
    if (r < 0)
        r = berth__tool_fail("trace plan: %s: %s", arguments->out, strerror(-r));
    else if (arguments->json)
        print_json(&run, &repeat, &made);
    else
        print_text(&run, &repeat, &made);
    free(made.bytes);
    berth__plan_run_done(&run);
    return berth__tool_finish(r);
}

int berth__trace_plan(int argc, char **argv)
{
    struct arguments arguments = {
        .limits = {.seconds = -1, .seed = 1},
        .device = DEVICE_MAX + 1,
    };
    struct berth_trace_log log;
    int r = parse_arguments(argc, argv, &arguments);

    if (r != 0)
        return r;
    r = berth__trace_file_read(arguments.trace, &log);
    if (r != 0)
        return r;
    r = plan_log(&arguments, &log);
    berth__trace_log_done(&log);
    return r;
}
