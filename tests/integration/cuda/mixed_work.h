/* SPDX-License-Identifier: Apache-2.0 */
/* The allocations that each way of mixed_client.c makes. */
#ifndef BERTH_TEST_MIXED_WORK_H
#define BERTH_TEST_MIXED_WORK_H

#include "cuda_api.h"

/* A function as the resolvers know it, and as the driver exports it. */
struct mixed_name {
    const char *name, *symbol;
    int version;
};

struct mixed_calls {
    CUresult (*allocate)(CUdeviceptr *address, size_t size);
    CUresult (*release)(CUdeviceptr address);
    CUresult (*pitch)(CUdeviceptr *address, size_t *pitch, size_t width, size_t height,
                      unsigned int element);
    CUresult (*managed)(CUdeviceptr *address, size_t size, unsigned int flags);
    CUresult (*host)(void **pointer, size_t size, unsigned int flags);
    CUresult (*release_host)(void *pointer);
    CUresult (*async)(CUdeviceptr *address, size_t size, CUstream stream);
    CUresult (*release_async)(CUdeviceptr address, CUstream stream);
};

/* Fills in all calls as `find` finds them; 0, or 1 with a line when one is missing. */
int mixed_find(struct mixed_calls *calls, void *(*find)(const struct mixed_name *name));
/* As the linker binds them here. */
void mixed_linked(struct mixed_calls *calls);
/* Allocates and frees `count` blocks and some of each other kind. 0, or 1 with a line. */
int mixed_work(const struct mixed_calls *calls, int count);
/* The same by the runtime that this file is linked with. */
int mixed_runtime_work(int count);

#endif
