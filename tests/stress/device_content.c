/* SPDX-License-Identifier: Apache-2.0 */
#include "device_content.h"

#include <stdbool.h>
#include <string.h>

#define CHECKS 48 /* under way at once; each has a piece of pinned memory */

/* One check: filled by a copy in the stream, looked at by a host function behind it. */
struct check {
    atomic_bool is_busy;
    unsigned char *copy;
    size_t size;
    unsigned char fill;
};

uint64_t content_seed;
atomic_ullong content_wrong, content_checked;

static struct check checks[CHECKS];

uint64_t content_draw(uint64_t *state, uint64_t below)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (*state >> 11) % below;
}

void content_begin(size_t size_most)
{
    for (unsigned i = 0; i < CHECKS; i++)
        CALL(cuMemAllocHost_v2((void **)&checks[i].copy, size_most));
}

void content_end(void)
{
    for (unsigned i = 0; i < CHECKS; i++)
        CALL(cuMemFreeHost(checks[i].copy));
}

/* Runs in the stream: no call of the driver is allowed here. */
static void look(void *argument)
{
    struct check *check = argument;
    const unsigned char *copy = check->copy;

    /* As a range, since under TSan each byte by itself was two thirds of a run; counted if wrong.
     */
    if (check->size > 0 && (copy[0] != check->fill || memcmp(copy, copy + 1, check->size - 1) != 0))
        for (size_t i = 0; i < check->size; i++)
            if (copy[i] != check->fill)
                atomic_fetch_add(&content_wrong, 1);
    atomic_fetch_add(&content_checked, 1);
    atomic_store(&check->is_busy, false);
}

static struct check *check_take(void)
{
    for (unsigned i = 0;; i = (i + 1) % CHECKS) {
        bool is_busy = false;

        if (atomic_compare_exchange_strong(&checks[i].is_busy, &is_busy, true))
            return &checks[i];
    }
}

void content_check(CUdeviceptr address, size_t size, unsigned char fill, CUstream stream)
{
    struct check *check = check_take();

    check->size = size;
    check->fill = fill;
    CALL(cuMemcpyDtoHAsync_v2(check->copy, address, size, stream));
    CALL(cuLaunchHostFunc(stream, look, check));
}

int content_report(unsigned long long refused)
{
    printf("seed %llu: %llu blocks checked, %llu refused, %llu bytes wrong\n",
           (unsigned long long)content_seed, (unsigned long long)content_checked, refused,
           (unsigned long long)content_wrong);
    return content_wrong == 0 ? 0 : 1;
}
