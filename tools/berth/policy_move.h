/* SPDX-License-Identifier: Apache-2.0 */
/* What `berth policy apply --move` does once the policy is in force. */
#ifndef BERTH_TOOLS_POLICY_MOVE_H
#define BERTH_TOOLS_POLICY_MOVE_H

#include "tools/berth/process.h"

/*
 * Has the process move its live blocks to where its policy wants them, shows how far that is, and
 * prints what came of it. The exit code: 0; BERTH_EXIT_FAILURE when blocks that should have moved
 * were refused.
 */
int berth__policy_move(const struct berth_process *process, struct berth_session *session);

#endif
