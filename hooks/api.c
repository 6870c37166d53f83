/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public API as the preload libraries export it: by name, for programs that look the functions
 * up themselves (a Python script through ctypes), and as a table, for the static archive.
 */
#include "alloc/berth.h"
#include "alloc/describe.h"
#include "alloc/move_door.h"
#include "alloc/persistent.h"
#include "alloc/thread.h"
#include "ipc/control.h"

/* libberth.so's, when that is preloaded. */
#pragma weak berth__control_wanted

/* A block in a tier: whoever looks from outside may look now. Nothing of ours is held here. */
static int placed(int r)
{
    if (r < 0 || !&berth__control_wanted || !berth__control_wanted)
        return r;
    berth__thread.inside++;
    berth__control_wanted();
    berth__thread.inside--;
    return r;
}

static int persist(const char *name, size_t size, void **ret_p, unsigned *ret_state)
{
    return placed(berth__persistent_open(name, size, ret_p, ret_state));
}

static int persist_replace(const char *name, size_t size, void **ret_p)
{
    return placed(berth__persistent_replace(name, size, ret_p));
}

static int persist_find(const char *name, void **ret_p, size_t *ret_size)
{
    return placed(berth__persistent_find(name, ret_p, ret_size));
}

static const struct berth_api api = {
    .size = sizeof(struct berth_api),
    .tag_push = berth__tag_push,
    .tag_pop = berth__tag_pop,
    .step = berth__step,
    .describe = berth__describe,
    .persist = persist,
    .persist_replace = persist_replace,
    .persist_find = persist_find,
    .persist_commit = berth__persistent_commit,
    .persist_detach = berth__persistent_detach,
    .persist_remove = berth__persistent_remove,
    .step_quiescent = berth__step_quiescent,
};

BERTH_EXPORT const struct berth_api *berth_api_v1(void);

const struct berth_api *berth_api_v1(void)
{
    return &api;
}

BERTH_EXPORT int berth_tag_push(enum berth_tag tag)
{
    return berth__tag_push(tag);
}

BERTH_EXPORT int berth_tag_pop(void)
{
    return berth__tag_pop();
}

BERTH_EXPORT int berth_step(void)
{
    return berth__step();
}

BERTH_EXPORT int berth_step_quiescent(void)
{
    return berth__step_quiescent();
}

BERTH_EXPORT int berth_active(void)
{
    return 1;
}

BERTH_EXPORT int berth_describe(const void *p, struct berth_block_info *ret_info, size_t info_size)
{
    return berth__describe(p, ret_info, info_size);
}

BERTH_EXPORT int berth_persist(const char *name, size_t size, void **ret_p, unsigned *ret_state)
{
    return persist(name, size, ret_p, ret_state);
}

BERTH_EXPORT int berth_persist_replace(const char *name, size_t size, void **ret_p)
{
    return persist_replace(name, size, ret_p);
}

BERTH_EXPORT int berth_persist_find(const char *name, void **ret_p, size_t *ret_size)
{
    return persist_find(name, ret_p, ret_size);
}

BERTH_EXPORT int berth_persist_commit(void *p)
{
    return berth__persistent_commit(p);
}

BERTH_EXPORT int berth_persist_detach(void *p)
{
    return berth__persistent_detach(p);
}

BERTH_EXPORT int berth_persist_remove(const char *name)
{
    return berth__persistent_remove(name);
}
