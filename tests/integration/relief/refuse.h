/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A kernel that gives no memory until some is given back. refuse.c is preloaded before Berth's
 * library and stands for the calls of memory; refuse_thread.c comes after it, and stands for the C
 * library's pthread_create(), whose stacks nobody else sees.
 */
#ifndef BERTH_TEST_RELIEF_REFUSE_H
#define BERTH_TEST_RELIEF_REFUSE_H

#include <stdbool.h>
#include <stddef.h>

/* From now on nothing is given, until this thread has part of these bytes, which the program has
 * freed, go back. */
void refuse_until(const void *p, size_t size);

struct refuse_outcome {
    unsigned refusals; /* how often something was refused */
    bool has_come;     /* part of them has gone back */
    bool was_taken;    /* another thread was given some: nothing was shown */
};
/* Everything is given again. */
struct refuse_outcome refuse_end(void);

/* Whether part of them has gone back so far. */
bool refuse_has_come(void);

/* One call more; whether it is refused. */
bool refuse_this(void);

#endif
