/* SPDX-License-Identifier: Apache-2.0 */
/* Who this process is, as its clients see it. Fixed when the control thread starts. */
#ifndef BERTH_IPC_IDENTITY_H
#define BERTH_IPC_IDENTITY_H

#include <limits.h>
#include <stdint.h>
#include <sys/types.h>

/* The version of the protocol, see berth-protocol(7). */
#define BERTH_PROTOCOL 1

struct berth_identity {
    pid_t pid;
    uint64_t start;    /* clock ticks since boot, as in /proc/PID/stat */
    char program[512]; /* path of the executable; what is not printable ASCII is "?" */
};

/* 0 or negative errno. */
int berth__identity_read(struct berth_identity *ret);

#endif
