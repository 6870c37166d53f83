/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a thread meets on its way that has been told to end (pthread_cancel(3)): the C library's
 * cancellation points that Berth's libraries, and what they load, call. points.c is preloaded
 * before these and exports files' under their own names; while a thread is watched, each call of
 * one in which it could end is told of, by who made it, and does its work. Berth's own waits are
 * the C library's whatever is preloaded: in such a one the thread really ends, which is told of,
 * too.
 */
#ifndef BERTH_TEST_CANCEL_POINTS_H
#define BERTH_TEST_CANCEL_POINTS_H

#include <stdbool.h>
#include <stddef.h>

struct situation {
    const char *name;
    void (*run)(void); /* calls no cancellation point itself */
    /* In the main thread before and after; NULL: nothing. */
    void (*begin)(void), (*end)(void);
};

/*
 * Runs those that argv names, or all, in the order given: each by a thread that has been told to
 * end, which is to come to its own pthread_testcancel(), and then by the main thread. The exit
 * status: 1 where a thread would have ended elsewhere, or has.
 */
int situations_run(const struct situation *situations, size_t count, int argc, char **argv);

/* Tells of what went wrong otherwise; any thread. */
void situation_fail(const char *what, int line);
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition))                                                                          \
            situation_fail(#condition, __LINE__);                                                  \
    } while (0)

/* Comes back when the watched thread waits for something, or has come to its end. */
void points_await_wait(void);

#endif
