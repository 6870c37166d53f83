/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/persistent.h"

#include "alloc/thread.h"

#include <errno.h>
#include <pthread.h>

const struct berth_persistent_calls *berth__persistent_calls;

/*
 * Memory that is allocated meanwhile is Berth's own, and errno stays the program's. Files are read,
 * written and waited for with locks held: a thread that is cancelled goes on until it is back.
 */
#define CALL(is_valid, verb, ...)                                                                  \
    const struct berth_persistent_calls *calls = berth__persistent_calls;                          \
    int saved_errno = errno;                                                                       \
    int cancel_state, r;                                                                           \
                                                                                                   \
    if (!calls)                                                                                    \
        return -ENOSYS;                                                                            \
    if (!(is_valid))                                                                               \
        return -EINVAL;                                                                            \
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);                                 \
    berth__thread.inside++;                                                                        \
    r = calls->verb(__VA_ARGS__);                                                                  \
    berth__thread.inside--;                                                                        \
    pthread_setcancelstate(cancel_state, NULL);                                                    \
    errno = saved_errno;                                                                           \
    return r

int berth__persistent_open(const char *name, size_t size, void **ret_p, unsigned *ret_state)
{
    CALL(name && ret_p && ret_state, open, name, size, ret_p, ret_state);
}

int berth__persistent_replace(const char *name, size_t size, void **ret_p)
{
    CALL(name && ret_p, replace, name, size, ret_p);
}

int berth__persistent_find(const char *name, void **ret_p, size_t *ret_size)
{
    CALL(name && ret_p && ret_size, find, name, ret_p, ret_size);
}

int berth__persistent_commit(void *p)
{
    CALL(p, commit, p);
}

int berth__persistent_detach(void *p)
{
    CALL(p, detach, p);
}

int berth__persistent_remove(const char *name)
{
    CALL(name, remove, name);
}
