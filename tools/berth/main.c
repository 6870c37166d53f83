/* SPDX-License-Identifier: Apache-2.0 */
/* berth: starts programs under Berth, and speaks with those that run. */
#include "tools/berth/options.h"
#include "tools/berth/policy.h"
#include "tools/berth/tool.h"
#include "tools/berth/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
    const char *name;
    const char *arguments;
    const char *help;
    int (*run)(int argc, char **argv);
};

static int command_policy(int argc, char **argv);
static int command_help(int argc, char **argv);
static int command_version(int argc, char **argv);

/* The one table of commands: dispatch, usage and help. */
static const struct command commands[] = {
    {"run", "[--policy FILE] [--plan FILE] [-o OPTION=VALUE]... [--] COMMAND [ARGUMENT]...",
     "Start a program under Berth; its exit status and signals are its own.", berth__command_run},
    {"ps", "[--all] [--json]", "List the processes under Berth.", berth__command_ps},
    {"stat", "[PID] [--json] [--paths] [--watch SECONDS]",
     "Show where a process's memory is, by tag and tier.", berth__command_stat},
    {"trace", "record|replay|plan|export ...",
     "Record the allocations of a program; replay and plan what was recorded.",
     berth__command_trace},
    {"snapshot", "[PID] -o FILE",
     "Write what a process's pools hold, for PyTorch's memory_viz page.", berth__command_snapshot},
    {"policy", "check|compile|show|apply ...",
     "Check, compile or show a policy file; show or replace the policy of a process.",
     command_policy},
    {"pool", "list|create|drop|attach|detach ...",
     "Share device memory between processes: keep segments for others, borrow from them.",
     berth__command_pool},
    {"limit", "PID [--tag TAG] [BYTES|none]",
     "Show or set how much device memory a process, or its blocks of a tag, may have.",
     berth__command_limit},
    {"trim", "PID [--device N] [--keep BYTES]",
     "Have a process give the device memory back that it only caches.", berth__command_trim},
    {"options", "[PID]", "Show all options: here, or in a process.", berth__command_options},
    {"doctor", "[PID | -- PROGRAM]",
     "Say what of Berth works on this machine, or what it sees of a process, and what is missing.",
     berth__command_doctor},
    {"help", "[COMMAND]", "Show this, or one command's arguments.", command_help},
    {"version", "", "Show the version.", command_version},
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void print_command(const struct command *command)
{
    printf("usage: berth %s%s%s\n\n%s\n", command->name, command->arguments[0] ? " " : "",
           command->arguments, command->help);
    if (strcmp(command->name, "policy") == 0)
        printf("\n"
               "  berth policy check FILE            say every mistake in a policy file\n"
               "  berth policy compile FILE [-o OUT] make a table of it, for BERTH_POLICY\n"
               "  berth policy show FILE|PID         show what a file or a process has\n"
               "  berth policy apply PID FILE        replace the policy of a process\n");
    if (strcmp(command->name, "trace") == 0)
        printf(
            "\n"
            "  berth trace record [-o FILE] [--call-paths] -- COMMAND\n"
            "                                      record the allocations of a program\n"
            "  berth trace record [-o FILE] [--call-paths] -p PID [--seconds S]\n"
            "                                      record those of a running process\n"
            "  berth trace export FILE [-o OUT]    make text of a recording (BERTH_TRACE)\n"
            "  berth trace replay FILE [OPTION]... re-run a trace against the driver, the pool or "
            "both\n"
            "  berth trace plan FILE [OPTION]...   find where each allocation of a trace lies "
            "best\n");
    if (strcmp(command->name, "pool") == 0)
        printf(
            "\n"
            "  berth pool list [PID]              show what a process keeps and borrows\n"
            "  berth pool create PID NAME SIZE    have it keep a segment [--device NUMBER|UUID]\n"
            "  berth pool drop PID NAME           have it forget one\n"
            "  berth pool attach PID TIER         have a tier borrow a piece of one\n"
            "        [--from PID|SOCKET] [--name NAME] [--offset SIZE] [--size SIZE]\n"
            "  berth pool detach PID TIER         have it give the piece up\n");
    if (strcmp(command->name, "run") == 0) {
        printf("\nOptions, for -o and BERTH_OPTIONS:\n\n");
        berth__options_print(stdout);
    }
    printf("\nSee berth(1).\n");
}

static void print_usage(FILE *out)
{
    fprintf(out, "usage: berth COMMAND [ARGUMENT]...\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\n`berth help COMMAND` shows a command's arguments. See berth(1).\n");
}

static int command_help(int argc, char **argv)
{
    const struct command *command = argc > 1 ? find_command(argv[1]) : NULL;

    if (argc > 1 && !command)
        return berth__tool_misuse("'%s' is no command; expected one of those in `berth help`",
                                  argv[1]);
    if (command)
        print_command(command);
    else
        print_usage(stdout);
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

/* Whether the command's own arguments ask for help; those of a program to run are its own. */
static int asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && argv[i][0] == '-' && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    char title[64];
    const struct command *command;

    if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
        return command_version(argc - 1, argv + 1);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return command_help(1, argv + 1);
    command = find_command(name);
    if (!command) {
        if (*name == '\0')
            print_usage(stderr);
        else
            berth__tool_misuse("'%s' is no command; expected one of those in `berth help`", name);
        return BERTH_EXIT_MISUSE;
    }
    if (asks_for_help(argc - 1, argv + 1)) {
        print_command(command);
        return berth__tool_finish(0);
    }
    /* getopt() begins its messages with it. */
    snprintf(title, sizeof(title), "berth: %s", name);
    argv[1] = title;
    return command->run(argc - 1, argv + 1);
}
