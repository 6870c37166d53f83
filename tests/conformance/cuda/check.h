/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A check: one thing that a program may ask of the driver. It runs in a process of its own and
 * prints what it saw; compare.py compares the whole output between a native run and one under
 * Berth.
 */
#ifndef BERTH_TEST_CUDA_CHECK_H
#define BERTH_TEST_CUDA_CHECK_H

#include "cuda_api.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)

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

/* Runs all checks, or the one named by argv[1]; the exit status. */
int checks_run(const struct check *checks, size_t count, int argc, char **argv);

/* The primary context of device 0, once check_up() has made it current. */
extern CUcontext check_context;
void check_up(void);

/* A block of device memory, or the end of the check. */
CUdeviceptr check_alloc(size_t size);

#endif
