/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library to preload: at every 32nd call of malloc() the stack is read by frame rules and by
 * libunwind, and the two paths are compared. As the program ends, a line is appended to the file
 * that SAME_PATHS names: the program, how many stacks were read, how many paths were equal, how
 * many were not, and how many the frame rules left to libunwind.
 */
#include "hooks/frame_walk.h"
#include "hooks/unwind.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define FRAMES 64
#define TURN 32

extern void *__libc_malloc(size_t size);

static _Atomic unsigned long total, equal, different, left;
static bool is_loaded;
static __thread unsigned inside, turn;
static __thread struct berth_stack stack;

static void find_stack(void)
{
    pthread_attr_t attributes;
    size_t size = 0;
    void *low = NULL;

    if (gettid() == getpid()) {
        stack.high = (uintptr_t)getauxval(AT_EXECFN) & ~(sizeof(uintptr_t) - 1);
        stack.low = stack.high - ((uintptr_t)8 << 20);
    } else if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        pthread_attr_getstack(&attributes, &low, &size);
        pthread_attr_destroy(&attributes);
        stack.low = (uintptr_t)low;
        stack.high = (uintptr_t)pthread_self();
    }
}

/* Both traces have this function in them, at other calls; from its caller on they are the same. */
static __attribute__((noinline)) void compare(void)
{
    const void *ours[FRAMES], *trace[FRAMES + 1];
    unsigned count, expected;

    if (stack.high == 0)
        find_stack();
    count = berth__frame_walk(&stack, ours, FRAMES, false);
    expected = berth__unwind(trace, FRAMES + 1) - 1;
    total++;
    if (count == 0)
        left++;
    else if (count == expected && memcmp(ours + 1, trace + 2, (count - 1) * sizeof(*ours)) == 0)
        equal++;
    else
        different++;
}

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    if (is_loaded && inside == 0 && ++turn % TURN == 0) {
        inside++;
        compare();
        inside--;
    }
    return __libc_malloc(size);
}

__attribute__((constructor)) static void begin(void)
{
    char why[256];

    inside++;
    is_loaded = berth__unwind_load(why, sizeof(why)) == 0;
    inside--;
}

__attribute__((destructor)) static void end(void)
{
    const char *file = getenv("SAME_PATHS");
    char line[4352], program[4096] = "";
    int fd = file ? open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    int size;

    if (fd < 0 || readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
        return;
    size = snprintf(line, sizeof(line), "%s\t%lu\t%lu\t%lu\t%lu\n", program, total, equal,
                    different, left);
    if (write(fd, line, (size_t)size) != size)
        perror(file);
    close(fd);
}
