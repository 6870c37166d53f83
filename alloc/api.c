/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The static archive that programs link: forwards to the preloaded library when there is one.
 *
 * The search is made once per process and costs one predicted branch afterwards. It must not be
 * made at link time: a weak reference is resolved to NULL in a non-PIE program even when the
 * library is preloaded later.
 */
#include "alloc/berth.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

/* Stands for "looked, and found nothing"; its functions are never called. */
static const struct berth_api absent;
static _Atomic(const struct berth_api *) found;

static __attribute__((noinline, cold)) const struct berth_api *api_find(void)
{
    int saved_errno = errno;
    const struct berth_api *api = &absent;
    berth_api_v1_fn get;

    *(void **)&get = dlsym(RTLD_DEFAULT, "berth_api_v1");
    if (get && get() && get()->size >= sizeof(struct berth_api))
        api = get();
    /* A search without success leaves a message, which is not the program's. */
    if (!get)
        dlerror();
    atomic_store_explicit(&found, api, memory_order_release);
    errno = saved_errno;
    return api;
}

/* In line: a call to the library that is not there is then a load, a compare and a return. */
static inline __attribute__((always_inline)) const struct berth_api *api_get(void)
{
    const struct berth_api *api = atomic_load_explicit(&found, memory_order_acquire);

    return __builtin_expect(api != NULL, 1) ? api : api_find();
}

/*
 * The search may allocate, and takes the loader's lock: it is made when the program starts, and
 * only for calls that come even earlier, where the call is.
 */
__attribute__((constructor)) static void api_start(void)
{
    api_get();
}

int berth_tag_push(enum berth_tag tag)
{
    const struct berth_api *api = api_get();

    return api == &absent ? 0 : api->tag_push(tag);
}

int berth_tag_pop(void)
{
    const struct berth_api *api = api_get();

    return api == &absent ? 0 : api->tag_pop();
}

int berth_step(void)
{
    const struct berth_api *api = api_get();

    return api == &absent ? 0 : api->step();
}

int berth_active(void)
{
    return api_get() != &absent;
}

int berth_describe(const void *p, struct berth_block_info *ret_info, size_t info_size)
{
    const struct berth_api *api = api_get();

    return api == &absent ? -ENOSYS : api->describe(p, ret_info, info_size);
}
