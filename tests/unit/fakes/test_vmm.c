/* SPDX-License-Identifier: Apache-2.0 */
/* Virtual memory management: reservations, backings, mappings, access, and
 * memory that two processes share through a descriptor. */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRANULE (2ULL << 20)

static const CUmemAllocationProp plain = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                          .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
static const CUmemAllocationProp shareable = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                              .requestedHandleTypes =
                                                  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                              .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
static const CUmemAccessDesc writable = {{CU_MEM_LOCATION_TYPE_DEVICE, 0},
                                         CU_MEM_ACCESS_FLAGS_PROT_READWRITE};

static size_t free_bytes(void)
{
    size_t available, total;

    assert_ok(cuMemGetInfo_v2(&available, &total));
    return available;
}

static void contents_stay_when_a_backing_moves_to_another_address(void **state)
{
    CUmemGenericAllocationHandle handle;
    CUdeviceptr from, to;
    size_t before = free_bytes();
    char back[16];

    assert_ok(cuMemCreate(&handle, GRANULE, &plain, 0));
    assert_int_equal(before - free_bytes(), GRANULE);
    assert_ok(cuMemAddressReserve(&from, 2 * GRANULE, 0, 0, 0));
    assert_ok(cuMemAddressReserve(&to, GRANULE, 8 * GRANULE, 0, 0));
    assert_int_equal(to % (8 * GRANULE), 0);
    assert_ok(cuMemMap(from + GRANULE, GRANULE, 0, handle, 0));
    assert_ok(cuMemSetAccess(from + GRANULE, GRANULE, &writable, 1));
    assert_ok(cuMemcpyHtoD_v2(from + GRANULE, "moved contents", 15));
    assert_ok(cuMemUnmap(from + GRANULE, GRANULE));
    assert_ok(cuMemMap(to, GRANULE, 0, handle, 0));
    assert_ok(cuMemSetAccess(to, GRANULE, &writable, 1));
    assert_ok(cuMemRelease(handle));
    assert_ok(cuMemcpyDtoH_v2(back, to, 15));
    assert_string_equal(back, "moved contents");
    assert_int_equal(before - free_bytes(), GRANULE);
    assert_ok(cuMemUnmap(to, GRANULE));
    assert_int_equal(before, free_bytes());
    assert_ok(cuMemAddressFree(from, 2 * GRANULE));
    assert_ok(cuMemAddressFree(to, GRANULE));
}

static void wrong_sizes_and_ranges_are_refused(void **state)
{
    CUmemGenericAllocationHandle handle;
    CUdeviceptr address;

    assert_int_equal(cuMemCreate(&handle, GRANULE / 2, &plain, 0), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemCreate(&handle, 65 << 20, &plain, 0), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemCreate(&handle, 66 << 20, &plain, 0), CUDA_ERROR_OUT_OF_MEMORY);
    assert_ok(cuMemCreate(&handle, GRANULE, &plain, 0));
    assert_ok(cuMemAddressReserve(&address, 2 * GRANULE, 0, 0, 0));
    assert_int_equal(cuMemMap(address, GRANULE, GRANULE, handle, 0), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemMap(address, 2 * GRANULE, 0, handle, 0), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemMap(address + 2 * GRANULE, GRANULE, 0, handle, 0),
                     CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemMap(address, GRANULE, 0, handle, 0));
    assert_int_equal(cuMemMap(address, GRANULE, 0, handle, 0), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemSetAccess(address, 2 * GRANULE, &writable, 1), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemAddressFree(address, 2 * GRANULE), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemUnmap(address, 2 * GRANULE), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemUnmap(address, GRANULE));
    assert_int_equal(cuMemAddressFree(address, GRANULE), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemAddressFree(address, 2 * GRANULE));
    assert_ok(cuMemRelease(handle));
    assert_int_equal(cuMemRelease(handle), CUDA_ERROR_INVALID_VALUE);
}

