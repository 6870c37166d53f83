/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define CHECK_SECONDS_MAX 60

CUcontext check_context;

bool check_is_under_berth(void)
{
    return dlsym(RTLD_DEFAULT, "berth_api_v1") != NULL;
}

bool check_has_option(const char *option)
{
    const char *options = getenv("BERTH_OPTIONS");

    return check_is_under_berth() && options && strstr(options, option);
}

CUresult check_lazy(CUresult result, CUresult refusal)
{
    return result == CUDA_SUCCESS && check_has_option("free=lazy") ? refusal : result;
}

void check_up(void)
{
    EXPECT(cuInit(0) == 0);
    EXPECT(cuDevicePrimaryCtxRetain(&check_context, 0) == 0);
    EXPECT(cuCtxSetCurrent(check_context) == 0);
}

CUcontext check_second_device(void)
{
    CUcontext context = NULL;
    int count = 0;

    EXPECT(cuDeviceGetCount(&count) == 0);
    if (count > 1)
        EXPECT(cuDevicePrimaryCtxRetain(&context, 1) == 0);
    else
        SEEN("there is one device only\n");
    return context;
}

CUdeviceptr check_alloc(size_t size)
{
    CUdeviceptr p = 0;

    EXPECT(cuMemAlloc_v2(&p, size) == 0);
    EXPECT(p != 0 && p % 512 == 0);
    return p;
}

CUstream check_stream(void)
{
    CUstream stream = NULL;

    EXPECT(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) == 0);
    return stream;
}

void check_fill(CUdeviceptr p, size_t size, unsigned char value)
{
    EXPECT(cuMemsetD8_v2(p, value, size) == 0 && cuCtxSynchronize() == 0);
}

size_t check_count(CUdeviceptr p, size_t size, unsigned char value)
{
    unsigned char *copy = malloc(size);
    size_t found = 0;

    EXPECT(copy && cuMemcpyDtoH_v2(copy, p, size) == 0);
    for (size_t i = 0; i < size; i++)
        found += copy[i] == value;
    free(copy);
    return found;
}

bool check_holds(CUdeviceptr p, size_t size, unsigned char value)
{
    return check_count(p, size, value) == size;
}

static unsigned char *make_pattern(size_t size, unsigned seed)
{
    unsigned char *bytes = malloc(size);
    unsigned state = seed * 2654435761u | 1;

    EXPECT(bytes);
    for (size_t i = 0; i < size; i++) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes[i] = (unsigned char)(state >> 11);
    }
    return bytes;
}

void check_pattern(CUdeviceptr p, size_t size, unsigned seed)
{
    unsigned char *bytes = make_pattern(size, seed);

    EXPECT(cuMemcpyHtoD_v2(p, bytes, size) == 0);
    free(bytes);
}

bool check_has_pattern(CUdeviceptr p, size_t size, unsigned seed)
{
    unsigned char *bytes = make_pattern(size, seed), *copy = malloc(size);
    bool same;

    EXPECT(copy && cuMemcpyDtoH_v2(copy, p, size) == 0);
    same = memcmp(copy, bytes, size) == 0;
    free(copy);
    free(bytes);
    return same;
}

size_t check_free_memory(void)
{
    size_t free_size = 0, total = 0;

    EXPECT(cuMemGetInfo_v2(&free_size, &total) == 0 && free_size <= total);
    return free_size;
}

void *check_driver_function(const char *name, int version)
{
    void *function = NULL;

    if (cuGetProcAddress_v2(name, &function, version, 0, NULL) != 0 || !function) {
        SEEN("this driver has no %s\n", name);
        return NULL;
    }
    return function;
}

static void *open_runtime(void)
{
    static void *handle;

    if (!handle)
        handle = dlopen("libcudart.so.13", RTLD_NOW);
    return handle;
}

bool check_runtime_up(void)
{
    if (open_runtime())
        return true;
    SEEN("there is no CUDA runtime\n");
    return false;
}

void *check_runtime_function(const char *name)
{
    void *function = dlsym(open_runtime(), name);

    if (!function)
        SEEN("the runtime has no %s\n", name);
    EXPECT(function);
    return function;
}

static void say_status(const char *what, int status)
{
    if (WIFSIGNALED(status))
        SEEN("%s: signal %d\n", what, WTERMSIG(status));
    else
        SEEN("%s: status %d\n", what, WEXITSTATUS(status));
}

