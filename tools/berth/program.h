/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a program that is to be run: whether Berth's libraries can be preloaded into it. */
#ifndef BERTH_TOOLS_PROGRAM_H
#define BERTH_TOOLS_PROGRAM_H

#include <stdbool.h>

/*
 * False for a program of another machine or word size, whose loader would complain of each library,
 * and for one of another C library (musl), whose loader ends it: `*ret_why` then says so. True for
 * all others, also where nothing can be read: scripts, static programs, what does not exist.
 */
bool berth__program_bears_libraries(const char *command, const char **ret_why);

#endif
