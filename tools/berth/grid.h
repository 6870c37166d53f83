/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Columns of text for people. A grid is filled row by row and printed once; every column is as wide
 * as its widest cell. Out of memory, the tool says so and exits.
 */
#ifndef BERTH_TOOLS_GRID_H
#define BERTH_TOOLS_GRID_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct berth_grid {
    size_t columns;
    const char *alignment; /* per column 'l' or 'r' */
    char **cell;
    size_t cells, size;
};

/* `alignment` has a letter per column; `heads` a title per column. */
void berth__grid_init(struct berth_grid *grid, const char *alignment, const char *const *heads);
/* Appends a cell: a copy of the text, a number, or a size as "1.50 GiB". */
void berth__grid_text(struct berth_grid *grid, const char *text);
void berth__grid_number(struct berth_grid *grid, uint64_t number);
void berth__grid_size(struct berth_grid *grid, uint64_t bytes);
/* Prints and frees it. */
void berth__grid_finish(struct berth_grid *grid, FILE *out);

#endif
