/* SPDX-License-Identifier: Apache-2.0 */
/* What a process as a whole sees: the settings of the environment, injected
 * failures, the call log, fork and exit. The settings are read once, so each
 * case runs in a child that has made no call before. */
#include "fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                                 \
            fflush(stdout);                                                                        \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Exit status of the function in a child, as waitpid tells it; what it writes
 * to stderr goes to `errors`. */
static int in_child(void (*function)(void), const char *variable, const char *value, char *errors,
                    size_t errors_size)
{
    int status, pipe_fds[2];
    ssize_t length = 0, got;
    pid_t child;

    assert_int_equal(pipe(pipe_fds), 0);
    child = fork();
    if (child == 0) {
        dup2(pipe_fds[1], 2);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        if (variable)
            setenv(variable, value, 1);
        function();
        exit(0);
    }
    close(pipe_fds[1]);
    while ((size_t)length < errors_size - 1 &&
           (got = read(pipe_fds[0], errors + length, errors_size - 1 - (size_t)length)) > 0)
        length += got;
    errors[length] = 0;
    close(pipe_fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void run(void (*function)(void), const char *variable, const char *value)
{
    char errors[512];

    assert_int_equal(in_child(function, variable, value, errors, sizeof(errors)), 0);
    assert_string_equal(errors, "");
}

static void init_is_refused(void)
{
    EXPECT(cuInit(0) == CUDA_ERROR_OPERATING_SYSTEM);
}

static void a_wrong_setting_is_named_and_stops_init(void **state)
{
    static const char *const wrong[][2] = {
        {"BERTH_FAKE_DEVICES", "two"},
        {"BERTH_FAKE_DEVICES", "65"},
        {"BERTH_FAKE_MEMORY", "0"},
        {"BERTH_FAKE_MEMORY", "4X"},
        {"BERTH_FAKE_MEMORY", "9T"},
        {"BERTH_FAKE_LATENCY", "cuMemAlloc_v2=50"},
        {"BERTH_FAKE_LATENCY", "=50us"},
        {"BERTH_FAKE_LATENCY", "cuMemAloc_v2=50us"},
        {"BERTH_FAKE_FAIL", "cuMemory:1=2"},
        {"BERTH_FAKE_FAIL", "cuMemAlloc_v2=2"},
        {"BERTH_FAKE_FAIL", "cuMemAlloc_v2:0=2"},
        {"BERTH_FAKE_FAIL", "cuMemAlloc_v2:1=0"},
    };
    char errors[512];

    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        assert_int_equal(
            in_child(init_is_refused, wrong[i][0], wrong[i][1], errors, sizeof(errors)), 0);
        assert_non_null(strstr(errors, wrong[i][0]));
        assert_non_null(strstr(errors, wrong[i][1]));
        assert_ptr_equal(strchr(errors, '\n'), errors + strlen(errors) - 1);
    }
}

static void init_finds_no_device(void)
{
    EXPECT(cuInit(0) == CUDA_ERROR_NO_DEVICE);
}

static void init_finds_three_devices(void)
{
    CUuuid first, third;
    char bus[16];
    int count, device;

    EXPECT(cuInit(0) == CUDA_SUCCESS);
    EXPECT(cuDeviceGetCount(&count) == CUDA_SUCCESS && count == 3);
    EXPECT(cuDeviceGetUuid_v2(&first, 0) == CUDA_SUCCESS);
    EXPECT(cuDeviceGetUuid_v2(&third, 2) == CUDA_SUCCESS);
    EXPECT(memcmp(&first, &third, sizeof(first)) != 0);
    EXPECT(cuDeviceGetPCIBusId(bus, sizeof(bus), 2) == CUDA_SUCCESS);
    EXPECT(cuDeviceGetByPCIBusId(&device, bus) == CUDA_SUCCESS && device == 2);
    EXPECT(cuDeviceGet(&device, 3) == CUDA_ERROR_INVALID_DEVICE);
}

static void an_older_driver_lacks_what_came_later(void)
{
    CUdriverProcAddressQueryResult status;
    const char *name, *text;
    void *entry;
    int version;

    EXPECT(cuDriverGetVersion(&version) == CUDA_SUCCESS && version == 12040);
    EXPECT(cuGetProcAddress_v2("cuCtxRecordEvent", &entry, 12040, 0, &status) == CUDA_SUCCESS);
    EXPECT(!entry && status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    EXPECT(cuGetProcAddress_v2("cuMemAlloc", &entry, 12040, 0, &status) == CUDA_SUCCESS && entry);
    EXPECT(cuGetProcAddress_v2("cuMemAlloc", &entry, 12050, 0, &status) ==
           CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuGetErrorName(CUDA_ERROR_INVALID_VALUE, &name) == CUDA_SUCCESS);
    EXPECT(strcmp(name, "CUDA_ERROR_INVALID_VALUE") == 0);
    EXPECT(cuGetErrorString(CUDA_ERROR_INVALID_VALUE, &text) == CUDA_SUCCESS);
    EXPECT(strcmp(text, "invalid argument") == 0);
    EXPECT(cuGetErrorName((CUresult)12345, &name) == CUDA_ERROR_INVALID_VALUE && !name);
}

static void the_drivers_version_is_a_setting(void **state)
{
    run(an_older_driver_lacks_what_came_later, "BERTH_FAKE_DRIVER", "12040");
}

static void each_device_has_its_own_memory(void)
{
    size_t available, total, before;
    CUdeviceptr pointer, other;
    unsigned char value;
    int ordinal;

    use_device(1);
    EXPECT(cuMemGetInfo_v2(&before, &total) == CUDA_SUCCESS);
    use_device(0);
    EXPECT(cuMemAlloc_v2(&pointer, 4 << 20) == CUDA_SUCCESS);
    EXPECT(cuMemsetD8_v2(pointer, 3, 1) == CUDA_SUCCESS);
    EXPECT(cuCtxSynchronize() == CUDA_SUCCESS);
    use_device(1);
    EXPECT(cuMemGetInfo_v2(&available, &total) == CUDA_SUCCESS && available == before);
    EXPECT(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, pointer) ==
           CUDA_SUCCESS);
    EXPECT(ordinal == 0);
    EXPECT(cuMemAlloc_v2(&other, 1) == CUDA_SUCCESS);
    EXPECT(cuMemcpyPeer(other, NULL, pointer, NULL, 1) == CUDA_SUCCESS);
    EXPECT(cuMemcpyDtoH_v2(&value, other, 1) == CUDA_SUCCESS && value == 3);
    /* Freed with another device current. */
    EXPECT(cuMemFree_v2(pointer) == CUDA_SUCCESS);
}

static void devices_are_as_many_as_asked_for(void **state)
{
    run(init_finds_no_device, "BERTH_FAKE_DEVICES", "0");
    run(init_finds_three_devices, "BERTH_FAKE_DEVICES", "3");
    run(each_device_has_its_own_memory, "BERTH_FAKE_DEVICES", "2");
}

static void second_allocation_fails(void)
{
    size_t before, after, total;
    CUdeviceptr pointer, untouched = 5;

    use_device(0);
    EXPECT(cuMemAlloc_v2(&pointer, 64) == CUDA_SUCCESS);
    EXPECT(cuMemGetInfo_v2(&before, &total) == CUDA_SUCCESS);
    EXPECT(cuMemAlloc_v2(&untouched, 64) == CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT(untouched == 5);
    EXPECT(cuMemGetInfo_v2(&after, &total) == CUDA_SUCCESS && after == before);
    EXPECT(cuMemAlloc_v2(&pointer, 64) == CUDA_SUCCESS);
}

static void from_second_allocation_on_all_fail(void)
{
    CUdeviceptr pointer;

    use_device(0);
    EXPECT(cuMemAlloc_v2(&pointer, 64) == CUDA_SUCCESS);
    EXPECT(cuMemAlloc_v2(&pointer, 64) == CUDA_ERROR_OUT_OF_MEMORY);
    EXPECT(cuMemAlloc_v2(&pointer, 64) == CUDA_ERROR_OUT_OF_MEMORY);
}

static void the_nth_call_fails_as_asked(void **state)
{
    run(second_allocation_fails, "BERTH_FAKE_FAIL", "cuMemFree_v2:9=1,cuMemAlloc_v2:2=2");
    run(from_second_allocation_on_all_fail, "BERTH_FAKE_FAIL", "cuMemAlloc_v2:2+=2");
}

static void init_takes_its_time(void)
{
    struct timespec start, end;

    clock_gettime(CLOCK_MONOTONIC, &start);
    EXPECT(cuInit(0) == CUDA_SUCCESS);
    clock_gettime(CLOCK_MONOTONIC, &end);
    EXPECT((end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec >= 20000000);
}

static void latency_is_added(void **state)
{
    run(init_takes_its_time, "BERTH_FAKE_LATENCY", "cuMemAlloc_v2=1s,cuInit=20ms");
}

static void logged_calls(void)
{
    CUdeviceptr pointer, shared;
    CUcontext context;

    EXPECT(cuInit(0) == CUDA_SUCCESS);
    EXPECT(cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS);
    EXPECT(cuCtxSetCurrent(context) == CUDA_SUCCESS);
    EXPECT(cuMemAlloc_v2(&pointer, 1000) == CUDA_SUCCESS);
    EXPECT(cuMemAllocAsync(&shared, 2000, NULL) == CUDA_SUCCESS);
    EXPECT(cuMemcpyDtoD_v2(shared, pointer + 8, 16) == CUDA_SUCCESS);
    EXPECT(cuMemFree_v2(pointer) == CUDA_SUCCESS);
    EXPECT(cuMemFree_v2(pointer) == CUDA_ERROR_INVALID_VALUE);
}

static void the_log_has_one_comparable_line_per_call(void **state)
{
    static const char expected[] = "cuInit(flags=0) = 0\n"
                                   "cuDevicePrimaryCtxRetain(0) = 0\n"
                                   "cuCtxSetCurrent(ctx) = 0\n"
                                   "cuMemAlloc_v2(1000) = 0 -> m1\n"
                                   "cuMemAllocAsync(2000) = 0 -> m2\n"
                                   "cuMemcpyDtoD_v2(m2, m1+8, 16) = 0\n"
                                   "cuMemFree_v2(m1) = 0\n"
                                   "cuMemFree_v2(host) = 1\n";
    char path[] = "/tmp/fake-cuda-log-XXXXXX", text[1024] = "";
    int fd = mkstemp(path);

    assert_true(fd >= 0);
    run(logged_calls, "BERTH_FAKE_LOG", path);
    unlink(path);
    assert_int_equal(read(fd, text, sizeof(text) - 1), sizeof(expected) - 1);
    assert_string_equal(text, expected);
    close(fd);
}

static void touch_in_child(CUdeviceptr pointer)
{
    pid_t child = fork();
    int status;

    if (child == 0) {
        EXPECT(cuInit(0) == CUDA_ERROR_NOT_INITIALIZED);
        EXPECT(cuMemAlloc_v2(&pointer, 64) == CUDA_ERROR_NOT_INITIALIZED);
        EXPECT(cuMemFree_v2(pointer) == CUDA_ERROR_NOT_INITIALIZED);
        signal(SIGSEGV, SIG_DFL);
        *(volatile char *)pointer = 1;
        _exit(2);
    }
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void fork_after_init(void)
{
    CUdeviceptr pointer;

    use_device(0);
    EXPECT(cuMemAlloc_v2(&pointer, 64) == CUDA_SUCCESS);
    EXPECT(cuMemsetD8_v2(pointer, 7, 64) == CUDA_SUCCESS);
    EXPECT(cuCtxSynchronize() == CUDA_SUCCESS);
    touch_in_child(pointer);
    EXPECT(*(volatile char *)pointer == 7);
    EXPECT(cuMemFree_v2(pointer) == CUDA_SUCCESS);
}

static void a_forked_child_has_no_driver(void **state)
{
    run(fork_after_init, NULL, NULL);
}

static void free_at_exit(void)
{
    CUdeviceptr pointer = 4096;

    EXPECT(cuMemFree_v2(pointer) == CUDA_ERROR_DEINITIALIZED);
}

static void register_then_init(void)
{
    atexit(free_at_exit);
    use_device(0);
}

static void after_the_driver_shut_down_calls_say_so(void **state)
{
    run(register_then_init, NULL, NULL);
}

static void init_in_little_address_space(void)
{
    struct rlimit limit = {6ULL << 30, 6ULL << 30};
    CUdeviceptr pointer;

    EXPECT(setrlimit(RLIMIT_AS, &limit) == 0);
    use_device(0);
    EXPECT(cuMemAlloc_v2(&pointer, 8 << 20) == CUDA_SUCCESS);
    EXPECT(cuMemsetD8_v2(pointer, 1, 8 << 20) == CUDA_SUCCESS);
    EXPECT(cuCtxSynchronize() == CUDA_SUCCESS);
    EXPECT(cuMemFree_v2(pointer) == CUDA_SUCCESS);
}

static void a_limit_on_addresses_makes_the_window_smaller(void **state)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* a sanitizer's own memory does not fit the limit */
#endif
    run(init_in_little_address_space, NULL, NULL);
}

static void exit_while_held(void)
{
    static struct gate gate = GATE_INIT;

    use_device(0);
    EXPECT(cuLaunchHostFunc(NULL, gate_pass, &gate) == CUDA_SUCCESS);
    gate_wait_entered(&gate);
}

static void exit_waits_for_nothing(void **state)
{
    run(exit_while_held, NULL, NULL);
}

static void no_context(void)
{
    CUdeviceptr pointer;
    CUstream stream;
    size_t size;

    EXPECT(cuMemAlloc_v2(&pointer, 64) == CUDA_ERROR_NOT_INITIALIZED);
    EXPECT(cuInit(0) == CUDA_SUCCESS);
    EXPECT(cuMemAlloc_v2(&pointer, 64) == CUDA_ERROR_INVALID_CONTEXT);
    EXPECT(cuStreamCreate(&stream, 0) == CUDA_ERROR_INVALID_CONTEXT);
    EXPECT(cuMemGetInfo_v2(&size, &size) == CUDA_ERROR_INVALID_CONTEXT);
}

static void calls_need_init_and_a_context(void **state)
{
    run(no_context, NULL, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_setting_is_named_and_stops_init),
        cmocka_unit_test(the_drivers_version_is_a_setting),
        cmocka_unit_test(devices_are_as_many_as_asked_for),
        cmocka_unit_test(the_nth_call_fails_as_asked),
        cmocka_unit_test(latency_is_added),
        cmocka_unit_test(the_log_has_one_comparable_line_per_call),
        cmocka_unit_test(a_forked_child_has_no_driver),
        cmocka_unit_test(after_the_driver_shut_down_calls_say_so),
        cmocka_unit_test(a_limit_on_addresses_makes_the_window_smaller),
        cmocka_unit_test(exit_waits_for_nothing),
        cmocka_unit_test(calls_need_init_and_a_context),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
