/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account by call site: what each site has asked for, and what of it is alive.
 *
 * A site has one cell for each (tier, tag) that its blocks had, so that the account is exact per
 * tag, tier and site; most have one cell for ever. Only blocks whose site is known are counted
 * here: what remains is the difference to the account by tier and tag (alloc/stats.h). A cell stays
 * until the process ends.
 *
 * Blocks that are samples of many (pmem/sample.h) have cells of their own, and are counted in them
 * for as many blocks as each stands for: what these cells say is an estimate. How long such blocks
 * live is the average of the samples: large blocks are among them more often than small ones.
 *
 * Synchronisation: lock-free; counters are relaxed atomics as those of stats.h are: each is exact,
 * and their sums are exact whenever no call is in flight. Memory is alloc/site_store.h's.
 */
#ifndef BERTH_ALLOC_SITE_ACCOUNT_H
#define BERTH_ALLOC_SITE_ACCOUNT_H

#include "alloc/types.h"

#include <stdbool.h>

/* Samples stand for numbers of blocks in this unit. */
#define BERTH_SAMPLE_ONE 256

/* What a block is counted as; it is taken off the account as it was put on it. */
struct berth_site_block {
    berth_site_id site;
    berth_tier_id tier;
    enum berth_tag tag;
    uint64_t requested, held;
    uint64_t sample; /* how many blocks it stands for, times BERTH_SAMPLE_ONE; 0 = for itself */
};

/*
 * A block is handed out. False when it cannot be counted, because its site is not known or there is
 * no memory: the block must then be recorded without a site.
 */
bool berth__site_account_alloc(const struct berth_site_block *block);
/* A block is freed, after it has lived for `lifetime_ns`. */
void berth__site_account_free(const struct berth_site_block *block, uint64_t lifetime_ns);
/* A block was resized in place: what it was, and its new sizes. */
void berth__site_account_resize(const struct berth_site_block *block, uint64_t requested,
                                uint64_t held);
/*
 * A live block gets another tag, or lives in another tier: no allocation and no free. False when
 * there is no memory for a cell: nothing has changed then. Whoever gives a block another tag behind
 * its owner's back does this first, and takes it back where the block turns out to be gone.
 */
bool berth__site_account_move(const struct berth_site_block *block, berth_tier_id tier,
                              enum berth_tag tag);

/* One cell, read counter by counter. */
struct berth_site_reading {
    berth_tier_id tier;
    enum berth_tag tag;
    uint64_t requested, held, blocks; /* alive */
    uint64_t allocs, frees;
    uint64_t lifetime_ns; /* of all that were freed, together */
    uint64_t samples;     /* that the estimate rests on; 0 = it is exact */
};

/* All cells of a site together. */
struct berth_site_total {
    uint64_t requested, held, blocks, allocs, frees, lifetime_ns;
    uint64_t peak_held; /* the most that was alive at once */
};

/*
 * The site's cell at `index`, from 0; false past the last. A cell never changes its index. Any
 * thread; allocates nothing.
 */
bool berth__site_account_cell(berth_site_id site, unsigned index, struct berth_site_reading *ret);
/* False for a site that has no account. */
bool berth__site_account_total(berth_site_id site, struct berth_site_total *ret);

#endif
