/* SPDX-License-Identifier: Apache-2.0 */
/* Stream captures: which are open, as the hooks of begin, end and destroy see it. */
#ifndef BERTH_HOOKS_CUDA_DRIVER_CAPTURE_H
#define BERTH_HOOKS_CUDA_DRIVER_CAPTURE_H

#include "alloc/device.h"

/*
 * The capture of `stream`, or with NULL of any stream that was begun in `context`, can no longer be
 * ended by the program: the stream or the context was destroyed.
 */
void berth__capture_forget(berth_cu_context context, berth_cu_stream stream);

#endif
