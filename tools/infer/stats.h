/* SPDX-License-Identifier: Apache-2.0 */
/* The statistics of a run: what --stats prints. Used by the main thread. */
#ifndef BERTH_INFER_STATS_H
#define BERTH_INFER_STATS_H

#include "series.h"

#include <stdint.h>
#include <stdio.h>

struct berth_infer_stats {
    uint64_t load_ns;
    uint64_t weights_ns;    /* of load_ns, until the weights were there */
    const char *weights_in; /* "found" or "kept" in persistent memory; NULL: neither */
    uint64_t weight_bytes;
    uint64_t kv_bytes;         /* the most that one prompt held */
    uint64_t activation_bytes; /* the same */
    uint64_t prefill_tokens;
    uint64_t prefill_ns;
    struct berth_series decode_ns; /* of each step */
    uint64_t read_bytes;           /* weights, keys and values that the decode steps read */
    double bandwidth;              /* of the probe, bytes per second; 0 where it did not run */
};

void berth__infer_stats_print(struct berth_infer_stats *stats, const char *isa, size_t threads,
                              FILE *file);
void berth__infer_stats_done(struct berth_infer_stats *stats);

#endif
