/* SPDX-License-Identifier: Apache-2.0 */
/* An array: device memory in a layout of the device's own, which no pointer
 * reaches. It dies with its context. Synchronization: the state lock. */
#ifndef BERTH_FAKE_ARRAY_H
#define BERTH_FAKE_ARRAY_H

struct context;

/* Forgets the context's arrays; their memory goes with its segments. */
void array_forget_context(struct context *context);

#endif
