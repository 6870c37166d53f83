/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/block_slab.h"

#include <string.h>
#include <sys/mman.h>

#define SLAB_CHUNK_SIZE ((size_t)1 << 16) /* 64 KiB */

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

void *berth__slab_take(struct berth_slab *slab, size_t size)
{
    void *object = slab->spare;

    if (object) {
        memcpy(&slab->spare, object, sizeof(slab->spare));
        return object;
    }
    if ((size_t)(slab->fresh_end - slab->fresh) < size) {
        char *chunk = berth__slab_map(SLAB_CHUNK_SIZE);

        if (!chunk)
            return NULL;
        slab->fresh = chunk;
        slab->fresh_end = chunk + SLAB_CHUNK_SIZE;
    }
    object = slab->fresh;
    slab->fresh += size;
    return object;
}

void berth__slab_delete(struct berth_slab *slab, void *object)
{
    memcpy(object, &slab->spare, sizeof(slab->spare));
    slab->spare = object;
}
