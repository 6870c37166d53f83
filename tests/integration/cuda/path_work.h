/* SPDX-License-Identifier: Apache-2.0 */
/* The same work for every way to reach the driver; see path_client.c. */
#ifndef BERTH_TEST_PATH_WORK_H
#define BERTH_TEST_PATH_WORK_H

#include "cuda_api.h"

/* The driver's functions as one path gave them. */
struct path {
    CUresult (*init)(unsigned int flags);
    CUresult (*retain)(CUcontext *context, CUdevice device);
    CUresult (*set_current)(CUcontext context);
    CUresult (*allocate)(CUdeviceptr *address, size_t size);
    CUresult (*release)(CUdeviceptr address);
    CUresult (*allocate_async)(CUdeviceptr *address, size_t size, CUstream stream);
    CUresult (*release_async)(CUdeviceptr address, CUstream stream);
    CUresult (*range)(CUdeviceptr *base, size_t *size, CUdeviceptr address);
    CUresult (*to_device)(CUdeviceptr to, const void *from, size_t size);
    CUresult (*to_host)(void *to, CUdeviceptr from, size_t size);
};

/* Prints what it sees; returns 0, or 1 with a line that says what went wrong. */
int path_work(const struct path *path);

#endif
