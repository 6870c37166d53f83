/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot in the form of torch.cuda.memory._snapshot(), which PyTorch's memory_viz page and
 * torch/cuda/_memory_viz.py read. Keys of Berth's own (tag, tier, berth) stand beside theirs.
 */
#ifndef BERTH_TOOLS_SNAPSHOT_PICKLE_H
#define BERTH_TOOLS_SNAPSHOT_PICKLE_H

#include "tools/berth/snapshot_data.h"

#include <stdio.h>

/* Whether it got out is for the caller to ask the stream. */
void berth__snapshot_pickle(const struct berth_snapshot *snapshot, FILE *out);

#endif
