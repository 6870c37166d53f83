/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checklist items 40 to 44: what holds for memory that may be moved. Nothing moves a block yet, so
 * these check what applies: addresses and contents stay whatever else happens, memory is given back
 * while work is in flight, and a call that fails changes nothing. See item.h.
 */
#include "item.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static const size_t sizes[] = {1, 513, KIB(4), KIB(100), KIB(900), MIB(2), MIB(3) + 7, MIB(9)};

static CUdeviceptr blocks[COUNT(sizes)];

static void make_blocks(void)
{
    for (size_t i = 0; i < COUNT(sizes); i++) {
        blocks[i] = check_alloc(sizes[i]);
        check_pattern(blocks[i], sizes[i], (unsigned)i);
    }
}

static void see_blocks(const char *when)
{
    size_t wrong = 0;

    for (size_t i = 0; i < COUNT(sizes); i++) {
        CUdeviceptr base = 0;
        size_t size = 0;

        EXPECT(cuMemGetAddressRange_v2(&base, &size, blocks[i]) == 0);
        wrong += base != blocks[i] || size != sizes[i] ||
                 !check_has_pattern(blocks[i], sizes[i], (unsigned)i);
    }
    SEEN("%s: blocks that changed: %zu\n", when, wrong);
}

static void press(void)
{
    CUdeviceptr p[40];
    size_t most;

    for (size_t i = 0; i < COUNT(p); i++)
        p[i] = check_alloc(KIB(3) << (i % 11));
    for (size_t i = 0; i < COUNT(p); i += 2)
        EXPECT(cuMemFree_v2(p[i]) == 0);
    most = check_free_memory() / 10 * 8;
    EXPECT(cuMemFree_v2(check_alloc(most)) == 0);
    EXPECT(cuMemAlloc_v2(&p[0], most * 2) != 0);
    for (size_t i = 1; i < COUNT(p); i += 2)
        EXPECT(cuMemFree_v2(p[i]) == 0);
}

void item_40_address_and_contents_stay(void)
{
    check_up();
    make_blocks();
    see_blocks("at first");
    for (int i = 0; i < 3; i++)
        press();
    see_blocks("after memory ran out");
    EXPECT(cuCtxSynchronize() == 0);
    for (size_t i = 0; i < COUNT(sizes); i += 2) {
        EXPECT(cuMemFree_v2(blocks[i]) == 0);
        blocks[i] = check_alloc(sizes[i]);
        check_pattern(blocks[i], sizes[i], (unsigned)i);
    }
    see_blocks("half of them anew");
    for (size_t i = 0; i < COUNT(sizes); i++)
        SEEN("free: %d\n", cuMemFree_v2(blocks[i]));
}

static void pass_slowly(void *user)
{
    usleep(10000);
}

/* Work that is queued on live blocks while everything that is cached goes back to the driver. */
void item_42_work_in_flight(void)
{
    CUstream stream;

    check_up();
    stream = check_stream();
    make_blocks();
    for (int round = 0; round < 3; round++) {
        size_t wrong = 0;

        EXPECT(cuMemFree_v2(check_alloc(MIB(12))) == 0 && cuMemFree_v2(check_alloc(KIB(30))) == 0);
        EXPECT(cuLaunchHostFunc(stream, pass_slowly, NULL) == 0);
        for (size_t i = 0; i < COUNT(sizes); i++)
            EXPECT(cuMemsetD8Async(blocks[i], (unsigned char)(round + 1), sizes[i], stream) == 0);
        press();
        EXPECT(cuStreamSynchronize(stream) == 0);
        for (size_t i = 0; i < COUNT(sizes); i++)
            wrong += !check_holds(blocks[i], sizes[i], (unsigned char)(round + 1));
        SEEN("round %d: wrong contents: %zu\n", round, wrong);
    }
}

/* How many of the bytes of what was exported are `value`; -1 where it cannot be looked into. */
static long seen_by_importer(int fd, size_t size, unsigned char value)
{
    unsigned char *bytes = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    long count = 0;

    if (bytes == MAP_FAILED)
        return -1;
    for (size_t i = 0; i < size; i++)
        count += bytes[i] == value;
    munmap(bytes, size);
    return count;
}

static void export_mistakes(CUdeviceptr block, size_t size)
{
    int fd = -1;

    SEEN("half a page: %d", cuMemGetHandleForAddressRange(&fd, block, 2048, 1, 0));
    printf(" nothing %d", cuMemGetHandleForAddressRange(&fd, block, 0, 1, 0));
    printf(" past the end %d", cuMemGetHandleForAddressRange(&fd, block, 2 * size, 1, 0));
    printf(" no such kind %d", cuMemGetHandleForAddressRange(&fd, block, 4096, 77, 0));
    printf(" no memory %d\n", cuMemGetHandleForAddressRange(&fd, 4096, 4096, 1, 0));
}

/*
 * What was exported as a dma-buf is the importer's until that closes it, also after the free: what
 * comes then, by whatever way, is elsewhere. Of a block that shares a segment Berth cannot say so,
 * and it is not looked at: libberth(7).
 */