static void access_is_what_was_set(void **state)
{
    CUmemGenericAllocationHandle handle, same;
    CUmemAccessDesc readable = {{CU_MEM_LOCATION_TYPE_DEVICE, 1}, CU_MEM_ACCESS_FLAGS_PROT_READ};
    unsigned long long flags;
    bool exportable = true;
    CUmemAllocationProp prop;
    CUdeviceptr address;

    assert_ok(cuMemCreate(&handle, GRANULE, &plain, 0));
    assert_ok(cuMemAddressReserve(&address, GRANULE, 0, 0, 0));
    assert_ok(cuMemMap(address, GRANULE, 0, handle, 0));
    assert_ok(cuMemGetAccess(&flags, &writable.location, address));
    assert_int_equal(flags, CU_MEM_ACCESS_FLAGS_PROT_NONE);
    assert_ok(cuMemSetAccess(address, GRANULE, &writable, 1));
    assert_ok(cuMemSetAccess(address, GRANULE, &readable, 1));
    assert_ok(cuMemGetAccess(&flags, &writable.location, address + 4096));
    assert_int_equal(flags, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    assert_ok(cuMemGetAccess(&flags, &readable.location, address));
    assert_int_equal(flags, CU_MEM_ACCESS_FLAGS_PROT_READ);
    assert_ok(cuMemRetainAllocationHandle(&same, (void *)(address + 100)));
    assert_int_equal(same, handle);
    assert_ok(cuMemGetAllocationPropertiesFromHandle(&prop, same));
    assert_int_equal(prop.location.id, 0);
    assert_ok(cuPointerGetAttribute(&exportable, CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE,
                                    address));
    assert_false(exportable);
    assert_ok(cuMemRelease(same));
    assert_ok(cuMemRelease(handle));
    assert_ok(cuMemUnmap(address, GRANULE));
    assert_ok(cuMemAddressFree(address, GRANULE));
}

/* Maps a backing at a new address; aborts the child on failure. */
static char *child_map(CUmemGenericAllocationHandle handle)
{
    CUdeviceptr address;

    if (cuMemAddressReserve(&address, GRANULE, 0, 0, 0) ||
        cuMemMap(address, GRANULE, 0, handle, 0) || cuMemSetAccess(address, GRANULE, &writable, 1))
        _exit(10);
    return (char *)address;
}

/* Receives the descriptor, answers through the shared memory. */
static void child_main(int socket)
{
    char data, control[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&data, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    CUmemGenericAllocationHandle handle;
    CUcontext context;
    char *memory;
    int fd;

    if (recvmsg(socket, &message, 0) != 1)
        _exit(11);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    if (cuInit(0) || cuDevicePrimaryCtxRetain(&context, 0) || cuCtxSetCurrent(context))
        _exit(12);
    if (cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)fd,
                                       CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR))
        _exit(13);
    close(fd);
    memory = child_map(handle);
    if (strcmp(memory, "from the parent") != 0)
        _exit(14);
    strcpy(memory, "from the child");
    _exit(0);
}

static void send_descriptor(int socket, int fd)
{
    char data = 0, control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {&data, 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof(fd));
    assert_int_equal(sendmsg(socket, &message, 0), 1);
}

static int child_socket;
static pid_t child;

static void a_descriptor_carries_the_memory_to_another_process(void **state)
{
    CUmemGenericAllocationHandle handle, imported;
    CUdeviceptr address;
    int fd, status;

    assert_ok(cuMemCreate(&handle, GRANULE, &shareable, 0));
    assert_ok(
        cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    assert_ok(cuMemAddressReserve(&address, GRANULE, 0, 0, 0));
    assert_ok(cuMemMap(address, GRANULE, 0, handle, 0));
    assert_ok(cuMemSetAccess(address, GRANULE, &writable, 1));
    assert_ok(cuMemcpyHtoD_v2(address, "from the parent", 16));
    send_descriptor(child_socket, fd);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_string_equal((char *)address, "from the child");
    /* Not every descriptor is memory, and not all memory may leave. */
    assert_int_equal(cuMemImportFromShareableHandle(&imported, (void *)(intptr_t)child_socket,
                                                    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
                     CUDA_ERROR_INVALID_VALUE);
    close(fd);
    assert_ok(cuMemUnmap(address, GRANULE));
    assert_ok(cuMemRelease(handle));
    assert_ok(cuMemCreate(&handle, GRANULE, &plain, 0));
    assert_int_equal(
        cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
        CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemRelease(handle));
}

/* The child is forked before cuInit: afterwards it could not use a device. */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contents_stay_when_a_backing_moves_to_another_address),
        cmocka_unit_test(wrong_sizes_and_ranges_are_refused),
        cmocka_unit_test(access_is_what_was_set),
        cmocka_unit_test(a_descriptor_carries_the_memory_to_another_process),
    };
    int sockets[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) < 0)
        return 1;
    child = fork();
    if (child == 0) {
        close(sockets[0]);
        child_main(sockets[1]);
    }
    close(sockets[1]);
    child_socket = sockets[0];
    return cmocka_run_group_tests(tests, use_device_0, NULL);
}
