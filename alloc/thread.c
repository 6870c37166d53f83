/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/thread.h"

#include "alloc/classifier.h"

#include <errno.h>

__thread struct berth_thread berth__thread;
_Atomic bool berth__tag_used;
void (*berth__tag_first)(void);

static void say_used(void)
{
    atomic_store(&berth__tag_used, true);
    if (berth__tag_first)
        berth__tag_first();
}

int berth__tag_push(enum berth_tag tag)
{
    struct berth_thread *t = &berth__thread;

    if ((unsigned)tag >= BERTH_TAG_COUNT)
        return -EINVAL;
    if (t->tag_depth == BERTH_TAG_DEPTH_MAX)
        return -ENOSPC;
    if (BERTH_UNLIKELY(!atomic_load_explicit(&berth__tag_used, memory_order_relaxed)))
        say_used();
    t->tags[t->tag_depth++] = (uint8_t)tag;
    return 0;
}

int berth__tag_pop(void)
{
    struct berth_thread *t = &berth__thread;

    if (t->tag_depth == 0)
        return -ENOENT;
    t->tag_depth--;
    return 0;
}

int berth__step(void)
{
    berth__thread.sequence = 0;
    berth__classifier_step();
    return 0;
}
