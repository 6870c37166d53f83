/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients may ask, and the answers: berth-protocol(7), as code.
 *
 * Runs on the control thread alone. Every operation either does all of what was asked or changes
 * nothing and says why.
 */
#ifndef BERTH_IPC_OPERATION_H
#define BERTH_IPC_OPERATION_H

#include "ipc/identity.h"
#include "ipc/server.h"

/* Answers one frame. Its reply is at most BERTH_WIRE_FRAME_MAX long. */
void berth__operation_answer(const struct berth_identity *identity,
                             struct berth_exchange *exchange);

#endif
