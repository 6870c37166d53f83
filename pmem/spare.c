/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/spare.h"

#include "alloc/types.h"
#include "pmem/jemalloc.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

/* What jemalloc wants an arena's metadata to be a multiple of; otherwise it maps anew. */
#define SPARE_ALIGNMENT ((size_t)2 << 20)
/* An arena, the first extent of arena 0 for the cache, and their metadata. */
#define SPARE_SIZE (2 * SPARE_ALIGNMENT)

/* What is left of a spare: large pieces are cut from its start, others from its end. */
struct spare {
    char *start;
    size_t size; /* 0: there is none */
};

static _Atomic(char *) kept;
static atomic_bool has_begun;
static __thread struct spare spare;

/* jemalloc's own (embed_jemalloc.sh): with `minimal`, for a thread that need not have a cache. */
BERTH_HIDDEN void *berth_je_tsd_fetch_slow(void *tsd, bool minimal);
BERTH_HIDDEN void *berth_je_arena_choose_hard(void *tsd, bool internal);
/* The first of the table. */
extern _Atomic(void *) berth_je_arenas __attribute__((weak, visibility("hidden")));
/* What jemalloc calls by those names. */
BERTH_HIDDEN void *berth_je_tsd_fetch(void *tsd, bool minimal);
BERTH_HIDDEN void *berth_je_arena_choose(void *tsd, bool internal);

static char *map_spare(void)
{
    size_t size = SPARE_SIZE + SPARE_ALIGNMENT;
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    size_t before;

    if (p == MAP_FAILED)
        return NULL;
    before = -(uintptr_t)p % SPARE_ALIGNMENT;
    if (before > 0)
        munmap(p, before);
    if (before < SPARE_ALIGNMENT)
        munmap(p + before + SPARE_SIZE, SPARE_ALIGNMENT - before);
    return p + before;
}

static bool take(void)
{
    char *p = atomic_exchange_explicit(&kept, NULL, memory_order_acquire);

    if (!p)
        p = map_spare();
    spare = (struct spare){p, p ? SPARE_SIZE : 0};
    return p != NULL;
}

static void give_back(void)
{
    char *none = NULL;

    if (spare.size == SPARE_SIZE &&
        atomic_compare_exchange_strong_explicit(&kept, &none, spare.start, memory_order_release,
                                                memory_order_relaxed))
        spare.size = 0;
    if (spare.size > 0)
        munmap(spare.start, spare.size);
    spare.size = 0;
}

void *berth__spare_cut(size_t size)
{
    char *p;

    if (size > spare.size)
        return NULL;
    spare.size -= size;
    if (size % SPARE_ALIGNMENT != 0)
        return spare.start + spare.size;
    p = spare.start;
    spare.start += size;
    return p;
}

bool berth__spare_is_better(const void *p, size_t size)
{
    return size <= spare.size && size % SPARE_ALIGNMENT == 0 && (uintptr_t)p % SPARE_ALIGNMENT != 0;
}

/*
 * A spare may be too little: the first arena's metadata grows in ever larger steps. A thread whose
 * arena cannot be made uses the first one until it next needs one of its own.
 */
void *berth_je_arena_choose(void *tsd, bool internal)
{
    void *arena = berth_je_arena_choose_hard(tsd, internal);

    if (!arena && &berth_je_arenas)
        arena = atomic_load_explicit(&berth_je_arenas, memory_order_acquire);
    return arena;
}

void *berth_je_tsd_fetch(void *tsd, bool minimal)
{
    int saved_errno = errno;
    bool has_spare;

    /* The first of all is jemalloc's own start, and freeing takes nothing. */
    if (minimal || !atomic_exchange_explicit(&has_begun, true, memory_order_relaxed))
        return berth_je_tsd_fetch_slow(tsd, minimal);
    has_spare = take();
    tsd = berth_je_tsd_fetch_slow(tsd, !has_spare);
    if (has_spare)
        give_back();
    errno = saved_errno;
    return tsd;
}
