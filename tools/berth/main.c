/* SPDX-License-Identifier: Apache-2.0 */
/* berth: starts programs under Berth, and speaks with those that run. */
#include "tools/berth/policy.h"
#include "tools/berth/tool.h"
#include "tools/berth/trace.h"
#include "tools/berth/usage.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int command_policy(int argc, char **argv);
static int command_help(int argc, char **argv);
static int command_version(int argc, char **argv);

/* What is told of them is in usage.c. */
static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", berth__command_run},
    {"ps", berth__command_ps},
    {"stat", berth__command_stat},
    {"trace", berth__command_trace},
    {"snapshot", berth__command_snapshot},
    {"sites", berth__command_sites},
    {"explain", berth__command_explain},
    {"policy", command_policy},
    {"pool", berth__command_pool},
    {"limit", berth__command_limit},
    {"trim", berth__command_trim},
    {"options", berth__command_options},
    {"doctor", berth__command_doctor},
    {"pmem", berth__command_pmem},
    {"help", command_help},
    {"version", command_version},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int command_help(int argc, char **argv)
{
    const struct berth_usage *usage;

    if (argc < 2) {
        berth__usage_print_all(stdout);
        return berth__tool_finish(0);
    }
    usage = berth__usage_find(argv[1], argc > 2 ? argv[2] : NULL);
    if (!usage && argc > 2 && berth__usage_find(argv[1], NULL))
        return berth__tool_misuse("%s: '%s' is not expected; expected what `berth help %s` tells",
                                  argv[1], argv[2], argv[1]);
    if (!usage)
        return berth__tool_misuse("'%s' is no command; expected one of those in `berth help`",
                                  argv[1]);
    berth__usage_print(usage);
    return berth__tool_finish(0);
}

static int command_version(int argc, char **argv)
{
    puts("berth " BERTH_VERSION);
    return berth__tool_finish(0);
}

/* A process is named by digits alone; a file of such a name is given as ./1234. */
static int is_pid(const char *text)
{
    return *text != '\0' && text[strspn(text, "0123456789")] == '\0';
}

static int command_policy(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "apply") == 0)
        return berth__command_policy_apply(argc - 1, argv + 1);
    if (argc > 2 && strcmp(argv[1], "show") == 0 && is_pid(argv[argc - 1]))
        return berth__command_policy_show_process(argc - 1, argv + 1);
    return berth__command_policy(argc, argv);
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    char title[64];
    const struct command *command;
    const struct berth_usage *usage;

    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        return command_version(argc - 1, argv + 1);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return command_help(1, argv + 1);
    command = find_command(name);
    if (!command) {
        if (*name == '\0')
            berth__usage_print_all(stderr);
        else
            berth__tool_misuse("'%s' is no command; expected one of those in `berth help`", name);
        return BERTH_EXIT_MISUSE;
    }
    usage = berth__usage_asked(argc - 1, argv + 1);
    if (usage) {
        berth__usage_print(usage);
        return berth__tool_finish(0);
    }
    /* getopt() begins its messages with it. */
    snprintf(title, sizeof(title), "berth: %s", name);
    argv[1] = title;
    return command->run(argc - 1, argv + 1);
}
