/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: to ask the kernel whether it would give so much memory takes none, also in a program that
 * locks what it maps (mlockall).
 * Method: each test is a process of its own, whose peak of resident memory is read.
 */
#include "pmem/overcommit.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define GIB ((size_t)1 << 30)
/* What a test's process ends with when it cannot run here. */
#define SKIPPED 77

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            dprintf(2, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                     \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void in_child(void (*run)(void))
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        run();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
        print_message("this user may lock no memory here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

static size_t peak(void)
{
    struct rusage usage;

    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return (size_t)usage.ru_maxrss << 10;
}

static bool kernel_allows(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p != MAP_FAILED)
        munmap(p, size);
    return p != MAP_FAILED;
}

static void check_asked(void)
{
    for (size_t size = GIB; size < SIZE_MAX / 2; size *= 2)
        CHECK(berth__overcommit_allows(size) == kernel_allows(size));
}

static void the_answer_is_the_kernels(void **state)
{
    (void)state;
    in_child(check_asked);
}

static void check_locked(void)
{
    size_t before, size = 2 * GIB;
    bool expected = kernel_allows(size);
    void *p;

    if (mlockall(MCL_FUTURE) != 0)
        _exit(SKIPPED);
    p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        _exit(SKIPPED);
    munmap(p, size);
    berth__overcommit_see_lock(true);
    before = peak();
    CHECK(berth__overcommit_allows(size) == expected);
    CHECK(peak() - before < GIB / 2);
    /* 64 TiB: less than there are addresses, more than there is memory. */
    CHECK(munlockall() == 0);
    expected = kernel_allows(size << 15);
    CHECK(mlockall(MCL_FUTURE) == 0);
    CHECK(berth__overcommit_allows(size << 15) == expected);
    berth__overcommit_see_lock(false);
}

static void nothing_is_taken_where_memory_is_locked(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    print_message("a sanitizer maps more than can be locked\n");
    skip();
#endif
    in_child(check_locked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_the_kernels),
        cmocka_unit_test(nothing_is_taken_where_memory_is_locked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
