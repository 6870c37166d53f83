/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shares device blocks between processes. `export SIZE` allocates blocks of so many bytes among
 * others, prints the handle of one, waits for a line, and checks what the importer wrote; `import
 * SIZE HANDLE` opens it, checks the contents and writes. Driven by ipc.py.
 */
#include "cuda_api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static size_t length; /* of each large block */

static int is_filled(CUdeviceptr p, unsigned char value)
{
    unsigned char *copy = malloc(length);
    size_t wrong = cuMemcpyDtoH_v2(copy, p, length) != 0;

    for (size_t i = 0; i < length; i++)
        wrong += copy[i] != value;
    free(copy);
    return wrong == 0;
}

static int start(void)
{
    CUcontext context;

    return cuInit(0) != 0 || cuDevicePrimaryCtxRetain(&context, 0) != 0 ||
           cuCtxSetCurrent(context) != 0;
}

static int export_block(void)
{
    CUdeviceptr small, p, again;
    CUipcMemHandle handle, other;

    /* A block from the cache, between others. */
    if (cuMemAlloc_v2(&small, 1000) != 0 || cuMemAlloc_v2(&p, length) != 0 ||
        cuMemFree_v2(p) != 0 || cuMemAlloc_v2(&p, length) != 0)
        return 1;
    cuMemsetD8_v2(p, 0x11, length);
    cuCtxSynchronize();
    printf("handle %d ", cuIpcGetMemHandle(&handle, p));
    for (size_t i = 0; i < sizeof(handle); i++)
        printf("%02x", ((unsigned char *)&handle)[i]);
    printf("\n");
    fflush(stdout);
    getchar();
    printf("importer's bytes: %d\n", is_filled(p, 0x22));
    printf("free %d\n", cuMemFree_v2(p));
    if (cuMemAlloc_v2(&again, length) != 0)
        return 1;
    printf("next handle %d", cuIpcGetMemHandle(&other, again));
    printf(" differs %d\n", memcmp(&handle, &other, sizeof(handle)) != 0);
    return 0;
}

static int import_block(const char *hex)
{
    CUipcMemHandle handle;
    CUdeviceptr p = 0, base = 0;
    size_t size = 0;

    for (size_t i = 0; i < sizeof(handle); i++) {
        unsigned byte = 0;

        sscanf(hex + 2 * i, "%2x", &byte);
        ((unsigned char *)&handle)[i] = (unsigned char)byte;
    }
    printf("open %d", cuIpcOpenMemHandle_v2(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    printf(" range %d", cuMemGetAddressRange_v2(&base, &size, p + 1));
    printf(" %d %zu\n", base == p, size);
    printf("exporter's bytes: %d\n", is_filled(p, 0x11));
    printf("write %d\n", cuMemsetD8_v2(p, 0x22, length));
    cuCtxSynchronize();
    printf("free %d\n", cuMemFree_v2(p) != 0);
    printf("close %d\n", cuIpcCloseMemHandle(p));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3 || start())
        return 1;
    length = strtoull(argv[2], NULL, 0);
    return argc > 3 ? import_block(argv[3]) : export_block();
}
