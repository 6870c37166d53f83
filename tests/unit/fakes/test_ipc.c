/* SPDX-License-Identifier: Apache-2.0 */
/* Legacy IPC between two real processes. The importer is forked before cuInit
 * and does what it is told over a pair of sockets. */
#include "fixture.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB (1ULL << 20)

struct request {
    enum { OPEN, CLOSE, WRITE, QUIT } what;
    CUipcMemHandle handle;
    CUdeviceptr pointer;
    char text[16];
};

struct answer {
    CUresult result;
    CUdeviceptr pointer;
    char text[16];
};

static int importer;

static struct answer importer_do(const struct request *request)
{
    struct answer answer = {.result = CUDA_SUCCESS};

    switch (request->what) {
    case OPEN:
        answer.result = cuIpcOpenMemHandle_v2(&answer.pointer, request->handle, 1);
        if (answer.result == CUDA_SUCCESS)
            answer.result = cuMemcpyDtoH_v2(answer.text, answer.pointer, sizeof(answer.text));
        break;
    case CLOSE:
        answer.result = cuIpcCloseMemHandle(request->pointer);
        break;
    default:
        answer.result = cuMemcpyHtoD_v2(request->pointer, request->text, sizeof(request->text));
    }
    return answer;
}

static void importer_main(int socket)
{
    struct request request;

    use_device(0);
    while (read(socket, &request, sizeof(request)) == sizeof(request) && request.what != QUIT) {
        struct answer answer = importer_do(&request);

        if (write(socket, &answer, sizeof(answer)) != sizeof(answer))
            _exit(1);
    }
    _exit(0);
}

static struct answer ask(const struct request *request)
{
    struct answer answer;

    assert_int_equal(write(importer, request, sizeof(*request)), sizeof(*request));
    assert_int_equal(read(importer, &answer, sizeof(answer)), sizeof(answer));
    return answer;
}

static void both_processes_see_one_memory(void **state)
{
    struct request request = {.what = OPEN};
    struct answer first, second;
    CUdeviceptr pointer;
    char back[16];

    assert_ok(cuMemAlloc_v2(&pointer, 3 * MIB));
    assert_ok(cuMemcpyHtoD_v2(pointer, "exported bytes", 15));
    assert_ok(cuIpcGetMemHandle(&request.handle, pointer));
    first = ask(&request);
    assert_ok(first.result);
    assert_string_equal(first.text, "exported bytes");
    second = ask(&request);
    assert_ok(second.result);
    assert_int_equal(first.pointer, second.pointer);
    request = (struct request){.what = WRITE, .pointer = first.pointer, .text = "written back"};
    assert_ok(ask(&request).result);
    assert_ok(cuMemcpyDtoH_v2(back, pointer, sizeof(back)));
    assert_string_equal(back, "written back");
    /* Opened twice: the first close leaves it open. */
    request = (struct request){.what = CLOSE, .pointer = first.pointer};
    assert_ok(ask(&request).result);
    assert_ok(ask(&request).result);
    assert_int_equal(ask(&request).result, CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFree_v2(pointer));
}

static void a_small_allocations_handle_names_the_whole_segment(void **state)
{
    struct request request = {.what = OPEN};
    CUdeviceptr first, second;
    struct answer answer;

    assert_ok(cuMemAlloc_v2(&first, 512));
    assert_ok(cuMemAlloc_v2(&second, 512));
    assert_ok(cuMemcpyHtoD_v2(first, "first", 6));
    assert_ok(cuMemcpyHtoD_v2(second, "second", 7));
    assert_ok(cuIpcGetMemHandle(&request.handle, second));
    answer = ask(&request);
    assert_ok(answer.result);
    assert_string_equal(answer.text, "first");
    request = (struct request){.what = CLOSE, .pointer = answer.pointer};
    assert_ok(ask(&request).result);
    assert_ok(cuMemFree_v2(first));
    assert_ok(cuMemFree_v2(second));
}

static void a_handle_dies_with_its_memory(void **state)
{
    struct request request = {.what = OPEN};
    CUipcMemHandle newer;
    CUdeviceptr pointer, again;

    assert_ok(cuMemAlloc_v2(&pointer, 3 * MIB));
    assert_ok(cuIpcGetMemHandle(&request.handle, pointer));
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuMemAlloc_v2(&again, 3 * MIB));
    assert_int_equal(again, pointer);
    assert_ok(cuIpcGetMemHandle(&newer, again));
    assert_memory_not_equal(&newer, &request.handle, sizeof(newer));
    assert_int_equal(ask(&request).result, CUDA_ERROR_MAP_FAILED);
    assert_ok(cuMemFree_v2(again));
}

static void what_cannot_be_exported_is_refused(void **state)
{
    CUdeviceptr managed, pointer;
    CUipcMemHandle handle;

    assert_ok(cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL));
    assert_int_equal(cuIpcGetMemHandle(&handle, managed), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuIpcGetMemHandle(&handle, (CUdeviceptr)&handle), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFree_v2(managed));
    assert_ok(cuMemAlloc_v2(&pointer, 4096));
    assert_ok(cuIpcGetMemHandle(&handle, pointer));
    assert_int_equal(cuIpcOpenMemHandle_v2(&managed, handle, 1), CUDA_ERROR_INVALID_CONTEXT);
    assert_int_equal(cuIpcOpenMemHandle_v2(&managed, handle, 0), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFree_v2(pointer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_processes_see_one_memory),
        cmocka_unit_test(a_small_allocations_handle_names_the_whole_segment),
        cmocka_unit_test(a_handle_dies_with_its_memory),
        cmocka_unit_test(what_cannot_be_exported_is_refused),
    };
    int sockets[2], failed;
    pid_t child;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets) < 0)
        return 1;
    child = fork();
    if (child == 0) {
        close(sockets[0]);
        importer_main(sockets[1]);
    }
    close(sockets[1]);
    importer = sockets[0];
    failed = cmocka_run_group_tests(tests, use_device_0, NULL);
    close(importer);
    waitpid(child, NULL, 0);
    return failed;
}
