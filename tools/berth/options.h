/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options, as the tools read and show it. */
#ifndef BERTH_TOOLS_OPTIONS_H
#define BERTH_TOOLS_OPTIONS_H

#include <stdio.h>

/*
 * Reads BERTH_CONTROL and BERTH_OPTIONS as a program under Berth will. Says what is wrong with
 * them; returns how much is.
 */
int berth__options_read_environment(void);

/* Prints every option with its value and where that comes from. */
void berth__options_print(FILE *out);

#endif
