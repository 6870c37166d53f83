/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/memory_room.h"

#include "alloc/clock.h"
#include "pmem/memory_limit.h"
#include "pmem/sysfs.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>

/*
 * What stays free: 16 MiB of each limit, and 1/64 of the machine's memory up to 1 GiB, for the
 * kernel's own watermarks and for those who take memory at the same moment.
 */
#define MARGIN ((uint64_t)16 << 20)
#define MARGIN_SHARE_SHIFT 6
#define MARGIN_SHARE_MAX ((uint64_t)1 << 30)

/*
 * To read all this costs some 50 us. After each reading, an eighth of what is left may be taken
 * within 50 ms without another.
 */
#define CREDIT_SHARE_SHIFT 3
#define CREDIT_MS 50

/* "MemTotal", "MemFree" and "MemAvailable" are the first three lines. */
#define MEMINFO_MAX 256

/*
 * Any thread takes off the credit, below 0 too, which then grants nothing. Two readings at once, or
 * one between a look at the end and the subtraction, grant two credits at most.
 */
static _Atomic int64_t credit, credit_end_ms;

/* "NAME:   123 kB" in bytes; UINT64_MAX where there is no such line. */
static uint64_t find_line(const char *text, const char *name)
{
    const char *at = strstr(text, name);

    return at ? (uint64_t)strtoull(at + strlen(name), NULL, 10) << 10 : UINT64_MAX;
}

static uint64_t less(uint64_t from, uint64_t what)
{
    return from > what ? from - what : 0;
}

/* What the machine has left; UINT64_MAX where it does not tell. */
static uint64_t machine_left(void)
{
    char text[MEMINFO_MAX];
    uint64_t total, available, margin;

    if (berth__sysfs_text("../proc/meminfo", text, sizeof(text)) < 0)
        return UINT64_MAX;
    total = find_line(text, "MemTotal:");
    available = find_line(text, "MemAvailable:");
    if (total == UINT64_MAX || available == UINT64_MAX)
        return UINT64_MAX;
    margin = total >> MARGIN_SHARE_SHIFT;
    return less(available, MARGIN + (margin < MARGIN_SHARE_MAX ? margin : MARGIN_SHARE_MAX));
}

static uint64_t groups_left(void)
{
    uint64_t left = berth__memory_limit_left();

    return left == UINT64_MAX ? left : less(left, MARGIN);
}

bool berth__memory_room_for(uint64_t size)
{
    uint64_t machine, groups, left;

    if (size <= INT64_MAX && berth__clock_tick_ms() < atomic_load(&credit_end_ms) &&
        atomic_fetch_sub(&credit, (int64_t)size) >= (int64_t)size)
        return true;
    machine = machine_left();
    groups = groups_left();
    left = machine < groups ? machine : groups;
    if (left < size || left == UINT64_MAX) {
        atomic_store(&credit_end_ms, 0);
        return left >= size;
    }
    atomic_store(&credit, (int64_t)((left - size) >> CREDIT_SHARE_SHIFT));
    atomic_store(&credit_end_ms, berth__clock_tick_ms() + CREDIT_MS);
    return true;
}

bool berth__memory_room_is_asked(int fd)
{
    int saved_errno = errno;
    struct statfs fs;
    bool asked;

    asked = fstatfs(fd, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
    errno = saved_errno;
    return asked;
}