static void see_dma_buf(size_t size)
{
    CUdeviceptr block = check_alloc(size), next;
    int fd = -1, again = -1;

    check_fill(block, size, 43);
    export_mistakes(block, size);
    SEEN("dma-buf of %zu: %d", size, cuMemGetHandleForAddressRange(&fd, block, size, 1, 0));
    printf(" again %d", cuMemGetHandleForAddressRange(&again, block, size, 1, 0));
    printf(" sees %ld", seen_by_importer(fd, size, 43));
    check_fill(block, size, 44);
    printf(" %ld %ld\n", seen_by_importer(fd, size, 44), seen_by_importer(again, size, 44));
    SEEN("free: %d", cuMemFree_v2(block));
    for (int i = 0; i < 3; i++) {
        next = check_alloc(size);
        check_fill(next, size, 45);
        printf(" sees %ld", seen_by_importer(fd, size, 44));
        EXPECT(cuMemFree_v2(next) == 0);
    }
    printf(" free again %d\n", cuMemFree_v2(block));
    close(fd);
    close(again);
}

/* Of a small block no more than it has, whatever lies beside it. */
static void see_small_dma_buf(void)
{
    CUdeviceptr neighbour, block = check_alloc(KIB(64)), page = (block + 4095) & ~(CUdeviceptr)4095;
    int fd = -1;

    neighbour = check_alloc(KIB(64));
    check_fill(block, KIB(64), 43);
    SEEN("past the end of a small one: %d",
         cuMemGetHandleForAddressRange(&fd, page, KIB(64) + 4096, 1, 0));
    printf(" a part: %d", cuMemGetHandleForAddressRange(&fd, page, KIB(32), 1, 0));
    printf(" sees %ld\n", seen_by_importer(fd, KIB(32), 43));
    close(fd);
    SEEN("free: %d", cuMemFree_v2(block));
    printf(" %d\n", cuMemFree_v2(neighbour));
}

void item_43_shared_memory_stays(void)
{
    static char own[5 * 4096];
    CUipcMemHandle handle, again;
    CUcontext second;
    CUdeviceptr seen = 0;

    check_up();
    make_blocks();
    SEEN("export: %d\n", cuIpcGetMemHandle(&handle, blocks[COUNT(sizes) - 1]));
    memset(own, 0x2d, sizeof(own));
    SEEN("register: %d", cuMemHostRegister_v2(own, sizeof(own), CU_MEMHOSTREGISTER_DEVICEMAP));
    printf(" device pointer %d\n", cuMemHostGetDevicePointer_v2(&seen, own, 0));
    second = check_second_device();
    if (second) {
        EXPECT(cuCtxSetCurrent(second) == 0);
        SEEN("peer: %d\n", cuCtxEnablePeerAccess(check_context, 0));
        EXPECT(cuCtxSetCurrent(check_context) == 0);
    }
    for (int i = 0; i < 3; i++)
        press();
    see_blocks("after memory ran out");
    SEEN("registered: %d\n", check_holds(seen, sizeof(own), 0x2d));
    SEEN("export: %d", cuIpcGetMemHandle(&again, blocks[COUNT(sizes) - 1]));
    printf(" the same %d\n", memcmp(&handle, &again, sizeof(handle)) == 0);
    SEEN("unregister: %d\n", cuMemHostUnregister(own));
    see_dma_buf(MIB(4));
    see_dma_buf(MIB(6));
    see_small_dma_buf();
}

void item_44_failure_changes_nothing(void)
{
    CUdeviceptr p = 0;
    CUipcMemHandle handle;
    size_t before, pitch;
    unsigned on = 1;

    check_up();
    make_blocks();
    before = check_free_memory();
    for (int i = 0; i < 20; i++) {
        EXPECT(cuMemAlloc_v2(&p, 0) != 0 && cuMemAlloc_v2(&p, (size_t)1 << 50) != 0);
        EXPECT(cuMemAlloc_v2(NULL, 5) != 0 && cuMemAlloc_v2(&p, SIZE_MAX) != 0);
        EXPECT(cuMemAllocAsync(&p, (size_t)1 << 50, NULL) != 0);
        EXPECT(cuMemAllocManaged(&p, KIB(4), 77) != 0);
        EXPECT(cuMemAllocPitch_v2(&p, &pitch, (size_t)1 << 40, (size_t)1 << 40, 4) != 0);
        EXPECT(cuMemFree_v2(blocks[2] + 8) != 0 && cuMemFree_v2(77) != 0);
        EXPECT(cuMemFreeAsync(77, NULL) != 0 && cuMemFreeHost(&p) != 0);
        EXPECT(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_CONTEXT, blocks[3]) != 0);
        EXPECT(cuIpcGetMemHandle(&handle, 77) != 0);
        EXPECT(cuMemHostRegister_v2(NULL, 0, 0) != 0);
        EXPECT(cuCtxDestroy_v2(NULL) != 0);
    }
    see_blocks("after calls that failed");
    SEEN("free memory as before: %d\n", check_free_memory() == before);
    SEEN("idle: %d\n", cuCtxSynchronize());
    for (size_t i = 0; i < COUNT(sizes); i++)
        SEEN("free: %d\n", cuMemFree_v2(blocks[i]));
}
