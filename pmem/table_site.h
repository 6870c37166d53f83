/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which of a table's path patterns match a site, found once per site and table.
 *
 * One row per site: bits, of which bit 0 says that they are complete and bit b + 1 that pattern b
 * matches; then slots for pointers, NULL at first, which are the user's.
 * Rows are in chunks of doubling size that are mapped when first needed and unmapped with the
 * table, so that a row never moves and readers need no lock. Two threads that meet a new site both
 * fill its row, with the same bits.
 */
#ifndef BERTH_PMEM_TABLE_SITE_H
#define BERTH_PMEM_TABLE_SITE_H

#include "alloc/types.h"

#include <stdatomic.h>
#include <stdbool.h>

/* Chunk c has 64 << c rows: together they reach every berth_site_id. */
#define BERTH_SITE_CHUNK_SHIFT 6
#define BERTH_SITE_CHUNKS (32 - BERTH_SITE_CHUNK_SHIFT + 1)

struct berth_site_cache {
    const char *const *patterns; /* checked ones */
    uint32_t pattern_count;
    uint32_t bit_words; /* 64-bit words of a row's bits */
    uint32_t row_words; /* of a whole row */
    _Atomic(_Atomic uint64_t *) chunk[BERTH_SITE_CHUNKS];
};

/* `patterns` must live as long as the cache. */
void berth__site_cache_init(struct berth_site_cache *cache, const char *const *patterns,
                            uint32_t pattern_count, uint32_t slot_count);
void berth__site_cache_done(struct berth_site_cache *cache);

/*
 * The row of a site, its bits filled in; NULL when there is no memory for it, in which case
 * berth__site_cache_test() looks at the names each time. Site 0 has a row that no pattern matches.
 */
const _Atomic uint64_t *berth__site_cache_row(struct berth_site_cache *cache, berth_site_id site);

/* Whether the pattern matches the site whose row was got. */
bool berth__site_cache_test(const struct berth_site_cache *cache, const _Atomic uint64_t *row,
                            berth_site_id site, uint32_t pattern);

/* A slot of the row, which is not NULL. */
_Atomic(const void *) *berth__site_cache_slot(const struct berth_site_cache *cache,
                                              const _Atomic uint64_t *row, uint32_t slot);

#endif
