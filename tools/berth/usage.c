/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/usage.h"

#include "tools/berth/options.h"

#include <string.h>

/* In the order in which `berth help` tells them; the parts of a command follow it. */
static const struct berth_usage rows[] = {
    {"run", NULL, "[--policy FILE] [--plan FILE] [-o OPTION=VALUE]... [--] COMMAND [ARGUMENT]...",
     "Start a program under Berth; its exit status and signals are its own.", NULL},
    {"ps", NULL, "[--all] [--json]", "List the processes under Berth.", NULL},
    {"stat", NULL, "[PID] [--json] [--paths] [--watch SECONDS]",
     "Show where a process's memory is, by tag and tier.",
     "  --paths          how often each path of CUDA calls was used\n"
     "  --watch SECONDS  again and again\n"},
    {"trace", NULL, "record|replay|plan|export ...",
     "Record the allocations of a program; replay and plan what was recorded.", NULL},
    {"trace", "record",
     "[-o FILE] [--call-paths] [--] COMMAND [ARGUMENT]... | -p PID [--seconds S]",
     "Record the allocations of a program, or of a running process.",
     "  -o FILE       where the trace goes; default berth-trace.csv\n"
     "  --call-paths  read the call path of each allocation\n"
     "  -p PID        record a process that runs under Berth\n"
     "  --seconds S   for so long\n"},
    {"trace", "replay", "FILE [OPTION]...",
     "Make the calls of a trace again, against the driver, the pool or both.",
     "  --against driver|pool|both   default both\n"
     "  -n, --repeat N               how many times; default 3\n"
     "  --keep                       what the trace never frees stays between them\n"
     "  -o, --option NAME=VALUE      an option for the pool\n"
     "  --threads 1|recorded         default 1\n"
     "  --calls recorded|alloc|async default recorded\n"
     "  --driver PATH|virtual        default libcuda.so.1; virtual where there is none\n"
     "  --device-memory SIZE         of each device of the virtual driver; default 80G\n"
     "  --json                       one object with all numbers\n"},
    {"trace", "plan", "FILE [OPTION]...", "Find where each allocation of a trace lies best.",
     "  -o, --output FILE     where the plan goes; without it, the figures alone are printed\n"
     "  --effort NUMBER       how much it may search: 1 is about a second of a core; default 10\n"
     "  --time-limit SECONDS  how long it may search; default 60; without --effort all of it\n"
     "  --seed N              of the search\n"
     "  --device N            default: the one of which most bytes were asked\n"
     "  --delay N             a block lives until so many allocations after its free\n"
     "  --no-repeat           plan the whole run, without looking for steps\n"
     "  --json                one object with all numbers\n"},
    {"trace", "export", "RECORDING [-o FILE]",
     "Make text of a recording that a program left by itself (BERTH_TRACE).", NULL},
    {"sites", NULL, "[PID] [OPTION]...", "Show who asked for a process's memory, by call site.",
     "  --by live|requested|peak|count|allocs|lifetime  default live\n"
     "  -n, --top N      how many; default 20, 0 for all\n"
     "  --frames N       innermost frames of each path; default 3\n"
     "  --full           the whole path\n"
     "  --host, --device one side only\n"
     "  --tag TAG, --tier TIER\n"
     "  --json           an object with all numbers\n"
     "  --read always|policy  have call sites read from now on, always or as the policy needs\n"},
    {"explain", NULL, "PID ADDRESS|SITE [--json]",
     "Say which rule decided about a block or a call site, and where it is.",
     "  ADDRESS  of a byte in the block, as 0x7f0012345000\n"
     "  SITE     a number of `berth sites`, as #12\n"
     "  --size SIZE, --tag TAG, --host, --device  what of the site is meant\n"},
    {"snapshot", NULL, "[PID] -o FILE",
     "Write what a process's pools hold, for PyTorch's memory_viz page.",
     "  -o FILE  where it goes; - for standard output\n"},
    {"policy", NULL, "check|compile|show|apply ...",
     "Check, compile or show a policy file; show or replace the policy of a process.", NULL},
    {"policy", "check", "FILE", "Say every mistake in a policy file.", NULL},
    {"policy", "compile", "FILE [-o OUT]", "Make a table of a policy file, for BERTH_POLICY.",
     NULL},
    {"policy", "show", "FILE|PID [--text|--json]", "Show what a file or a process has.", NULL},
    {"policy", "apply", "[--move] PID FILE", "Replace the policy of a process.",
     "  --move  moves blocks that it has already, too, where their rules say movable = yes\n"},
    {"pool", NULL, "list|create|drop|attach|detach ...",
     "Share device memory between processes: keep segments for others, borrow from them.", NULL},
    {"pool", "list", "[PID] [--json]", "Show what a process keeps for others and borrows.", NULL},
    {"pool", "create", "PID NAME SIZE [--device NUMBER|UUID]",
     "Have a process keep a segment for others.", NULL},
    {"pool", "drop", "PID NAME", "Have a process forget a segment that it keeps.", NULL},
    {"pool", "attach", "PID TIER [--from PID|SOCKET] [--name NAME] [--offset SIZE] [--size SIZE]",
     "Have a tier of a process borrow a piece of a segment.", NULL},
    {"pool", "detach", "PID TIER", "Have a tier of a process give its piece up.", NULL},
    {"limit", NULL, "PID [--tag TAG] [BYTES|none]",
     "Show or set how much device memory a process, or its blocks of a tag, may have.", NULL},
    {"trim", NULL, "PID [--device N] [--keep BYTES]",
     "Have a process give the device memory back that it only caches.", NULL},
    {"pmem", NULL, "ls|check|rm|init PATH ...",
     "Look at the persistent blocks in the file or dax device of a named tier.", NULL},
    {"pmem", "ls", "PATH [--json]", "List the blocks.", NULL},
    {"pmem", "check", "PATH [NAME]... [--json]",
     "Read every byte of the blocks, or of these, and compare checksums.", NULL},
    {"pmem", "rm", "PATH NAME...", "Remove blocks.", NULL},
    {"pmem", "init", "PATH NAME [--force]", "Make a store for a tier of this name.",
     "  --force  on a dax device, whatever is on it now\n"},
    {"options", NULL, "[PID]", "Show all options: here, or in a process.", NULL},
    {"doctor", NULL, "[PID | -- PROGRAM]",
     "Say what of Berth works on this machine, or what it sees of a process, and what is missing.",
     NULL},
    {"help", NULL, "[COMMAND [PART]]", "Show this, or one command's arguments.", NULL},
    {"version", NULL, "", "Show the version.", NULL},
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

const struct berth_usage *berth__usage_find(const char *name, const char *part)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const struct berth_usage *row = &rows[i];

        if (strcmp(row->name, name) != 0 || !row->part != !part)
            continue;
        if (!part || strcmp(row->part, part) == 0)
            return row;
    }
    return NULL;
}

