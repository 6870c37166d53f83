/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What Berth keeps per thread. Only the thread itself reads or writes it, so nothing here is
 * atomic; it lives in static TLS (initial-exec), because any other model allocates on first touch.
 */
#ifndef BERTH_ALLOC_THREAD_H
#define BERTH_ALLOC_THREAD_H

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

struct berth_thread {
    /*
     * Above 0 while Berth's own code runs on this thread: hooks then take the plain path, place
     * nothing, record nothing and capture no site. Each user adds 1 and takes it back.
     */
    uint32_t inside;
    uint32_t tag_depth; /* tags in use in `tags` */
    uint64_t sequence;  /* see "sequence" in types.h */
    uint8_t tags[BERTH_TAG_DEPTH_MAX];
};

extern BERTH_SHARED __thread struct berth_thread berth__thread
    __attribute__((tls_model("initial-exec")));

/*
 * Whether any thread has ever pushed a tag, and who wants to be told when one does first: perhaps
 * by several threads at once, after the flag is set. Written before main.
 */
extern BERTH_SHARED _Atomic bool berth__tag_used;
extern BERTH_SHARED void (*berth__tag_first)(void);

/* The tag on top of this thread's stack, or untagged. */
static inline enum berth_tag berth__tag_current(void)
{
    uint32_t depth = berth__thread.tag_depth;

    return depth == 0 ? BERTH_TAG_UNTAGGED : (enum berth_tag)berth__thread.tags[depth - 1];
}

/* The public API's functions, under names that the program cannot interpose. */
int berth__tag_push(enum berth_tag tag);
int berth__tag_pop(void);
int berth__step(void);

#endif
