/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Started under a limit of 2 GiB of addresses: nearly all of them must be had, also what Berth had
 * only reserved; 2 GiB at once must be refused.
 */
#include "check.h"

#include <errno.h>

enum { COUNT = 1900 };

int main(void)
{
    static void *blocks[COUNT];

    errno = 0;
    CHECK(check_hide(malloc((size_t)2 << 30)) == NULL && errno == ENOMEM);
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = check_hide(malloc((size_t)1 << 20));
        CHECK(blocks[i]);
        check_fill(blocks[i], 100, (unsigned)i);
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK(check_filled(blocks[i], 100, (unsigned)i));
        free(blocks[i]);
    }
    return 0;
}
