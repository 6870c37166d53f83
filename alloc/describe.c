/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/describe.h"

#include "alloc/classifier.h"
#include "alloc/thread.h"

#include <errno.h>
#include <string.h>

int (*berth__describe_host)(const void *p, struct berth_block_info *ret);
int (*berth__describe_device)(const void *p, struct berth_block_info *ret);

int (*berth__detail_host)(const void *p, struct berth_block_detail *ret);
int (*berth__detail_device)(const void *p, struct berth_block_detail *ret);

/* The structure as version 0.1 of the API has it: a program cannot know of a smaller one. */
#define INFO_SIZE_LEAST (offsetof(struct berth_block_info, rule) + sizeof(const char *))

static int ask(int (*side)(const void *, struct berth_block_info *), const void *p,
               struct berth_block_info *ret)
{
    return side ? side(p, ret) : -ENOENT;
}

int berth__describe(const void *p, struct berth_block_info *ret_info, size_t info_size)
{
    struct berth_block_info info;
    size_t known = info_size < sizeof(info) ? info_size : sizeof(info);
    int saved_errno = errno;
    int r;

    if (info_size < INFO_SIZE_LEAST)
        return -EINVAL;
    memset(&info, 0, sizeof(info));
    berth__thread.inside++;
    berth__classifier_refresh();
    r = ask(berth__describe_host, p, &info);
    if (r < 0)
        r = ask(berth__describe_device, p, &info);
    berth__thread.inside--;
    errno = saved_errno;
    if (r < 0)
        return -ENOENT;
    /* What a newer program has beyond this version is zero: nothing is known of it. */
    memset((char *)ret_info + known, 0, info_size - known);
    memcpy(ret_info, &info, known);
    return 0;
}