void check_in_child(const char *what, void (*run)(void))
{
    int status = 0;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) {
        alarm(CHECK_SECONDS_MAX);
        run();
        fflush(stdout);
        _exit(0);
    }
    EXPECT(waitpid(pid, &status, 0) == pid);
    say_status(what, status);
}

struct check_peer check_peer_start(const char *mode, const char *argument, bool is_preloaded)
{
    struct check_peer peer = {0};
    char text[32];
    int to[2], from[2];

    /* Close-on-exec: a peer that dies is seen by the end of its pipe, whoever else lives. */
    EXPECT(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0);
    fflush(stdout);
    snprintf(text, sizeof(text), "%d", (int)getpid());
    peer.pid = fork();
    EXPECT(peer.pid >= 0);
    if (peer.pid == 0) {
        alarm(CHECK_SECONDS_MAX);
        dup2(to[0], 0);
        dup2(from[1], 1);
        if (!is_preloaded)
            unsetenv("LD_PRELOAD");
        execl("/proc/self/exe", "peer", "--peer", mode, argument ? argument : text, NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    peer.to = fdopen(to[1], "w");
    peer.from = fdopen(from[0], "r");
    EXPECT(peer.to && peer.from);
    return peer;
}

void check_peer_finish(struct check_peer *peer)
{
    char line[512];
    int status = 0;

    fclose(peer->to);
    while (fgets(line, sizeof(line), peer->from))
        SEEN("peer: %s", line);
    fclose(peer->from);
    EXPECT(waitpid(peer->pid, &status, 0) == peer->pid);
    say_status("peer", status);
}

static bool is_wanted(const char *name, const char *wanted)
{
    size_t length = strlen(wanted);

    return strncmp(name, wanted, length) == 0 && (name[length] == '\0' || name[length] == '_');
}

static bool run_one(const struct check *check)
{
    int status = 0;
    pid_t pid;

    printf("%s\n", check->name);
    fflush(stdout);
    pid = fork();
    if (pid == 0) {
        alarm(CHECK_SECONDS_MAX);
        check->run();
        fflush(stdout);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    if (status != 0)
        printf("  FAIL status %#x\n", (unsigned)status);
    return status == 0;
}

int checks_run(const struct check *checks, size_t count, int argc, char **argv)
{
    bool is_list = argc > 1 && strcmp(argv[1], "--list") == 0;
    size_t ran = 0, failed = 0;

    for (size_t i = 0; i < count; i++) {
        if (is_list) {
            printf("%s\n", checks[i].name);
            ran++;
        } else if (argc < 2 || is_wanted(checks[i].name, argv[1])) {
            failed += !run_one(&checks[i]);
            ran++;
        }
    }
    if (ran == 0)
        fprintf(stderr, "no check is named %s\n", argc > 1 ? argv[1] : "");
    return failed != 0 || ran == 0;
}

static _Atomic bool is_gate_open;

void check_gate_close(void)
{
    is_gate_open = false;
}

void check_gate_open(void)
{
    is_gate_open = true;
}

void check_wait_at_gate(void *user)
{
    while (!is_gate_open)
        usleep(100);
}

size_t check_written_late(size_t size, CUstream first, CUstream second)
{
    CUdeviceptr p = 0, q[3] = {0};
    size_t wrong = 0;

    check_gate_close();
    EXPECT(cuMemAllocAsync(&p, size, first) == 0);
    EXPECT(cuLaunchHostFunc(first, check_wait_at_gate, NULL) == 0);
    EXPECT(cuMemsetD8Async(p, 0xee, size, first) == 0);
    EXPECT(cuMemFreeAsync(p, first) == 0);
    for (size_t i = 0; i < COUNT(q); i++) {
        EXPECT(cuMemAllocAsync(&q[i], size, second) == 0);
        EXPECT(cuMemsetD8Async(q[i], 0x11, size, second) == 0);
    }
    check_gate_open();
    EXPECT(cuStreamSynchronize(second) == 0 && cuStreamSynchronize(first) == 0);
    for (size_t i = 0; i < COUNT(q); i++) {
        wrong += !check_holds(q[i], size, 0x11);
        EXPECT(cuMemFreeAsync(q[i], second) == 0);
    }
    EXPECT(cuCtxSynchronize() == 0);
    return wrong;
}
