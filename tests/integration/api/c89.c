/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the public header serves a strict C89 program. It need only compile, link and run. */
#include "alloc/berth.h"

int main(void)
{
    struct berth_block_info info;

    if (berth_tag_push(BERTH_TAG_WEIGHT) != 0 || berth_tag_pop() != 0 || berth_step() != 0)
        return 1;
    return berth_describe(&info, &info, sizeof(info)) < 0 ? 0 : 1;
}
