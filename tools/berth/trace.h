/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of `berth trace`. Each gets its own name in argv[0], and returns the exit status. */
#ifndef BERTH_TOOLS_TRACE_H
#define BERTH_TOOLS_TRACE_H

int berth__command_trace(int argc, char **argv);

int berth__trace_plan(int argc, char **argv);
int berth__trace_record_command(int argc, char **argv);
int berth__trace_export(int argc, char **argv);
int berth__trace_replay(int argc, char **argv);

#endif
