/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/site_store.h"

#include "alloc/types.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK_SIZE ((size_t)1 << 18) /* 256 KiB */
/* Pieces above this get a mapping of their own, so that the rest of a chunk is not wasted. */
#define PIECE_MAX (CHUNK_SIZE / 4)
#define PIECE_ALIGN _Alignof(max_align_t)

/* `used` may run past the end when several threads find the chunk full: it is not used again. */
struct chunk {
    _Atomic size_t used;
    _Alignas(max_align_t) unsigned char bytes[];
};

extern BERTH_SHARED _Atomic(struct chunk *) berth__site_store_chunk;
_Atomic(struct chunk *) berth__site_store_chunk;

static void *store_map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void *chunk_take(struct chunk *chunk, size_t size)
{
    size_t room = CHUNK_SIZE - offsetof(struct chunk, bytes);
    size_t at = atomic_fetch_add_explicit(&chunk->used, size, memory_order_relaxed);

    return at <= room && size <= room - at ? chunk->bytes + at : NULL;
}

void *berth__site_store_alloc(size_t size)
{
    struct chunk *chunk = atomic_load_explicit(&berth__site_store_chunk, memory_order_acquire);
    struct chunk *fresh;
    void *piece;

    if (size > PIECE_MAX)
        return store_map(size);
    size = (size + PIECE_ALIGN - 1) & ~(PIECE_ALIGN - 1);
    for (;;) {
        piece = chunk ? chunk_take(chunk, size) : NULL;
        if (piece)
            return piece;
        fresh = store_map(CHUNK_SIZE);
        if (!fresh)
            return NULL;
        if (atomic_compare_exchange_strong_explicit(&berth__site_store_chunk, &chunk, fresh,
                                                    memory_order_acq_rel, memory_order_acquire))
            chunk = fresh;
        else
            munmap(fresh, CHUNK_SIZE);
    }
}

const char *berth__site_store_text(const char *text, size_t length)
{
    char *copy = berth__site_store_alloc(length + 1);

    return copy ? memcpy(copy, text, length) : NULL;
}
