/* SPDX-License-Identifier: Apache-2.0 */
/* berth stat: one account of a process's memory, by tag and tier. */
#include "alloc/quantity.h"
#include "alloc/types.h"
#include "tools/berth/grid.h"
#include "tools/berth/limit.h"
#include "tools/berth/process.h"
#include "tools/berth/stat_paths.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* The member of an account in which the tool keeps what else it has asked for. */
#define POLICY_TIERS "policy tiers"

struct stat_arguments {
    const char *pid;
    int json;
    int paths;
    double watch_s; /* 0 = once */
};

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "?";
}

static void print_head(const json_t *stat, const struct berth_process *process)
{
    const json_t *table = json_object_get(stat, "table");
    char *program = berth__tool_strdup(string(stat, "program"));
    char *origin = berth__tool_strdup(string(table, "origin"));

    berth__tool_clean(program);
    berth__tool_clean(origin);
    printf("%s  pid %d  up %.0f s  ", program, (int)process->pid, berth__process_uptime(process));
    if (number(table, "version") == 0)
        puts("no policy");
    else
        printf("policy version %llu (%s)\n", (unsigned long long)number(table, "version"), origin);
    free(program);
    free(origin);
}

static void cell_row(struct berth_grid *grid, const char *tag, const char *tier, const json_t *cell)
{
    berth__grid_text(grid, tag);
    berth__grid_text(grid, tier);
    berth__grid_size(grid, number(cell, "requested"));
    berth__grid_size(grid, number(cell, "held"));
    berth__grid_number(grid, number(cell, "blocks"));
    if (json_object_get(cell, "peak"))
        berth__grid_size(grid, number(cell, "peak"));
    else
        berth__grid_text(grid, "-");
}

/* All rows of one tag, tier by tier. */
static void tag_rows(struct berth_grid *grid, const json_t *stat, const char *tag)
{
    size_t i, j;
    json_t *tier, *cell;

    json_array_foreach(json_object_get(stat, "tiers"), i, tier) json_array_foreach(
        json_object_get(tier, "tags"), j, cell) if (strcmp(string(cell, "tag"), tag) == 0)
        cell_row(grid, tag, string(tier, "name"), cell);
}

static void small_row(struct berth_grid *grid, const json_t *host)
{
    berth__grid_text(grid, "untagged (small)");
    berth__grid_text(grid, "dram");
    berth__grid_text(grid, "-");
    berth__grid_size(grid, number(host, "small_held"));
    berth__grid_text(grid, "-");
    berth__grid_text(grid, "-");
}

static void total_row(struct berth_grid *grid, const json_t *totals)
{
    berth__grid_text(grid, "total");
    berth__grid_text(grid, "");
    berth__grid_size(grid, number(totals, "requested"));
    berth__grid_size(grid, number(totals, "held_with_small"));
    berth__grid_number(grid, number(totals, "blocks"));
    berth__grid_text(grid, "-");
}

static void print_tags(const json_t *stat)
{
    static const char *const heads[] = {"TAG", "TIER", "REQUESTED", "HELD", "BLOCKS", "PEAK"};
    struct berth_grid grid;

    berth__grid_init(&grid, "llrrrr", heads);
    for (unsigned tag = 1; tag < BERTH_TAG_COUNT; tag++)
        tag_rows(&grid, stat, berth__tag_name(tag));
    tag_rows(&grid, stat, berth__tag_name(BERTH_TAG_UNTAGGED));
    if (json_is_object(json_object_get(stat, "host")))
        small_row(&grid, json_object_get(stat, "host"));
    total_row(&grid, json_object_get(stat, "totals"));
    berth__grid_finish(&grid, stdout);
}

