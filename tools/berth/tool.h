/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The commands of `berth`, and what they share: how a mistake is told, and how the tool ends.
 *
 * A command gets its own name in argv[0] and returns the exit status. Every message is one line
 * "berth COMMAND: what is wrong; what was expected" on stderr.
 */
#ifndef BERTH_TOOLS_TOOL_H
#define BERTH_TOOLS_TOOL_H

#include <stddef.h>
#include <stdio.h>

/* A process that is not there, a request that was refused, a file that is wrong. */
#define BERTH_EXIT_FAILURE 1
/* A wrong command line. */
#define BERTH_EXIT_MISUSE 2
/* `berth run` alone: it could not start the command for a reason of its own. */
#define BERTH_EXIT_RUN_REFUSED 125
#define BERTH_EXIT_NOT_EXECUTABLE 126
#define BERTH_EXIT_NOT_FOUND 127

int berth__command_run(int argc, char **argv);
int berth__command_ps(int argc, char **argv);
int berth__command_stat(int argc, char **argv);
int berth__command_policy_apply(int argc, char **argv);
int berth__command_policy_show_process(int argc, char **argv);
int berth__command_options(int argc, char **argv);
int berth__command_limit(int argc, char **argv);
int berth__command_pool(int argc, char **argv);
int berth__command_snapshot(int argc, char **argv);
int berth__command_sites(int argc, char **argv);
int berth__command_explain(int argc, char **argv);
int berth__command_trim(int argc, char **argv);
int berth__command_doctor(int argc, char **argv);
int berth__command_pmem(int argc, char **argv);

/* Says one line, prefixed with "berth: "; returns BERTH_EXIT_FAILURE. */
int berth__tool_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same for a wrong command line; returns BERTH_EXIT_MISUSE. */
int berth__tool_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Prints text that somebody else wrote (a policy, a process that answers): what a terminal would
 * take for a command is printed as '?'.
 */
void berth__tool_print(const char *text, size_t length, FILE *to);
/* The same in place. */
void berth__tool_clean(char *text);

/* As realloc and strdup; out of memory, the tool says so and exits. */
void *berth__tool_realloc(void *old, size_t size);
char *berth__tool_strdup(const char *text);
/* As asprintf, with the text as its result. */
char *berth__tool_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * Flushes stdout: `status`, or BERTH_EXIT_FAILURE after a line where what was printed did not get
 * out (a full disk). The last thing that a command does.
 */
int berth__tool_finish(int status);

#endif
