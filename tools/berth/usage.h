/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Usage: what a command takes, as `berth help` and --help tell it.
 *
 * A command's own row says what it is for; a command that consists of several (`berth trace`) has
 * a row for each of those as well.
 */
#ifndef BERTH_TOOLS_USAGE_H
#define BERTH_TOOLS_USAGE_H

#include <stdio.h>

struct berth_usage {
    const char *name;
    /* NULL: the command itself. */
    const char *part;
    const char *arguments;
    const char *help;
    /* One line each, indented; may be NULL. */
    const char *options;
};

/* The row of `name`, and of its `part` where that is not NULL; NULL where there is none. */
const struct berth_usage *berth__usage_find(const char *name, const char *part);

/* All commands with a line for each; and one with everything there is to say. */
void berth__usage_print_all(FILE *to);
void berth__usage_print(const struct berth_usage *usage);

/*
 * What is to be told where a command line asks for help with --help or -h: the row of its command
 * or of its part; NULL where it does not ask. argv[0] is the command's name. What follows a
 * program that is to be started, or "--", is not the command's.
 */
const struct berth_usage *berth__usage_asked(int argc, char **argv);

#endif
