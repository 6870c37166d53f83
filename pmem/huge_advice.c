/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/huge_advice.h"

#include "pmem/sysfs.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

void berth__huge_advise(void *address, size_t size)
{
    uintptr_t first = ((uintptr_t)address + BERTH_HUGE_PAGE - 1) & ~(BERTH_HUGE_PAGE - 1);
    uintptr_t end = ((uintptr_t)address + size) & ~(BERTH_HUGE_PAGE - 1);
    int saved_errno = errno;

    if (first < end)
        madvise((void *)first, end - first, MADV_HUGEPAGE);
    errno = saved_errno;
}

/* The choice in force is the one in brackets. */
static const char *state_of(const char *path, const char *off, const char *const *none)
{
    char text[128];

    if (berth__sysfs_text(path, text, sizeof(text)) < 0)
        return "huge pages are asked for, but this kernel has no transparent ones";
    for (; *none; none++)
        if (strstr(text, *none))
            return off;
    return "transparent huge pages";
}

const char *berth__huge_advice_text(void)
{
    static const char *const none[] = {"[never]", NULL};

    return state_of("kernel/mm/transparent_hugepage/enabled",
                    "huge pages are asked for, but the system has turned them off "
                    "(/sys/kernel/mm/transparent_hugepage/enabled)",
                    none);
}

const char *berth__huge_advice_shared_text(void)
{
    static const char *const none[] = {"[never]", "[deny]", NULL};

    return state_of("kernel/mm/transparent_hugepage/shmem_enabled",
                    "huge pages are asked for, but the system has turned them off for tmpfs "
                    "(/sys/kernel/mm/transparent_hugepage/shmem_enabled), unless it is mounted "
                    "with them",
                    none);
}
