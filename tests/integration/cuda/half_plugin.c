/* SPDX-License-Identifier: Apache-2.0 */
/* A plugin that is linked to the driver; see half_client.c. */
#include "cuda_api.h"

CUresult plugin_free(CUdeviceptr address);
CUresult plugin_allocate(CUdeviceptr *address, size_t size);

CUresult plugin_free(CUdeviceptr address)
{
    return cuMemFree_v2(address);
}

CUresult plugin_allocate(CUdeviceptr *address, size_t size)
{
    return cuMemAlloc_v2(address, size);
}
