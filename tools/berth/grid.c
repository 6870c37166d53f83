/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/grid.h"

#include "alloc/quantity.h"
#include "tools/berth/tool.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Between two columns. */
#define GAP 2

void berth__grid_init(struct berth_grid *grid, const char *alignment, const char *const *heads)
{
    memset(grid, 0, sizeof(*grid));
    grid->alignment = alignment;
    grid->columns = strlen(alignment);
    for (size_t i = 0; i < grid->columns; i++)
        berth__grid_text(grid, heads[i]);
}

void berth__grid_text(struct berth_grid *grid, const char *text)
{
    if (grid->cells == grid->size) {
        grid->size = grid->size ? grid->size * 2 : 64;
        grid->cell = berth__tool_realloc(grid->cell, grid->size * sizeof(*grid->cell));
    }
    grid->cell[grid->cells] = berth__tool_strdup(text);
    berth__tool_clean(grid->cell[grid->cells++]);
}

void berth__grid_number(struct berth_grid *grid, uint64_t number)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, number);
    berth__grid_text(grid, text);
}

void berth__grid_size(struct berth_grid *grid, uint64_t bytes)
{
    char text[BERTH_QUANTITY_TEXT_MAX];

    berth__grid_text(grid, berth__quantity_format(bytes, text));
}

/* How many columns a terminal gives to UTF-8 text: continuation bytes take none. */
static size_t width_of(const char *text)
{
    size_t width = 0;

    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static size_t column_width(const struct berth_grid *grid, size_t column)
{
    size_t width = 0;

    for (size_t i = column; i < grid->cells; i += grid->columns)
        if (width_of(grid->cell[i]) > width)
            width = width_of(grid->cell[i]);
    return width;
}

void berth__grid_finish(struct berth_grid *grid, FILE *out)
{
    size_t *width = berth__tool_realloc(NULL, grid->columns * sizeof(*width));

    for (size_t i = 0; i < grid->columns; i++)
        width[i] = column_width(grid, i);
    for (size_t i = 0; i < grid->cells; i++) {
        size_t column = i % grid->columns;
        int last = column + 1 == grid->columns;
        int pad = (int)(width[column] - width_of(grid->cell[i]));

        if (grid->alignment[column] == 'r')
            fprintf(out, "%*s%s", pad, "", grid->cell[i]);
        else
            fprintf(out, "%s%*s", grid->cell[i], last ? 0 : pad, "");
        if (last)
            fputc('\n', out);
        else
            fprintf(out, "%*s", GAP, "");
        free(grid->cell[i]);
    }
    free(width);
    free(grid->cell);
    memset(grid, 0, sizeof(*grid));
}
