/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checklist items 22 to 26: memory that other processes open. The importer is this program again,
 * with or without Berth; it and the exporter take turns by lines on two pipes. See item.h.
 */
#include "item.h"

#include <stdlib.h>
#include <string.h>

#define SHARED_SIZE MIB(5)
#define OWN_MARK 0x5a
#define NEIGHBOUR_MARK 0x77
#define IMPORTER_MARK 0x22

static void print_handle(FILE *to, const CUipcMemHandle *handle)
{
    for (size_t i = 0; i < sizeof(*handle); i++)
        fprintf(to, "%02x", ((const unsigned char *)handle)[i]);
    fprintf(to, "\n");
    fflush(to);
}

static bool read_handle(FILE *from, CUipcMemHandle *ret_handle)
{
    char line[2 * sizeof(*ret_handle) + 2];

    if (!fgets(line, sizeof(line), from))
        return false;
    for (size_t i = 0; i < sizeof(*ret_handle); i++) {
        unsigned byte = 0;

        if (sscanf(line + 2 * i, "%2x", &byte) != 1)
            return false;
        ((unsigned char *)ret_handle)[i] = (unsigned char)byte;
    }
    return true;
}

/* The other side's turn; the end of the check when it is gone. */
static void await(FILE *from)
{
    char line[64];

    EXPECT(fgets(line, sizeof(line), from));
}

static void tell(FILE *to)
{
    fprintf(to, "go\n");
    fflush(to);
}

