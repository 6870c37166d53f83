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

/* A library of version 0.1 has so much; what it does not have yet is not there. */
#define API_SIZE_LEAST (offsetof(struct berth_api, persist))
#define HAS(api, member) ((api)->size >= offsetof(struct berth_api, member) + sizeof((api)->member))

/* Stands for "looked, and found nothing"; its functions are never called. */
static const struct berth_api absent;
static _Atomic(const struct berth_api *) found;

static __attribute__((noinline, cold)) const struct berth_api *api_find(void)
{
    int saved_errno = errno;
    const struct berth_api *api = &absent;
    berth_api_v1_fn get;

    *(void **)&get = dlsym(RTLD_DEFAULT, "berth_api_v1");
    if (get && get() && get()->size >= API_SIZE_LEAST)
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

int berth_step_quiescent(void)
{
    const struct berth_api *api = api_get();

    return HAS(api, step_quiescent) ? api->step_quiescent() : 0;
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

int berth_persist(const char *name, size_t size, void **ret_p, unsigned *ret_state)
{
    const struct berth_api *api = api_get();

    return HAS(api, persist) ? api->persist(name, size, ret_p, ret_state) : -ENOSYS;
}

int berth_persist_replace(const char *name, size_t size, void **ret_p)
{
    const struct berth_api *api = api_get();

    return HAS(api, persist_replace) ? api->persist_replace(name, size, ret_p) : -ENOSYS;
}

int berth_persist_find(const char *name, void **ret_p, size_t *ret_size)
{
    const struct berth_api *api = api_get();

    return HAS(api, persist_find) ? api->persist_find(name, ret_p, ret_size) : -ENOSYS;
}

int berth_persist_commit(void *p)
{
    const struct berth_api *api = api_get();

    return HAS(api, persist_commit) ? api->persist_commit(p) : -ENOSYS;
}

int berth_persist_detach(void *p)
{
    const struct berth_api *api = api_get();

    return HAS(api, persist_detach) ? api->persist_detach(p) : -ENOSYS;
}

int berth_persist_remove(const char *name)
{
    const struct berth_api *api = api_get();

    return HAS(api, persist_remove) ? api->persist_remove(name) : -ENOSYS;
}
