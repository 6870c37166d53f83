/* SPDX-License-Identifier: Apache-2.0 */
#include "path_work.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alloc/berth.h"

#define ROUNDS 10
#define BLOCKS 24

static size_t block_size(int round, int i)
{
    return ((size_t)700 << (i % 14)) + (size_t)round * 100;
}

/* Under Berth each block must be one that it knows. */
static int check_seen(CUdeviceptr address, size_t size)
{
    int (*describe)(const void *, struct berth_block_info *, size_t);
    struct berth_block_info info;

    *(void **)&describe = dlsym(RTLD_DEFAULT, "berth_describe");
    if (!describe)
        return 0;
    if (describe((const void *)(uintptr_t)address, &info, sizeof(info)) == 0 &&
        info.requested == size)
        return 0;
    printf("a block of %zu bytes was not seen\n", size);
    return 1;
}

static int fill_and_check(const struct path *path, CUdeviceptr address, size_t size, int mark,
                          int check)
{
    unsigned char *bytes = malloc(size);
    int wrong = 0;

    if (check) {
        wrong = path->to_host(bytes, address, size) != 0;
        for (size_t i = 0; i < size; i++)
            wrong += bytes[i] != (unsigned char)mark;
    } else {
        memset(bytes, mark, size);
        wrong = path->to_device(address, bytes, size) != 0;
    }
    free(bytes);
    if (wrong)
        printf("block %d of %zu bytes: wrong contents\n", mark, size);
    return wrong != 0;
}

static int one_round(const struct path *path, int round)
{
    CUdeviceptr block[BLOCKS], base;
    size_t size;
    int wrong = 0;

    for (int i = 0; i < BLOCKS; i++) {
        CUresult result = path->allocate(&block[i], block_size(round, i));

        if (result != 0) {
            printf("allocation: %d\n", result);
            return 1;
        }
        wrong += check_seen(block[i], block_size(round, i));
        wrong += fill_and_check(path, block[i], block_size(round, i), i + 1, 0);
    }
    for (int i = 0; i < BLOCKS; i++) {
        wrong += fill_and_check(path, block[i], block_size(round, i), i + 1, 1);
        if (path->range(&base, &size, block[i] + 1) != 0 || base != block[i] ||
            size != block_size(round, i))
            wrong += printf("block %d: wrong range\n", i) > 0;
        wrong += path->release(block[i]) != 0;
    }
    printf("round %d: %d blocks, again %d\n", round, BLOCKS, path->release(block[0]));
    return wrong;
}

int path_work(const struct path *path)
{
    CUcontext context;
    CUdeviceptr p;
    int wrong = 0;

    printf("size 0 before init: %d\n", path->allocate(&p, 0));
    printf("init %d\n", path->init(0));
    printf("context %d", path->retain(&context, 0));
    printf(" %d\n", path->set_current(context));
    for (int round = 0; round < ROUNDS; round++)
        wrong += one_round(path, round);
    if (path->allocate_async) {
        printf("async %d", path->allocate_async(&p, 5000, NULL));
        printf(" %d\n", path->release_async(p, NULL));
    }
    printf("wrong: %d\n", wrong);
    return wrong != 0;
}
