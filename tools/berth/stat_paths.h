/* SPDX-License-Identifier: Apache-2.0 */
/* berth stat --paths: which way the calls that allocate came, for people. */
#ifndef BERTH_TOOLS_STAT_PATHS_H
#define BERTH_TOOLS_STAT_PATHS_H

#include <jansson.h>

/* Prints the member "paths" of an answer to the operation "stat". */
void berth__stat_paths_print(const json_t *stat);

#endif
