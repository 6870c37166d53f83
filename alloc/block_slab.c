/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/block_slab.h"

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define SLAB_CHUNK_SIZE ((size_t)1 << 16) /* 64 KiB */
#define SLAB_RUN_SIZE ((size_t)1 << 12)   /* an OS page; the size of an object is less */

static void *map_pages(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return pages == MAP_FAILED ? NULL : pages;
}

void *(*berth__slab_map)(size_t size) = map_pages;

void berth__slab_unmap(void *pages, size_t size)
{
    if (pages)
        munmap(pages, size);
}

void *berth__slab_new(struct berth_slab *slab, size_t size)
{
    void *object = berth__slab_take(slab, size);

    if (object)
        memset(object, 0, size);
    return object;
}

/* Whether there is room in [*fresh, *end) for `size` bytes more, in another chunk if need be. */
static bool refill(char **fresh, char **end, size_t size)
{
    char *chunk;

    if ((size_t)(*end - *fresh) >= size)
        return true;
    chunk = berth__slab_map(SLAB_CHUNK_SIZE);
    if (!chunk)
        return false;
    *fresh = chunk;
    *end = chunk + SLAB_CHUNK_SIZE;
    return true;
}

void *berth__slab_take(struct berth_slab *slab, size_t size)
{
    void *object = slab->spare;

    if (object) {
        memcpy(&slab->spare, object, sizeof(slab->spare));
        return object;
    }
    if (!refill(&slab->fresh, &slab->fresh_end, size))
        return NULL;
    object = slab->fresh;
    slab->fresh += size;
    return object;
}

void *berth__slab_take_near(struct berth_slab *slab, struct berth_slab_run *run, size_t size)
{
    void *object;

    if (run->next == run->end) {
        if (slab->spare)
            return berth__slab_take(slab, size);
        if (!refill(&slab->pages, &slab->pages_end, SLAB_RUN_SIZE))
            return NULL;
        run->next = slab->pages;
        run->end = slab->pages + SLAB_RUN_SIZE / size * size;
        slab->pages += SLAB_RUN_SIZE;
    }
    object = run->next;
    run->next += size;
    return object;
}

void berth__slab_delete(struct berth_slab *slab, void *object)
{
    memcpy(object, &slab->spare, sizeof(slab->spare));
    slab->spare = object;
}
