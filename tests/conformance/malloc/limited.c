/* SPDX-License-Identifier: Apache-2.0 */
/* Started under a limit of 2 GiB of addresses: 1 GiB must be had, 2 GiB must be refused. */
#include "check.h"

#include <errno.h>

int main(void)
{
    void *blocks[1024];

    errno = 0;
    CHECK(check_hide(malloc((size_t)2 << 30)) == NULL && errno == ENOMEM);
    for (int i = 0; i < 1024; i++) {
        blocks[i] = check_hide(malloc((size_t)1 << 20));
        CHECK(blocks[i]);
        check_fill(blocks[i], 100, (unsigned)i);
    }
    for (int i = 0; i < 1024; i++) {
        CHECK(check_filled(blocks[i], 100, (unsigned)i));
        free(blocks[i]);
    }
    return 0;
}
