/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public API as the preload libraries export it: by name, for programs that look the functions
 * up themselves (a Python script through ctypes), and as a table, for the static archive.
 */
#include "alloc/berth.h"
#include "alloc/describe.h"
#include "alloc/thread.h"

static const struct berth_api api = {
    .size = sizeof(struct berth_api),
    .tag_push = berth__tag_push,
    .tag_pop = berth__tag_pop,
    .step = berth__step,
    .describe = berth__describe,
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

BERTH_EXPORT int berth_active(void)
{
    return 1;
}

BERTH_EXPORT int berth_describe(const void *p, struct berth_block_info *ret_info, size_t info_size)
{
    return berth__describe(p, ret_info, info_size);
}
