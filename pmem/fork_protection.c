/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/fork_protection.h"

#include "alloc/log.h"
#include "alloc/sandbox.h"
#include "pmem/gate.h"
#include "pmem/mapping.h"
#include "pmem/window.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define USUAL (BERTH_MAPPING_READABLE | BERTH_MAPPING_WRITABLE | BERTH_MAPPING_SHARED)

struct berth_fork_range {
    uintptr_t start, end;
    int protection;
};

/* Not by malloc(), whose locks are held. */
static int grow(struct berth_fork_protection *protection)
{
    size_t size = protection->capacity * sizeof(*protection->range);
    size_t larger = size ? 2 * size : BERTH_OS_PAGE;
    void *p = size ? mremap(protection->range, size, larger, MREMAP_MAYMOVE)
                   : mmap(NULL, larger, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return -errno;
    protection->range = p;
    protection->capacity = larger / sizeof(*protection->range);
    return 0;
}

static int note(void *context, const struct berth_mapping *mapping)
{
    struct berth_fork_protection *protection = context;

    if (mapping->flags == USUAL)
        return 0;
    if (protection->count == protection->capacity) {
        int r = grow(protection);

        if (r < 0)
            return r;
    }
    protection->range[protection->count++] = (struct berth_fork_range){
        .start = mapping->start,
        .end = mapping->end,
        .protection = (mapping->flags & BERTH_MAPPING_READABLE ? PROT_READ : 0) |
                      (mapping->flags & BERTH_MAPPING_WRITABLE ? PROT_WRITE : 0) |
                      (mapping->flags & BERTH_MAPPING_EXECUTABLE ? PROT_EXEC : 0),
    };
    return 0;
}

void berth__fork_protection_take(struct berth_fork_protection *ret)
{
    uintptr_t base = atomic_load(&berth__plain.window_base);
    size_t size = atomic_load(&berth__plain.window_size);

    *ret = (struct berth_fork_protection){.count = 0};
    if (size > 0 && !berth__sandbox_is_on())
        berth__mapping_each(base, base + size, BERTH_MAPPING_SHARED, note, ret);
}

void berth__fork_protection_set(struct berth_fork_protection *protection)
{
    for (size_t i = 0; i < protection->count; i++) {
        const struct berth_fork_range *range = &protection->range[i];

        if (mprotect((void *)range->start, range->end - range->start, range->protection) < 0)
            berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_FORK,
                       "a child's copy of %zu bytes is not protected as they are in its parent: %s",
                       (size_t)(range->end - range->start), strerrordesc_np(errno));
    }
    if (protection->range)
        munmap(protection->range, protection->capacity * sizeof(*protection->range));
    *protection = (struct berth_fork_protection){.count = 0};
}
