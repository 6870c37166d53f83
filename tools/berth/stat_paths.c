/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/stat_paths.h"

#include "tools/berth/grid.h"

#include <stdio.h>

static void path_rows(struct berth_grid *grid, json_t *path, uint64_t *sum)
{
    const char *name = json_string_value(json_object_get(path, "path"));
    const char *function;
    json_t *calls;

    json_object_foreach(json_object_get(path, "functions"), function, calls)
    {
        berth__grid_text(grid, name ? name : "?");
        berth__grid_text(grid, function);
        berth__grid_number(grid, (uint64_t)json_integer_value(calls));
        *sum += (uint64_t)json_integer_value(calls);
    }
}

void berth__stat_paths_print(const json_t *stat)
{
    static const char *const heads[] = {"PATH", "FUNCTION", "CALLS"};
    struct berth_grid grid;
    uint64_t sum = 0;
    size_t i;
    json_t *path;

    berth__grid_init(&grid, "llr", heads);
    json_array_foreach(json_object_get(stat, "paths"), i, path) path_rows(&grid, path, &sum);
    berth__grid_text(&grid, "total");
    berth__grid_text(&grid, "");
    berth__grid_number(&grid, sum);
    berth__grid_finish(&grid, stdout);
}
