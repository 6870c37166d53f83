/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs: which blocks are moved, in which order, and what came of it.
 *
 * A job looks at each live block of the movable home that its order speaks of, and moves it to the
 * tier that the order names, or else to the first place with room of the rule that the policy in
 * force has for it. What finds no room is tried again as long as others make some. What can only
 * move while the program writes to nothing waits for its word (berth_step_quiescent()), until the
 * next job.
 */
#ifndef BERTH_PMEM_MOVE_JOB_H
#define BERTH_PMEM_MOVE_JOB_H

#include "alloc/move_door.h"

/* Opens the door (alloc/move_door.h). Before the first block. */
void berth__move_job_register(void);

#endif