static void tier_row(struct berth_grid *grid, const json_t *tier)
{
    const json_t *capacity = json_object_get(tier, "capacity");
    uint64_t limit = (uint64_t)json_integer_value(capacity);
    uint64_t used = number(tier, "reserved");

    berth__grid_text(grid, string(tier, "name"));
    berth__grid_text(grid, string(tier, "kind"));
    if (json_is_integer(capacity))
        berth__grid_size(grid, limit);
    else
        berth__grid_text(grid, "-");
    berth__grid_size(grid, used);
    berth__grid_size(grid, number(tier, "held"));
    berth__grid_size(grid, number(tier, "cached"));
    berth__grid_size(grid, number(tier, "overhead"));
    if (json_is_integer(capacity))
        berth__grid_size(grid, limit > used ? limit - used : 0);
    else
        berth__grid_text(grid, "-");
    berth__grid_number(grid, number(tier, "spilled_blocks"));
    berth__grid_size(grid, number(tier, "spilled_bytes"));
}

/* Built-in tiers, and those of earlier policies, say nothing where they were never used. */
static int worth_a_row(const json_t *tier, const json_t *of_policy)
{
    size_t i;
    json_t *named;

    json_array_foreach(of_policy, i, named)
    {
        if (strcmp(string(named, "name"), string(tier, "name")) == 0)
            return 1;
    }
    return number(tier, "reserved") > 0 || number(tier, "allocs") > 0 ||
           number(tier, "spilled_blocks") > 0;
}

static void print_tiers(const json_t *stat)
{
    static const char *const heads[] = {"TIER",   "KIND",     "CAPACITY", "RESERVED", "HELD",
                                        "CACHED", "OVERHEAD", "FREE",     "SPILLS",   "SPILLED"};
    struct berth_grid grid;
    size_t i;
    json_t *tier;

    berth__grid_init(&grid, "llrrrrrrrr", heads);
    json_array_foreach(json_object_get(stat, "tiers"), i, tier)
    {
        if (worth_a_row(tier, json_object_get(stat, POLICY_TIERS)))
            tier_row(&grid, tier);
    }
    berth__grid_finish(&grid, stdout);
}

/* Where a tier could not grow although its capacity would let it. */
static void print_refusals(const json_t *stat)
{
    size_t i;
    json_t *tier;

    json_array_foreach(json_object_get(stat, "tiers"), i, tier)
    {
        if (number(tier, "refusals") > 0)
            printf("tier %s: space refused %llu times, the last time: %s\n", string(tier, "name"),
                   (unsigned long long)number(tier, "refusals"), string(tier, "last_refusal"));
    }
}

/* What waits for the device, and which stream got whose memory; nothing where that never happened.
 */
static void print_order(const json_t *order)
{
    uint64_t waiting = number(order, "waiting"), points = number(order, "points");
    uint64_t idle = number(order, "idle_reuses"), behind = number(order, "waiting_reuses");
    char bytes[BERTH_QUANTITY_TEXT_MAX];

    if (waiting > 0 || points > 0)
        printf("%s freed and waiting for the device; %llu points recorded, %llu waited for\n",
               berth__quantity_format(waiting, bytes), (unsigned long long)points,
               (unsigned long long)number(order, "waits"));
    if (idle + behind > 0)
        printf("cross-stream reuses: %llu of idle blocks, %llu behind a wait\n",
               (unsigned long long)idle, (unsigned long long)behind);
}

/* Device memory that no tier has: the account and this are all that is used. */
static void print_device(const json_t *device)
{
    static const char *const heads[] = {"DEVICES", "TOTAL", "FREE", "DRIVER AND OTHERS"};
    struct berth_grid grid;

    if (!json_is_object(device))
        return;
    berth__grid_init(&grid, "lrrr", heads);
    berth__grid_text(&grid, "all");
    berth__grid_size(&grid, number(device, "total"));
    berth__grid_size(&grid, number(device, "free"));
    berth__grid_size(&grid, number(device, "others"));
    putchar('\n');
    berth__grid_finish(&grid, stdout);
}

static void rule_row(struct berth_grid *grid, const json_t *rule)
{
    berth__grid_text(grid, string(rule, "name"));
    berth__grid_number(grid, number(rule, "matched_blocks"));
    berth__grid_size(grid, number(rule, "matched_bytes"));
    berth__grid_number(grid, number(rule, "spilled_blocks"));
    berth__grid_size(grid, number(rule, "spilled_bytes"));
}

