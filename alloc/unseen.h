/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of the program's use of the driver goes past Berth, as far as Berth can tell.
 *
 * A process is half-hooked when some of its code reaches the driver's own functions: that code may
 * free a block of the pool, of which the driver knows nothing, or be given memory that nobody
 * accounts. Where a free could go past, new blocks are the driver's own from then on, which is said
 * once; those that were handed out before are taken back as ever.
 */
#ifndef BERTH_ALLOC_UNSEEN_H
#define BERTH_ALLOC_UNSEEN_H

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

enum berth_unseen {
    BERTH_UNSEEN_DRIVER, /* a second copy of the driver was asked for its functions */
    BERTH_UNSEEN_ENTRY,  /* the driver has an entry to a hooked function that Berth does not know */
    BERTH_UNSEEN_BINDING, /* a library is bound to the driver's function itself */
    BERTH_UNSEEN_FRONT,   /* another library's function of that name comes before Berth's */
    BERTH_UNSEEN_FREE,    /* the driver gave a live block's address out again: somebody freed it */
    BERTH_UNSEEN_BLOCK,   /* the program freed memory that Berth had not seen */
    BERTH_UNSEEN_COUNT
};

#define BERTH_UNSEEN_EXAMPLE_MAX 160

/* One more case; `example` says where, as a phrase. Any thread, no lock. */
void berth__unseen_add(enum berth_unseen what, const char *example);

/* "driver-copy", "entry", ... */
const char *berth__unseen_name(enum berth_unseen what);
uint64_t berth__unseen_cases(enum berth_unseen what);
/* The first case's example, "" where there is none. */
const char *berth__unseen_example(enum berth_unseen what);

/* Whether new blocks are the driver's own, because a free could go past Berth. */
extern atomic_bool berth__unseen_frees;

static inline bool berth__unseen_passes(void)
{
    return BERTH_UNLIKELY(atomic_load_explicit(&berth__unseen_frees, memory_order_relaxed));
}

#endif
