/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A check: one thing that a program may ask of the driver. It runs in a process of its own and
 * prints what it saw; the whole output is compared between a native run and one under Berth. So
 * nothing that differs from run to run is printed: no address, handle or time.
 *
 * Where Berth differs on purpose a check prints nothing that differs, and says so in a comment;
 * libberth(7) states each such place.
 */
#ifndef BERTH_TEST_CUDA_CHECK_H
#define BERTH_TEST_CUDA_CHECK_H

#include "cuda_api.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>
#include <unistd.h>

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define SEEN(...) printf("  " __VA_ARGS__)
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("  FAIL line %d: %s\n", __LINE__, #condition);                                  \
            fflush(stdout);                                                                        \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

struct check {
    const char *name;
    void (*run)(void);
};
#define CHECK(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

/*
 * Runs all checks, or those whose names are argv[1] or begin with it and '_'; the exit status.
 * With --list it prints the names only.
 */
int checks_run(const struct check *checks, size_t count, int argc, char **argv);

/* Runs `run` in a forked child, whose output comes out first, and says how it ended. */
void check_in_child(const char *what, void (*run)(void));

/* Whether libberth.so serves this process; and whether BERTH_OPTIONS then has `option`. */
bool check_is_under_berth(void);
bool check_has_option(const char *option);
/*
 * A free's answer; `refusal` for success under free = lazy, which asks nothing of the driver where
 * that would refuse: libberth(7).
 */
CUresult check_lazy(CUresult result, CUresult refusal);

/* The primary context of device 0, once check_up() has made it current. */
extern CUcontext check_context;
void check_up(void);
/* The primary context of device 1, not current; NULL where there is one device only. */
CUcontext check_second_device(void);

/* A block of device memory, or the end of the check. */
CUdeviceptr check_alloc(size_t size);
CUstream check_stream(void);
/* Device memory's bytes: all of them, or the end of the check. */
void check_fill(CUdeviceptr p, size_t size, unsigned char value);
bool check_holds(CUdeviceptr p, size_t size, unsigned char value);
/* How many bytes are `value`. */
size_t check_count(CUdeviceptr p, size_t size, unsigned char value);
/* A pattern that no neighbour has, and whether it is still there. */
void check_pattern(CUdeviceptr p, size_t size, unsigned seed);
bool check_has_pattern(CUdeviceptr p, size_t size, unsigned seed);
/* For cuLaunchHostFunc: work that lasts until the gate, which begins closed, is opened. */
void check_gate_close(void);
void check_gate_open(void);
void check_wait_at_gate(void *user);
/*
 * Of three blocks that `second` gets while work of `first` is still to come on one that was freed
 * there: how many are written late.
 */
size_t check_written_late(size_t size, CUstream first, CUstream second);
/* What the calling thread's device has free, in bytes. */
size_t check_free_memory(void);

/* A driver function by its name and CUDA version, NULL where this driver has none. */
void *check_driver_function(const char *name, int version);
/* The same of the shared CUDA runtime, which is opened; the end of the check where it lacks it. */
void *check_runtime_function(const char *name);
/* False, and a line, where the runtime is not there. */
bool check_runtime_up(void);

/* Another process that runs this program with the arguments, and talks through two pipes. */
struct check_peer {
    pid_t pid;
    FILE *to, *from;
};
struct check_peer check_peer_start(const char *mode, const char *argument, bool is_preloaded);
/* Prints what it still says; then how it ended. */
void check_peer_finish(struct check_peer *peer);

#endif
