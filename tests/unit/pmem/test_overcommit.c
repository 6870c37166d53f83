/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: to ask the kernel whether it would give so much memory takes none, also in a program that
 * locks what it maps (mlockall).
 * Method: each test is a process of its own, whose peak of resident memory is read.
 */
#include "pmem/overcommit.h"

#include "tests/unit/pmem/child_fixture.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GIB ((size_t)1 << 30)

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
        skip_child("this user may lock no memory here");
    p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        skip_child("this user may lock no memory here");
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

/* As a program that starts others does: between vfork() and exec. */
static void limit_in_borrowed_memory(rlim_t bytes)
{
    const struct rlimit limit = {bytes, bytes};
    pid_t pid = vfork();
    int status;

    if (pid == 0) {
        int r = setrlimit(RLIMIT_DATA, &limit) | setrlimit(RLIMIT_AS, &limit);

        berth__overcommit_see_limits();
        _exit(r != 0);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

/* The limit in force; SIZE_MAX: none. */
static size_t soft_limit(__rlimit_resource_t resource)
{
    struct rlimit limit;

    CHECK(getrlimit(resource, &limit) == 0);
    return limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : limit.rlim_cur;
}

static void limit_self(rlim_t bytes)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_DATA, &limit) == 0);
    limit.rlim_cur = bytes;
    CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
    berth__overcommit_see_limits();
    CHECK(berth__overcommit_least_limit() == bytes && berth__overcommit_data_limit() == bytes);
}

#ifdef __x86_64__
/* Past the C library, and what stands for it. */
static pid_t fork_unseen(void)
{
    long r;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(SYS_clone), "D"((long)SIGCHLD), "S"(0L), "d"(0L)
                     : "rcx", "r11", "memory");
    return (pid_t)r;
}
#endif

/* Who runs the tests may be limited, as by `ulimit -v`: all limits here are below that one. */
static void check_limits(void)
{
    size_t data = soft_limit(RLIMIT_DATA), addresses = soft_limit(RLIMIT_AS);
    size_t least = data < addresses ? data : addresses;
    size_t low = least < 8 * GIB ? least / 2 : 4 * GIB;
    pid_t pid;
    int status;

    CHECK(berth__overcommit_least_limit() == least);
    limit_in_borrowed_memory(low);
    CHECK(berth__overcommit_least_limit() == least);
    CHECK(berth__overcommit_data_limit() == data);
    pid = fork();
    if (pid == 0) {
        berth__overcommit_in_child();
        limit_in_borrowed_memory(low);
        CHECK(berth__overcommit_least_limit() == least);
        limit_self(low / 2);
        _exit(0);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(berth__overcommit_least_limit() == least);
#ifdef __x86_64__
    pid = fork_unseen();
    if (pid == 0) {
        limit_self(low / 2);
        _exit(0);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
#endif
    limit_self(low / 4 * 3);
    limit_in_borrowed_memory(low / 2);
    CHECK(berth__overcommit_least_limit() == low / 4 * 3);
}

static void a_limit_is_that_of_the_process_that_has_the_memory(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    print_message("a sanitizer has more addresses than there would be\n");
    skip();
#endif
    in_host_child(check_limits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_the_kernels),
        cmocka_unit_test(nothing_is_taken_where_memory_is_locked),
        cmocka_unit_test(a_limit_is_that_of_the_process_that_has_the_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
