/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/spare.h"

#include "alloc/types.h"
#include "pmem/fork_lock.h"
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
static __thread struct spare spare;

/*
 * A block of jemalloc's for a thread's cache. It is had before the thread begins, as jemalloc
 * takes no notice where it comes to none.
 */
static _Atomic(void *) kept_cache;
static _Atomic size_t cache_size, cache_alignment; /* as jemalloc asked first; 0: not yet */
static __thread struct {
    void *block;
    bool has_one;  /* it needs no other */
    bool is_freed; /* by a call that comes here, too */
} cache;

/* jemalloc's own (embed_jemalloc.sh): with `minimal`, for a thread that need not have a cache. */
BERTH_HIDDEN void *berth_je_tsd_fetch_slow(void *tsd, bool minimal);
BERTH_HIDDEN void *berth_je_arena_choose_hard(void *tsd, bool internal);
/* The first of the table. */
extern _Atomic(void *) berth_je_arenas __attribute__((weak, visibility("hidden")));
BERTH_HIDDEN __attribute__((weak)) void *berth_je_arena_palloc(void *tsd, void *arena, size_t size,
                                                               size_t alignment, bool zero,
                                                               void *tcache);
/* What jemalloc calls by those names. */
BERTH_HIDDEN void *berth_je_tsd_fetch(void *tsd, bool minimal);
BERTH_HIDDEN void *berth_je_arena_choose(void *tsd, bool internal);
BERTH_HIDDEN void *berth_je_cache_palloc(void *tsd, void *arena, size_t size, size_t alignment,
                                         bool zero, void *tcache);

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

/* What is asked for caches is of one size, from the first arena, and all zero. */
void *berth_je_cache_palloc(void *tsd, void *arena, size_t size, size_t alignment, bool zero,
                            void *tcache)
{
    void *block = cache.block;

    atomic_store_explicit(&cache_alignment, alignment, memory_order_relaxed);
    atomic_store_explicit(&cache_size, size, memory_order_release);
    if (!block)
        return berth_je_arena_palloc(tsd, arena, size, alignment, zero, tcache);
    cache.block = NULL;
    cache.has_one = true;
    return block;
}

/* Whether this thread can have a cache. */
static bool prepare_cache(void)
{
    size_t size = atomic_load_explicit(&cache_size, memory_order_acquire);

    if (size == 0 || cache.has_one || cache.is_freed)
        return true;
    cache.block = atomic_exchange_explicit(&kept_cache, NULL, memory_order_acquire);
    if (!cache.block)
        cache.block = berth_je_arena_palloc(
            NULL, atomic_load_explicit(&berth_je_arenas, memory_order_acquire), size,
            atomic_load_explicit(&cache_alignment, memory_order_relaxed), true, NULL);
    return cache.block != NULL;
}

static void give_cache_back(void)
{
    void *block = cache.block, *none = NULL;

    cache.block = NULL;
    if (!block || atomic_compare_exchange_strong_explicit(
                      &kept_cache, &none, block, memory_order_release, memory_order_relaxed))
        return;
    cache.is_freed = true;
    berth_je_dallocx(block, 0);
    cache.is_freed = false;
}

void *berth_je_tsd_fetch(void *tsd, bool minimal)
{
    int saved_errno = errno;
    bool was_patient, is_ready;

    /* Freeing takes nothing. jemalloc's own start, which could not do without, does not come here.
     */
    if (minimal)
        return berth_je_tsd_fetch_slow(tsd, minimal);
    was_patient = berth__fork_lock_be_patient(true);
    is_ready = take() && prepare_cache();
    tsd = berth_je_tsd_fetch_slow(tsd, !is_ready);
    give_back();
    give_cache_back();
    berth__fork_lock_be_patient(was_patient);
    errno = saved_errno;
    return tsd;
}