/* What each rule did since its table came into force. */
static void print_rules(const json_t *rules)
{
    static const char *const heads[] = {"RULE", "MATCHED", "BYTES", "SPILLS", "SPILLED"};
    struct berth_grid grid;
    size_t i;
    json_t *rule;

    berth__grid_init(&grid, "lrrrr", heads);
    json_array_foreach(rules, i, rule) rule_row(&grid, rule);
    berth__grid_finish(&grid, stdout);
}

/* How many of the calls got the place that the plan has for them. */
static void print_plan(const json_t *plan)
{
    uint64_t hits = number(plan, "hits"), unknown = number(plan, "unknown");
    uint64_t occupied = number(plan, "occupied"), all = hits + unknown + occupied;
    char peak[BERTH_QUANTITY_TEXT_MAX];

    printf("plan of %s: %s%llu of %llu calls at their places (%.1f %%), %llu not planned, %llu "
           "places taken, %llu times found again, %llu blocks lent\n",
           berth__quantity_format(number(plan, "peak"), peak),
           json_is_true(json_object_get(plan, "followed")) ? "" : "not followed; ",
           (unsigned long long)hits, (unsigned long long)all,
           all ? 100.0 * (double)hits / (double)all : 0.0, (unsigned long long)unknown,
           (unsigned long long)occupied, (unsigned long long)number(plan, "resyncs"),
           (unsigned long long)number(plan, "lent"));
}

static void print_people(const json_t *stat, const struct berth_process *process)
{
    const json_t *rules = json_object_get(stat, "rules");

    print_head(stat, process);
    putchar('\n');
    print_tags(stat);
    putchar('\n');
    print_tiers(stat);
    print_refusals(stat);
    print_device(json_object_get(stat, "device"));
    print_order(json_object_get(stat, "order"));
    if (json_is_object(json_object_get(stat, "plan"))) {
        putchar('\n');
        print_plan(json_object_get(stat, "plan"));
    }
    if (json_array_size(rules) > 0) {
        putchar('\n');
        print_rules(rules);
    }
    berth__limit_print(json_object_get(stat, "limits"), 1, stdout);
}

/* A reading: printed for people or as one JSON object. */
static void print_stat(json_t *stat, const struct berth_process *process,
                       const struct stat_arguments *arguments)
{
    if (!arguments->json) {
        if (arguments->paths)
            berth__stat_paths_print(stat);
        else
            print_people(stat, process);
        return;
    }
    json_object_del(stat, "id");
    json_object_del(stat, "ok");
    json_object_set_new(stat, "uptime_s", json_real(berth__process_uptime(process)));
    json_dumpf(stat, stdout, arguments->watch_s > 0 ? JSON_COMPACT : JSON_INDENT(2));
    putchar('\n');
}

/* Whether the process still runs: then silence is an error, else the end of a watch. */
static int has_ended(const struct berth_process *process)
{
    uint64_t start = 0;
    char state = '?';

    return berth__address_start(process->pid, &start, &state) < 0 || start != process->start ||
           state == 'Z' || state == 'X';
}