void berth__usage_print_all(FILE *to)
{
    fprintf(to, "usage: berth COMMAND [ARGUMENT]...\n\n");
    for (size_t i = 0; i < ROW_COUNT; i++)
        if (!rows[i].part)
            fprintf(to, "  %-8s %s\n", rows[i].name, rows[i].help);
    fprintf(to, "\n`berth help COMMAND` shows a command's arguments. See berth(1).\n");
}

static void print_parts(const char *name)
{
    const char *before = "\n";

    for (size_t i = 0; i < ROW_COUNT; i++) {
        if (!rows[i].part || strcmp(rows[i].name, name) != 0)
            continue;
        printf("%s  berth %s %s %s\n        %s\n", before, name, rows[i].part, rows[i].arguments,
               rows[i].help);
        before = "";
    }
}

void berth__usage_print(const struct berth_usage *usage)
{
    printf("usage: berth %s%s%s%s%s\n\n%s\n", usage->name, usage->part ? " " : "",
           usage->part ? usage->part : "", usage->arguments[0] ? " " : "", usage->arguments,
           usage->help);
    if (usage->options)
        printf("\n%s", usage->options);
    if (!usage->part)
        print_parts(usage->name);
    if (strcmp(usage->name, "run") == 0) {
        printf("\nOptions, for -o and BERTH_OPTIONS:\n\n");
        berth__options_print(stdout);
    }
    printf("\nSee berth(1).\n");
}

/* Whether the words after an option of this name begin with its value. */
static int takes_value(const char *option)
{
    static const char *const options[] = {
        "-o", "-p", "--policy", "--plan", "--option", "--output", "--pid", "--seconds",
    };

    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
        if (strcmp(option, options[i]) == 0)
            return 1;
    return 0;
}

static int is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* Whether a command takes a program and that program's arguments. */
static int starts_program(const struct berth_usage *usage)
{
    return strstr(usage->arguments, "COMMAND [ARGUMENT]...") != NULL;
}

const struct berth_usage *berth__usage_asked(int argc, char **argv)
{
    const struct berth_usage *usage = berth__usage_find(argv[0], NULL);
    const struct berth_usage *part = argc > 1 ? berth__usage_find(argv[0], argv[1]) : NULL;
    int i = part ? 2 : 1;

    if (part)
        usage = part;
    for (; usage && i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (is_help(argv[i]))
            return usage;
        if (!starts_program(usage))
            continue;
        if (argv[i][0] != '-')
            return NULL;
        if (takes_value(argv[i]))
            i++;
    }
    return NULL;
}
