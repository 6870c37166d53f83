/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `berth doctor` finds: one row per fact, with what it means where it is missing.
 */
#ifndef BERTH_TOOLS_DOCTOR_H
#define BERTH_TOOLS_DOCTOR_H

#include "tools/berth/grid.h"
#include "tools/berth/process.h"

enum berth_finding {
    BERTH_FINDING_OK,
    BERTH_FINDING_ABSENT, /* something works less well, or not at all; the rest does */
    BERTH_FINDING_BROKEN, /* Berth cannot be used */
};

/* Appends a row; returns `finding`. */
enum berth_finding berth__doctor_row(struct berth_grid *grid, enum berth_finding finding,
                                     const char *what, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Berth's libraries, and those that it loads when it needs them. The worst of the findings. */
enum berth_finding berth__doctor_libraries(struct berth_grid *grid);
/* How far Berth sees what a process does with the driver. The worst of the findings. */
enum berth_finding berth__doctor_process(struct berth_grid *grid, const char *pid);
/* What became of the policy's tiers in a process. */
void berth__doctor_tiers(struct berth_grid *grid, struct berth_session *session);
/* Whether a program can be run under Berth; it is not started. */
enum berth_finding berth__doctor_program(struct berth_grid *grid, const char *program);
/* Whether anything can be preloaded into the program in this file. */
enum berth_finding berth__doctor_elf(struct berth_grid *grid, const char *path);
/* What this kernel and machine offer. */
void berth__doctor_machine(struct berth_grid *grid);

#endif
