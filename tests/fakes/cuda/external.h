/* SPDX-License-Identifier: Apache-2.0 */
/* External memory: what another interface made, here a file's pages, mapped as
 * device memory. Synchronization: the state lock. */
#ifndef BERTH_FAKE_EXTERNAL_H
#define BERTH_FAKE_EXTERNAL_H

#include "mem.h"

/* Unmaps a buffer, as cuMemFree does once its context is idle. */
CUresult external_free(struct mem *mem);

#endif
