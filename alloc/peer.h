/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Peers: which devices' contexts may use the memory of which context.
 *
 * cuCtxEnablePeerAccess makes all memory of a context, present and future, usable by another one.
 * That is true of cuMemAlloc's memory; GPU pages that Berth maps have to be opened to each device
 * one by one (cuda.h, cuMemSetAccess). Any thread.
 */
#ifndef BERTH_ALLOC_PEER_H
#define BERTH_ALLOC_PEER_H

#include "alloc/device.h"

/* A device is one bit of 64 in the sets below. */
#define BERTH_PEER_DEVICES_MAX 64

/*
 * From now on `user`, a context on `device`, may use the memory of `owner`; or not any more.
 * -ENOBUFS without host memory, -ERANGE for a device beyond BERTH_PEER_DEVICES_MAX.
 */
int berth__peer_add(berth_cu_context owner, berth_cu_context user, int device);
void berth__peer_remove(berth_cu_context owner, berth_cu_context user);
/* The context was destroyed. */
void berth__peer_drop(berth_cu_context context);

/* The devices whose contexts may use the memory of `owner`. */
uint64_t berth__peer_devices(berth_cu_context owner);

#endif
