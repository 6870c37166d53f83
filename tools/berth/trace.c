/* SPDX-License-Identifier: Apache-2.0 */
/* berth trace: records the allocations of a program, and does something with what was recorded. */
#include "tools/berth/trace.h"

#include "tools/berth/tool.h"
#include "tools/berth/trace_worker.h"

#include <string.h>

/* `berth help trace` tells of these; what is not told is for the tool itself. */
static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"record", berth__trace_record_command}, {"export", berth__trace_export},
    {"replay", berth__trace_replay},         {"plan", berth__trace_plan},
    {"replay-worker", berth__trace_worker},
};

int berth__command_trace(int argc, char **argv)
{
    static char title[64] = "berth: trace ";

    for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        /* getopt() begins its messages with it. */
        strncat(title, commands[i].name, sizeof(title) - strlen(title) - 1);
        argv[1] = title;
        return commands[i].run(argc - 1, argv + 1);
    }
    if (argc > 1)
        return berth__tool_misuse("trace: '%s' is not expected; expected one of those in `berth "
                                  "help trace`",
                                  argv[1]);
    return berth__tool_misuse("trace: there is no command; expected one of those in `berth help "
                              "trace`");
}
