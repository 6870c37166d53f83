/* SPDX-License-Identifier: Apache-2.0 */
/* The limits of a process, as its answers have them. */
#ifndef BERTH_TOOLS_LIMIT_H
#define BERTH_TOOLS_LIMIT_H

#include <jansson.h>
#include <stdio.h>

/* A table of the list "limits"; or of those that are set or have refused something, if any. */
void berth__limit_print(const json_t *limits, int only_those_set, FILE *out);

#endif
