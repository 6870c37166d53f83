/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the preload libraries and the tool's own are: beside this tool in a build tree, else where
 * they were installed, relative to this tool so that an installation can be moved as a whole.
 */
#ifndef BERTH_TOOLS_LIBRARY_H
#define BERTH_TOOLS_LIBRARY_H

#include <limits.h>

#define BERTH_LIBRARY_CUDA "libberth.so"
#define BERTH_LIBRARY_MALLOC "libberth-malloc.so"
/* The tool's own (line_reader.h). */
#define BERTH_LIBRARY_LINES "libberth-lines.so"

/* The absolute path of a library. 0, or -ENOENT after which `ret` names where it was expected. */
int berth__library_find(const char *name, char ret[PATH_MAX]);

/*
 * Appends a library to LD_PRELOAD: what is there keeps its place in the search order. 0, or
 * negative errno after one line that begins with the command's name.
 */
int berth__library_preload(const char *command, const char *name);

#endif
