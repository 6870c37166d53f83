/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that moves blocks (pmem/move.h): one per job, gone when the job has ended.
 *
 * It shares the program's descriptors, because tiers' files are among them; what the program must
 * not close is held elsewhere (pmem/move_side.h).
 */
#ifndef BERTH_IPC_MOVE_THREAD_H
#define BERTH_IPC_MOVE_THREAD_H

#include "alloc/move_door.h"

#include <stddef.h>

/*
 * Begins a job. 0; -EBUSY while another one runs; -ENOSYS without a host side; or another negative
 * errno, with one sentence in `why`. Control thread only.
 */
int berth__move_thread_start(const struct berth_move_order *order, uint64_t *ret_job, char *why,
                             size_t why_size);

#endif