static void wait_seconds(double seconds)
{
    struct timespec left = {.tv_sec = (time_t)seconds};

    left.tv_nsec = (long)((seconds - (double)left.tv_sec) * 1e9);
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

/*
 * Appends the rules that did not fit into the first answer. When the table was replaced meanwhile,
 * the list stays as long as it is.
 */
static void read_other_rules(struct berth_session *session, json_t *stat)
{
    json_t *rules = json_object_get(stat, "rules");

    while (json_array_size(rules) < number(stat, "rule_count")) {
        json_t *request =
            json_pack("{s:s,s:I}", "op", "rules", "first", (json_int_t)json_array_size(rules));
        json_t *page = berth__session_request(session, request, -1, 1);
        json_t *more = json_object_get(page, "rules");
        int same = json_equal(json_object_get(page, "table"), json_object_get(stat, "table"));
        int ended = !same || json_array_size(more) == 0 || json_array_extend(rules, more) < 0;

        json_decref(page);
        if (ended)
            return;
    }
}

/* Adds the tiers that the policy names, for people. */
static void read_policy_tiers(struct berth_session *session, json_t *stat)
{
    const json_int_t none = (json_int_t)1 << 62;
    json_t *request =
        json_pack("{s:s,s:I,s:I}", "op", "policy.show", "first_site", none, "first_rule", none);
    json_t *policy = berth__session_request(session, request, -1, 1);

    json_object_set(stat, POLICY_TIERS, json_object_get(policy, "tiers"));
    json_decref(policy);
}

static json_t *read_stat(struct berth_session *session, const struct stat_arguments *arguments,
                         int quiet)
{
    json_t *stat = berth__session_request(session, json_pack("{s:s}", "op", "stat"), -1, quiet);

    if (stat)
        read_other_rules(session, stat);
    if (stat && !arguments->json)
        read_policy_tiers(session, stat);
    return stat;
}

/* The next reading. A program that becomes another one is asked anew when it answers again. */
static json_t *read_again(struct berth_session *session, const struct berth_process *process,
                          const struct stat_arguments *arguments)
{
    json_t *stat = NULL;

    if (session->client.fd >= 0)
        stat = read_stat(session, arguments, 1);
    if (stat)
        return stat;
    berth__session_close(session);
    return berth__session_open(session, process, 1) == 0 ? read_stat(session, arguments, 1) : NULL;
}

/* A terminal that can go back to its top; others get reading after reading. */
static int is_screen(void)
{
    const char *term = getenv("TERM");

    return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

/* Prints a reading every so often, for as long as the process lives. */
static int watch(struct berth_session *session, const struct berth_process *process,
                 const struct stat_arguments *arguments)
{
    json_t *stat = read_stat(session, arguments, 0);
    int first = 1;

    if (!stat)
        return has_ended(process) ? 0 : BERTH_EXIT_FAILURE;
    for (;;) {
        if (stat && !arguments->json)
            fputs(is_screen() ? "\033[H\033[J" : first ? "" : "\n", stdout);
        first = 0;
        if (stat)
            print_stat(stat, process, arguments);
        json_decref(stat);
        if (fflush(stdout) != 0)
            return BERTH_EXIT_FAILURE;
        wait_seconds(arguments->watch_s);
        if (has_ended(process))
            return 0;
        stat = read_again(session, process, arguments);
    }
}

static int run_stat(const struct berth_process *process, const struct stat_arguments *arguments)
{
    struct berth_session session;
    json_t *stat;
    int status = BERTH_EXIT_FAILURE;

    if (berth__session_open(&session, process, 0) < 0)
        return status;
    if (arguments->watch_s > 0) {
        status = watch(&session, process, arguments);
    } else if ((stat = read_stat(&session, arguments, 0))) {
        print_stat(stat, process, arguments);
        json_decref(stat);
        status = 0;
    }
    berth__session_close(&session);
    return status;
}

static int parse_arguments(int argc, char **argv, struct stat_arguments *ret)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'},
                                            {"paths", no_argument, NULL, 'p'},
                                            {"watch", required_argument, NULL, 'w'},
                                            {NULL, 0, NULL, 0}};
    char *end = NULL;
    int c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'j') {
            ret->json = 1;
        } else if (c == 'p') {
            ret->paths = 1;
        } else if (c == 'w') {
            ret->watch_s = strtod(optarg, &end);
            if (end == optarg || *end != '\0' || !(ret->watch_s >= 0.1 && ret->watch_s <= 86400))
                return berth__tool_misuse(
                    "stat: --watch '%s' is no number of seconds; expected 0.1 "
                    "to 86400",
                    optarg);
        } else {
            return BERTH_EXIT_MISUSE;
        }
    }
    if (optind < argc)
        ret->pid = argv[optind++];
    if (optind < argc)
        return berth__tool_misuse("stat: '%s' is not expected; expected one PID", argv[optind]);
    return 0;
}

int berth__command_stat(int argc, char **argv)
{
    struct stat_arguments arguments = {0};
    struct berth_process process;
    int status = parse_arguments(argc, argv, &arguments);

    if (status == 0)
        status = berth__process_find(arguments.pid, &process);
    if (status != 0)
        return status;
    status = run_stat(&process, &arguments);
    berth__process_done(&process);
    return berth__tool_finish(status);
}
