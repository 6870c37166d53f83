/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Started under a limit of addresses of at most 2 GiB: nearly all of them must be had, also what
 * Berth had only reserved; as much as the limit at once must be refused.
 */
#include "check.h"

#include <errno.h>
#include <sys/resource.h>

/* MiB: the most blocks there are, and what of the limit is left to libraries and metadata. */
enum { COUNT_MAX = 2048, REST = 148 };

int main(void)
{
    static void *blocks[COUNT_MAX];
    struct rlimit limit;
    int count;

    CHECK(getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur >> 20 <= COUNT_MAX);
    count = (int)(limit.rlim_cur >> 20) - REST;
    CHECK(count > 0);
    errno = 0;
    CHECK(check_hide(malloc(limit.rlim_cur)) == NULL && errno == ENOMEM);
    for (int i = 0; i < count; i++) {
        blocks[i] = check_hide(malloc((size_t)1 << 20));
        CHECK(blocks[i]);
        check_fill(blocks[i], 100, (unsigned)i);
    }
    for (int i = 0; i < count; i++) {
        CHECK(check_filled(blocks[i], 100, (unsigned)i));
        free(blocks[i]);
    }
    /* What one size has given back, a larger one can have. */
    for (size_t size = (size_t)1 << 20; size >> 20 < (size_t)count * 3 / 4; size += size / 8) {
        blocks[0] = check_hide(malloc(size));
        CHECK(blocks[0]);
        check_fill(blocks[0], 100, 1);
        free(blocks[0]);
    }
    return 0;
}
