/* SPDX-License-Identifier: Apache-2.0 */
/* berth ps: the processes under Berth, and what each holds. */
#include "tools/berth/grid.h"
#include "tools/berth/process.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "3 s", "12 min", "5.2 h", "3.1 d" */
static char *uptime_text(double seconds)
{
    if (seconds < 120)
        return berth__tool_format("%.0f s", seconds);
    if (seconds < 7200)
        return berth__tool_format("%.0f min", seconds / 60);
    if (seconds < 172800)
        return berth__tool_format("%.1f h", seconds / 3600);
    return berth__tool_format("%.1f d", seconds / 86400);
}

/* The names of the tiers that hold something. */
static json_t *tiers_in_use(const json_t *stat)
{
    json_t *names = json_array();
    size_t index;
    json_t *tier;

    json_array_foreach(json_object_get(stat, "tiers"), index,
                       tier) if (json_integer_value(json_object_get(tier, "reserved")) > 0)
        json_array_append(names, json_object_get(tier, "name"));
    return names;
}

/* The executable's path as the kernel knows it; "?" where it does not tell. */
static void read_program(pid_t pid, char ret[PATH_MAX])
{
    char link[64];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/%d/exe", (int)pid);
    n = readlink(link, ret, PATH_MAX - 1);
    if (n <= 0)
        n = snprintf(ret, PATH_MAX, "?");
    ret[n] = '\0';
    for (char *c = ret; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
}

/*
 * What `ps` knows of a process; NULL for one that is gone, or has become a program that is not
 * under Berth. Of one that is stopped it knows only that it is there.
 */
static json_t *describe(const struct berth_process *process)
{
    char program[PATH_MAX];
    struct berth_session session;
    json_t *stat = NULL, *totals, *result;
    int r = berth__session_open(&session, process, 1);

    if (r < 0 && r != -ETIMEDOUT)
        return NULL;
    if (r == 0)
        stat = berth__session_request(&session, json_pack("{s:s}", "op", "stat"), -1, 1);
    read_program(process->pid, program);
    totals = json_object_get(stat, "totals");
    result = json_pack("{s:i,s:I,s:s,s:f,s:b,s:o,s:O?,s:O?}", "pid", (int)process->pid, "start",
                       (json_int_t)process->start, "program", program, "uptime_s",
                       berth__process_uptime(process), "answers", stat != NULL, "tiers",
                       tiers_in_use(stat), "held", json_object_get(totals, "held"),
                       "held_with_small", json_object_get(totals, "held_with_small"));
    json_decref(stat);
    if (r == 0)
        berth__session_close(&session);
    return result;
}

static char *join(const json_t *names)
{
    char *text = berth__tool_strdup("");
    size_t index;
    json_t *name;

    json_array_foreach(names, index, name)
    {
        char *longer =
            berth__tool_format("%s%s%s", text, index ? "," : "", json_string_value(name));

        free(text);
        text = longer;
    }
    return text;
}

static void print_row(struct berth_grid *grid, const json_t *process)
{
    const char *program = json_string_value(json_object_get(process, "program"));
    const char *slash = program ? strrchr(program, '/') : NULL;
    char *uptime = uptime_text(json_real_value(json_object_get(process, "uptime_s")));
    char *tiers = join(json_object_get(process, "tiers"));

    berth__grid_number(grid, (uint64_t)json_integer_value(json_object_get(process, "pid")));
    berth__grid_text(grid, slash ? slash + 1 : program ? program : "?");
    berth__grid_text(grid, uptime);
    if (json_is_true(json_object_get(process, "answers"))) {
        berth__grid_text(grid, tiers[0] ? tiers : "-");
        berth__grid_size(grid,
                         (uint64_t)json_integer_value(json_object_get(process, "held_with_small")));
    } else {
        berth__grid_text(grid, "(does not answer)");
        berth__grid_text(grid, "-");
    }
    free(uptime);
    free(tiers);
}

static void print_table(const json_t *processes)
{
    static const char *const heads[] = {"PID", "PROGRAM", "UPTIME", "TIERS", "HELD"};
    struct berth_grid grid;
    size_t index;
    json_t *process;

    berth__grid_init(&grid, "rlrlr", heads);
    json_array_foreach(processes, index, process) print_row(&grid, process);
    berth__grid_finish(&grid, stdout);
}

static json_t *describe_all(int everywhere)
{
    struct berth_process *list = NULL;
    size_t count = berth__process_list(everywhere, &list);
    json_t *processes = json_array();

    for (size_t i = 0; i < count; i++) {
        json_t *process = describe(&list[i]);

        if (process)
            json_array_append_new(processes, process);
    }
    berth__process_free(list, count);
    return processes;
}

int berth__command_ps(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"all", no_argument, NULL, 'a'}, {NULL, 0, NULL, 0}};
    json_t *processes;
    int json = 0, everywhere = 0, c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == '?')
            return BERTH_EXIT_MISUSE;
        if (c == 'j')
            json = 1;
        else
            everywhere = 1;
    }
    if (optind < argc)
        return berth__tool_misuse("ps: '%s' is not expected; expected berth ps [--all] [--json]",
                                  argv[optind]);
    processes = describe_all(everywhere);
    if (json) {
        json_dumpf(processes, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_table(processes);
    }
    json_decref(processes);
    return berth__tool_finish(0);
}
