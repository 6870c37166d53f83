/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A packing: where in one range of addresses buffers lie whose lifetimes are known beforehand.
 *
 * Buffers that live at the same time must not overlap. The highest end of any of them is the peak;
 * the most bytes that live at once, max-live, is a bound that no packing is below. The problem is
 * NP-hard. What is done, in this order and until the limits are reached or the peak is max-live:
 *
 *  - one pass in order of time, as an online allocator would place (packing_sweep.c), O(n log n)
 *    but for the blocks that live at once;
 *  - first fit in several published orders: by size, lifetime, area, contention (packing_fit.c);
 *  - passes away from a cut: what lives in the fullest section is stacked without a gap, in several
 *    orders, and what lives after it and before it is placed by passes forth and back in time, for
 *    instance beside what dies at the same time (packing_cut.c), O(n log n) each as above;
 *  - a randomised depth-first search with restarts over packings in which no buffer can be lowered,
 *    which tries a capacity, and a lower one when it succeeded (packing_search.c). Pruning by
 *    sections and splitting at cuts follow Moffitt, "MiniMalloc: A Lightweight Memory Allocator for
 *    Hardware-Accelerated Machine Learning" (2023); weighting what made earlier attempts fail
 *    follows Boussemart et al., "Boosting Systematic Search by Weighting Constraints" (2004);
 *  - for problems that are too large for it, a local search within a capacity, and a lower one when
 *    it succeeded: what does not fit takes the place of what is easier to place elsewhere
 *    (packing_eject.c).
 *
 * First fit and the searches need the pairs that live at the same time, and are left out where
 * these are too many: memory stays below 1 GiB whatever the problem. The rest of the effort goes to
 * cuts at other full sections then.
 *
 * Offsets are sums and differences of sizes: where all sizes are multiples of an alignment, so are
 * they.
 */
#ifndef BERTH_TOOLS_PACKING_H
#define BERTH_TOOLS_PACKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Limits of one problem, for clear errors. */
#define BERTH_PACKING_BUFFERS_MAX ((size_t)1 << 26)

struct berth_packing_buffer {
    uint32_t lower, upper; /* lives from `lower` on, until before `upper`, which is larger */
    uint64_t size;         /* not 0 */
};

/* Whichever comes first. */
struct berth_packing_limits {
    /*
     * How much is looked at: each takes about a nanosecond. As long as this ends the search and not
     * the time, the same problem and seed have the same packing, however busy the machine is.
     */
    uint64_t effort; /* UINT64_MAX: any */
    /* Kept to within one pass: processor time, and at most three times as much by the clock. */
    double seconds;
    uint64_t seed;
};

struct berth_packing_result {
    uint64_t max_live, peak;
    const char *method; /* that found the peak: "sweep", "first fit", "cut", "ejection", "search" */
};

/*
 * Fills `offsets`, one per buffer. 0; -EINVAL for a lifetime or a size that is empty; -EOVERFLOW
 * where sizes add up to 2^63 or more; -E2BIG; -ENOMEM. Nothing is changed unless 0 is returned.
 */
int berth__packing_solve(const struct berth_packing_buffer *buffers, size_t count,
                         const struct berth_packing_limits *limits, uint64_t *offsets,
                         struct berth_packing_result *ret);

/*
 * Whether no two buffers that live at once overlap: 0 and the peak, or -EBADMSG and the two, by
 * index, in `pair`; -ENOMEM. Knows nothing of how the offsets were found.
 */
int berth__packing_check(const struct berth_packing_buffer *buffers, size_t count,
                         const uint64_t *offsets, uint64_t *ret_peak, size_t pair[2]);

#endif
