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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_answer_is_the_kernels),
        cmocka_unit_test(nothing_is_taken_where_memory_is_locked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
