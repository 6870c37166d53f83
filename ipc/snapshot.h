/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a snapshot of the pools, the history and the call sites; see snapshot_format.h. */
#ifndef BERTH_IPC_SNAPSHOT_H
#define BERTH_IPC_SNAPSHOT_H

#include <stdint.h>

struct berth_snapshot_counts {
    uint64_t segments, blocks, records, sites;
};

/*
 * Into a fresh memory file, whose descriptor is the caller's. 0 or negative errno. Control thread;
 * the program is held up for one segment at a time.
 */
int berth__snapshot_take(int *ret_fd, struct berth_snapshot_counts *ret_counts);

#endif
