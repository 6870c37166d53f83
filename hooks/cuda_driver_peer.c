/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Access to the memory of another context. What the driver does for memory of cuMemAlloc, present
 * and future, is done here for the GPU pages of expandable segments. cuda.h,
 * cuCtxEnablePeerAccess; checklist 27. Any thread.
 */
#include "alloc/peer.h"
#include "alloc/pool.h"
#include "hooks/cuda_driver_export.h"

#include <errno.h>

EXPORT(cuCtxEnablePeerAccess);
EXPORT(cuCtxDisablePeerAccess);

/*
 * cuCtxEnablePeerAccess(peer, flags): the calling thread's context may use the memory of `peer`,
 * which is on another device. When not all of it can be opened, none is.
 */
berth_cu_result berth__hook_cuCtxEnablePeerAccess(berth_cu_context peer, unsigned flags)
{
    berth_cu_context user = NULL;
    berth_cu_result result;
    int device = -1, r;

    NEED(cuCtxEnablePeerAccess);
    result = berth__driver.cuCtxEnablePeerAccess(peer, flags);
    if (result != BERTH_CU_SUCCESS || berth__device_current(&user) < 0 ||
        berth__device_of_current(&device) < 0)
        return result;
    r = berth__peer_add(peer, user, device);
    if (r == 0)
        r = berth__pool_open_to_peers(peer);
    if (r == 0)
        return result;
    berth__peer_remove(peer, user);
    berth__pool_open_to_peers(peer);
    if (berth__driver.cuCtxDisablePeerAccess)
        berth__driver.cuCtxDisablePeerAccess(peer);
    return r == -ENOBUFS || r == -ERANGE ? BERTH_CU_OUT_OF_MEMORY : berth__device_result(r);
}

/* cuCtxDisablePeerAccess(peer): the reverse. */
berth_cu_result berth__hook_cuCtxDisablePeerAccess(berth_cu_context peer)
{
    berth_cu_context user = NULL;
    berth_cu_result result;

    NEED(cuCtxDisablePeerAccess);
    result = berth__driver.cuCtxDisablePeerAccess(peer);
    if (result != BERTH_CU_SUCCESS || berth__device_current(&user) < 0)
        return result;
    berth__peer_remove(peer, user);
    berth__pool_open_to_peers(peer);
    return result;
}
