/* SPDX-License-Identifier: Apache-2.0 */
/* What cuMemGetHandleForAddressRange gave out. Synchronization: the state lock. */
#ifndef BERTH_FAKE_DMA_BUF_H
#define BERTH_FAKE_DMA_BUF_H

#include "mem.h"

/* Before the block is freed: what was given out stays with those who have it; the addresses get
 * other pages. */
void dma_buf_leave(struct mem *mem);

#endif
