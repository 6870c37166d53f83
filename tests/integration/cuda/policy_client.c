/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program whose device blocks a policy speaks of: some by the thread's tag, some by the function
 * that asks. It prints what berth_describe() says of each, and
 * waits for a line, so that its account can be looked at from outside.
 */
#include "alloc/berth.h"
#include "cuda_api.h"

#include <stdio.h>

#define MIB(n) ((size_t)(n) << 20)

static void tell(const char *what, CUdeviceptr p)
{
    struct berth_block_info info;

    if (berth_describe((const void *)(uintptr_t)(p + 10), &info, sizeof(info)) < 0) {
        printf("%s: not described\n", what);
        return;
    }
    printf("%s: %zu bytes, %s, tag %d, rule '%s', base %d\n", what, info.requested, info.tier,
           (int)info.tag, info.rule, (CUdeviceptr)(uintptr_t)info.base == p);
}

CUdeviceptr load_model(size_t size);

/* Named by the policy. */
__attribute__((noinline)) CUdeviceptr load_model(size_t size)
{
    CUdeviceptr p = 0;

    if (cuMemAlloc_v2(&p, size) != 0)
        printf("load_model: no memory\n");
    __asm__ volatile("" ::: "memory");
    return p;
}

int main(void)
{
    CUcontext context;
    CUdeviceptr p[4] = {0}, loaded;

    if (cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0 ||
        cuCtxSetCurrent(context) != 0)
        return 1;
    berth_tag_push(BERTH_TAG_KV);
    cuMemAlloc_v2(&p[0], MIB(3));
    berth_tag_pop();
    cuMemAlloc_v2(&p[1], MIB(4));
    cuMemAlloc_v2(&p[2], 5000);
    loaded = load_model(MIB(5));
    tell("pushed", p[0]);
    tell("plain", p[1]);
    tell("small", p[2]);
    tell("loaded", loaded);
    /* The tier that the rule names first has room for one of them. */
    p[3] = load_model(MIB(5));
    tell("no room there", p[3]);
    cuMemFree_v2(loaded);
    loaded = load_model(MIB(5));
    tell("room again", loaded);
    cuMemFree_v2(p[2]);
    printf("ready\n");
    fflush(stdout);
    getchar();
    for (int i = 0; i < 4; i++)
        cuMemFree_v2(p[i]);
    return 0;
}
