/* SPDX-License-Identifier: Apache-2.0 */
/* berth options: the one table of options, with where each value comes from. */
#include "alloc/options.h"

#include "tools/berth/grid.h"
#include "tools/berth/options.h"
#include "tools/berth/process.h"
#include "tools/berth/tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void complain(const char *why, void *context)
{
    berth__tool_fail("%s: %s", (const char *)context, why);
}

int berth__options_read_environment(void)
{
    static char options_variable[] = "BERTH_OPTIONS";
    const char *control = getenv("BERTH_CONTROL");
    char why[BERTH_OPTION_WHY_MAX];
    int wrong = 0;

    if (control && berth__option_set("control", 7, control, strlen(control),
                                     BERTH_ORIGIN_ENVIRONMENT, why) < 0) {
        berth__tool_fail("BERTH_CONTROL: %s", why);
        wrong++;
    }
    return wrong + berth__options_parse(getenv("BERTH_OPTIONS"), BERTH_ORIGIN_ENVIRONMENT, complain,
                                        options_variable);
}

void berth__options_print(FILE *out)
{
    static const char *const heads[] = {"OPTION", "VALUE", "FROM", "EXPECTED", "MEANING"};
    struct berth_grid grid;

    berth__grid_init(&grid, "lllll", heads);
    for (unsigned i = 0; i < BERTH_OPTION_COUNT; i++) {
        const struct berth_option_info *info = &berth__option_info[i];
        enum berth_option option = (enum berth_option)i;
        char text[BERTH_OPTION_TEXT_MAX];

        berth__grid_text(&grid, info->name);
        berth__grid_text(&grid, berth__option_text(option, text));
        berth__grid_text(&grid, berth__origin_name(berth__option_origin(option)));
        berth__grid_text(&grid, info->choices[0] ? info->choices : info->unit);
        berth__grid_text(&grid, info->help);
    }
    berth__grid_finish(&grid, out);
}

/* The options of a running process, as it tells them. */
static int print_process(const char *pid)
{
    static const char *const heads[] = {"OPTION", "VALUE", "FROM", "EXPECTED", "MEANING"};
    struct berth_process process;
    struct berth_session session;
    struct berth_grid grid;
    json_t *reply = NULL, *option;
    size_t i;

    if (berth__process_find(pid, &process) != 0)
        return BERTH_EXIT_FAILURE;
    if (berth__session_open(&session, &process, 0) == 0) {
        reply = berth__session_request(&session, json_pack("{s:s}", "op", "options"), -1, 0);
        berth__session_close(&session);
    }
    berth__process_done(&process);
    if (!reply)
        return BERTH_EXIT_FAILURE;
    berth__grid_init(&grid, "lllll", heads);
    json_array_foreach(json_object_get(reply, "options"), i, option)
    {
        const char *choices = json_string_value(json_object_get(option, "choices"));
        const char *const keys[] = {"name", "text", "origin",
                                    choices && choices[0] ? "choices" : "unit", "help"};

        for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
            const char *text = json_string_value(json_object_get(option, keys[k]));

            berth__grid_text(&grid, text ? text : "?");
        }
    }
    berth__grid_finish(&grid, stdout);
    json_decref(reply);
    return 0;
}

int berth__command_options(int argc, char **argv)
{
    if (argc > 2)
        return berth__tool_misuse("options: '%s' is not expected; expected berth options [PID]",
                                  argv[2]);
    if (argc == 2)
        return berth__tool_finish(print_process(argv[1]));
    berth__options_read_environment();
    berth__options_print(stdout);
    return berth__tool_finish(0);
}
