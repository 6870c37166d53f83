/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether this machine can give a program the tiers of a table.
 *
 * `berth run` looks before it becomes the program, and says what is missing itself: the libraries
 * are loaded again in every child process, and would say it in each.
 */
#ifndef BERTH_TOOLS_TIER_PROBE_H
#define BERTH_TOOLS_TIER_PROBE_H

#include <stddef.h>

/* Says each tier that cannot be had on stderr, and names them to the libraries by BERTH_TOLD. */
void berth__tier_probe(const void *table, size_t size);

#endif
