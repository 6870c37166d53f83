/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests that are a process of their own each: what one does to its process, such as reserving
 * addresses for life or lowering a limit, the next one does not find.
 *
 * cmocka's assertions are the parent's; in the child CHECK() says what is not so, and ends it.
 */
#ifndef BERTH_TESTS_CHILD_FIXTURE_H
#define BERTH_TESTS_CHILD_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* What a child ends with that cannot run here. */
#define CHILD_SKIPPED 77

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            dprintf(2, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                     \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* In the child: ends it, and the test counts as skipped. */
static inline void skip_child(const char *why)
{
    dprintf(1, "%s\n", why);
    _exit(CHILD_SKIPPED);
}

/* Runs `run` in a child, and `begin` before it unless that is NULL. */
static inline void in_child_after(void (*begin)(void), void (*run)(void))
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        if (begin)
            begin();
        run();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIPPED)
        skip();
    assert_int_equal(status, 0);
}

static inline void in_child(void (*run)(void))
{
    in_child_after(NULL, run);
}

#endif
