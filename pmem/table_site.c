/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/table_site.h"

#include "alloc/site_pattern.h"

#include <sys/mman.h>

#define ROW_COMPLETE UINT64_C(1)

void berth__site_cache_init(struct berth_site_cache *cache, const char *const *patterns,
                            uint32_t pattern_count, uint32_t slot_count)
{
    cache->patterns = patterns;
    cache->pattern_count = pattern_count;
    cache->bit_words = pattern_count / 64 + 1;
    cache->row_words = cache->bit_words + slot_count;
    for (unsigned i = 0; i < BERTH_SITE_CHUNKS; i++)
        atomic_init(&cache->chunk[i], NULL);
}

static size_t chunk_size(const struct berth_site_cache *cache, unsigned chunk)
{
    return ((size_t)1 << (chunk + BERTH_SITE_CHUNK_SHIFT)) * cache->row_words * sizeof(uint64_t);
}

void berth__site_cache_done(struct berth_site_cache *cache)
{
    for (unsigned i = 0; i < BERTH_SITE_CHUNKS; i++) {
        void *rows = atomic_load_explicit(&cache->chunk[i], memory_order_relaxed);

        if (rows)
            munmap(rows, chunk_size(cache, i));
    }
}

/* The chunk's rows; mapped by whoever needs them first, and unmapped again by whoever lost. */
static _Atomic uint64_t *get_chunk(struct berth_site_cache *cache, unsigned chunk)
{
    _Atomic uint64_t *rows = atomic_load_explicit(&cache->chunk[chunk], memory_order_acquire);
    _Atomic uint64_t *expected = NULL;
    size_t size = chunk_size(cache, chunk);
    void *fresh;

    if (BERTH_LIKELY(rows != NULL))
        return rows;
    fresh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
    if (fresh == MAP_FAILED)
        return NULL;
    if (atomic_compare_exchange_strong(&cache->chunk[chunk], &expected, fresh))
        return fresh;
    munmap(fresh, size);
    return expected;
}

static void fill_row(const struct berth_site_cache *cache, _Atomic uint64_t *row,
                     berth_site_id site)
{
    uint64_t first = ROW_COMPLETE;

    /* Word 0 comes last: its lowest bit is what makes the others valid. */
    for (uint32_t word = cache->bit_words; word-- > 0;) {
        uint64_t bits = 0, begin = (uint64_t)word * 64;
        uint64_t end = site == 0 ? 0 : (uint64_t)cache->pattern_count + 1;

        for (uint64_t bit = word == 0; bit < 64 && begin + bit < end; bit++)
            if (berth__site_pattern_match(cache->patterns[begin + bit - 1], site))
                bits |= UINT64_C(1) << bit;
        if (word > 0)
            atomic_store_explicit(&row[word], bits, memory_order_relaxed);
        else
            first |= bits;
    }
    atomic_store_explicit(&row[0], first, memory_order_release);
}

const _Atomic uint64_t *berth__site_cache_row(struct berth_site_cache *cache, berth_site_id site)
{
    uint64_t n = (uint64_t)site + (UINT64_C(1) << BERTH_SITE_CHUNK_SHIFT);
    unsigned top = 63 - (unsigned)__builtin_clzll(n);
    uint64_t index = n - (UINT64_C(1) << top);
    _Atomic uint64_t *row;

    row = get_chunk(cache, top - BERTH_SITE_CHUNK_SHIFT);
    if (!row)
        return NULL;
    row += index * cache->row_words;
    if (!(atomic_load_explicit(&row[0], memory_order_acquire) & ROW_COMPLETE))
        fill_row(cache, row, site);
    return row;
}

bool berth__site_cache_test(const struct berth_site_cache *cache, const _Atomic uint64_t *row,
                            berth_site_id site, uint32_t pattern)
{
    uint64_t bit = (uint64_t)pattern + 1;

    if (!row)
        return site != 0 && berth__site_pattern_match(cache->patterns[pattern], site);
    return (atomic_load_explicit(&row[bit / 64], memory_order_relaxed) >> (bit % 64)) & 1;
}

_Static_assert(sizeof(_Atomic(const void *)) <= sizeof(uint64_t), "a slot holds a pointer");

_Atomic(const void *) *berth__site_cache_slot(const struct berth_site_cache *cache,
                                              const _Atomic uint64_t *row, uint32_t slot)
{
    /* Rows are written through: what is constant to readers is their bits. */
    return (void *)(uintptr_t)&row[cache->bit_words + slot];
}