static int open_and_look(void)
{
    CUipcMemHandle handle;
    CUdeviceptr p = 0, again = 0, base = 0;
    size_t size = 0;

    if (!read_handle(stdin, &handle))
        return printf("no handle\n") < 0;
    printf("open %d", cuIpcOpenMemHandle_v2(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    printf(" exporter's bytes %d", check_holds(p, SHARED_SIZE, OWN_MARK));
    printf(" range %d", cuMemGetAddressRange_v2(&base, &size, p + 1));
    printf(" %d at least what was shared %d", base == p, size >= SHARED_SIZE);
    /* The allocation may be larger than what was asked for; it holds nobody else's bytes. */
    printf(" neighbour's bytes %d\n", check_count(p, size, NEIGHBOUR_MARK) > 1000);
    printf("open again %d", cuIpcOpenMemHandle_v2(&again, handle, 1));
    printf(" same address %d\n", again == p);
    printf("write %d", cuMemsetD8_v2(p, IMPORTER_MARK, SHARED_SIZE));
    printf(" %d", cuCtxSynchronize());
    printf(" free %d\n", cuMemFree_v2(p));
    fflush(stdout);
    tell(stdout);
    await(stdin);
    printf("close %d", cuIpcCloseMemHandle(p));
    printf(" still open %d", check_holds(p, KIB(4), IMPORTER_MARK));
    printf(" close %d", cuIpcCloseMemHandle(again));
    printf(" close %d\n", cuIpcCloseMemHandle(p));
    printf("no handle's %d\n", cuIpcCloseMemHandle(check_alloc(KIB(4))));
    return 0;
}

int item_ipc_peer(const char *mode, const char *argument)
{
    if (strcmp(mode, "ipc-import") != 0)
        return -1;
    check_up();
    return open_and_look();
}

/* Lines of the importer up to its "go". */
static void show_until_go(struct check_peer *peer)
{
    char line[512];

    while (fgets(line, sizeof(line), peer->from) && strcmp(line, "go\n") != 0)
        SEEN("importer: %s", line);
}

static void share_with(bool is_preloaded)
{
    CUdeviceptr p, around[8], next;
    CUipcMemHandle handle, other;
    struct check_peer peer;

    check_up();
    /* A block out of the cache, among others. */
    EXPECT(cuMemFree_v2(check_alloc(SHARED_SIZE)) == 0);
    for (size_t i = 0; i < COUNT(around); i++) {
        around[i] = check_alloc(i % 2 ? KIB(100) : MIB(5) + KIB(i));
        check_fill(around[i], KIB(100), NEIGHBOUR_MARK);
    }
    p = check_alloc(SHARED_SIZE);
    check_fill(p, SHARED_SIZE, OWN_MARK);
    SEEN("handle: %d\n", cuIpcGetMemHandle(&handle, p));
    peer = check_peer_start("ipc-import", NULL, is_preloaded);
    print_handle(peer.to, &handle);
    show_until_go(&peer);
    SEEN("importer's bytes: %d\n", check_holds(p, SHARED_SIZE, IMPORTER_MARK));
    tell(peer.to);
    check_peer_finish(&peer);
    SEEN("neighbours: %d %d\n", check_holds(around[0], KIB(100), NEIGHBOUR_MARK),
         check_holds(around[1], KIB(100), NEIGHBOUR_MARK));
    SEEN("free: %d\n", cuMemFree_v2(p));
    next = check_alloc(SHARED_SIZE);
    SEEN("next handle: %d", cuIpcGetMemHandle(&other, next));
    printf(" differs %d\n", memcmp(&handle, &other, sizeof(handle)) != 0);
}

void item_22_ipc_handle(void)
{
    CUipcMemHandle first, second, same, none;
    CUdeviceptr p, q, small;
    bool is_capable = false;
    CUresult result;

    check_up();
    p = check_alloc(MIB(4));
    check_fill(p, MIB(4), OWN_MARK);
    SEEN("handle: %d", cuIpcGetMemHandle(&first, p));
    printf(" once more %d", cuIpcGetMemHandle(&same, p));
    printf(" the same %d\n", memcmp(&first, &same, sizeof(first)) == 0);
    SEEN("not memory: %d\n", cuIpcGetMemHandle(&none, 42));
    SEEN("no out argument: %d\n", cuIpcGetMemHandle(NULL, p));
    SEEN("free: %d\n", cuMemFree_v2(p));
    SEEN("freed: %d\n", cuIpcGetMemHandle(&none, p));
    q = check_alloc(MIB(4));
    SEEN("second handle: %d", cuIpcGetMemHandle(&second, q));
    printf(" differs %d\n", memcmp(&first, &second, sizeof(first)) != 0);
    /* A small block: with its neighbours by the driver; under Berth refused below ipc-min. */
    small = check_alloc(KIB(4));
    result = cuIpcGetMemHandle(&none, small);
    EXPECT(cuPointerGetAttribute(&is_capable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
                                 small) == 0 &&
           is_capable == (result == 0));
    EXPECT(result == 0 || (check_is_under_berth() && result == CUDA_ERROR_INVALID_VALUE));
    SEEN("frees: %d %d\n", cuMemFree_v2(q), cuMemFree_v2(small));
    SEEN("a wrong handle: %d\n", cuIpcOpenMemHandle_v2(&p, (CUipcMemHandle){{0}}, 1));
    SEEN("no memory: %d\n", cuIpcCloseMemHandle(42));
}

void item_23_ipc_shows_one_block(void)
{
    share_with(true);
}

/* An importer under Berth: each open counts, and the exporter's block stays until it is closed. */
void item_24_ipc_open_and_close(void)
{
    CUipcMemHandle handle;
    CUdeviceptr p, others[6], opened = 0;
    size_t wrong = 0;

    share_with(true);
    p = check_alloc(MIB(3));
    EXPECT(cuIpcGetMemHandle(&handle, p) == 0);
    SEEN("open in the process itself: %d\n", cuIpcOpenMemHandle_v2(&opened, handle, 1));
    SEEN("wrong flags: %d\n", cuIpcOpenMemHandle_v2(&opened, handle, 0));
    EXPECT(cuMemFree_v2(p) == 0);
    SEEN("of freed memory: %d\n", cuIpcOpenMemHandle_v2(&opened, handle, 1));
    for (size_t i = 0; i < COUNT(others); i++) {
        others[i] = check_alloc(MIB(3));
        check_fill(others[i], MIB(3), (unsigned char)i);
    }
    for (size_t i = 0; i < COUNT(others); i++)
        wrong += !check_holds(others[i], MIB(3), (unsigned char)i);
    SEEN("blocks in its place that are wrong: %zu\n", wrong);
}

void item_25_ipc_capable(void)
{
    static const size_t sizes[] = {MIB(2), MIB(3) + 1, MIB(17)};

    check_up();
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < COUNT(sizes); i++) {
            CUdeviceptr p = check_alloc(sizes[i]);
            CUipcMemHandle handle;
            bool capable = false;
            CUresult result =
                cuPointerGetAttribute(&capable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, p);

            SEEN("%zu: %d capable %d", sizes[i], result, capable);
            printf(" handle %d", round ? cuIpcGetMemHandle(&handle, p) : 0);
            printf(" free %d\n", cuMemFree_v2(p));
        }
}

void item_26_ipc_importer_without_berth(void)
{
    share_with(false);
}
