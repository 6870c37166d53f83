/* SPDX-License-Identifier: Apache-2.0 */
/* A wrapper of somebody else's, preloaded before Berth: it passes all calls on. */
#include "cuda_api.h"

#include <dlfcn.h>

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t size)
{
    CUresult (*next)(CUdeviceptr *, size_t);

    *(void **)&next = dlsym(RTLD_NEXT, "cuMemAlloc_v2");
    return next(address, size);
}
