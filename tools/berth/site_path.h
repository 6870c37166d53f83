/* SPDX-License-Identifier: Apache-2.0 */
/* A call path as a process tells it (berth-protocol(7)), made readable. */
#ifndef BERTH_TOOLS_SITE_PATH_H
#define BERTH_TOOLS_SITE_PATH_H

#include "tools/berth/source_line.h"

#include <jansson.h>
#include <stdio.h>

/*
 * Adds to each frame "name" (the symbol in its language, or null), "function" (the same by a debug
 * file, where the process has no symbol, or null), "line" ("file.c:42", or null) and "inlined"
 * (source_line.h), for the `most` innermost ones; the others go.
 */
void berth__site_path_read(json_t *frames, size_t most, struct berth_source_lines *lines);

/* A line per frame that was read, indented: "app!load+0x1f (load.c:42)". */
void berth__site_path_print(const json_t *frames, FILE *out);

#endif
