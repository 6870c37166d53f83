/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <inttypes.h>
#include <string.h>

static double per_second(double amount, uint64_t ns)
{
    return ns > 0 ? amount * 1e9 / (double)ns : 0;
}

/* One `name: value` per line, so that both people and scripts can read it. */
void berth__infer_stats_print(struct berth_infer_stats *stats, const char *isa, size_t threads,
                              FILE *file)
{
    uint64_t steps = stats->decode_ns.count, median_ns = berth__series_median(&stats->decode_ns);
    double bytes_per_token = steps > 0 ? (double)stats->read_bytes / (double)steps : 0;
    double decode_bandwidth = per_second(bytes_per_token, median_ns);

    fprintf(file, "instruction set: %s\n", isa);
    fprintf(file, "threads: %zu\n", threads);
    fprintf(file, "load: %.3f s\n", (double)stats->load_ns / 1e9);
    fprintf(file, "weights: %.6f s, %s\n", (double)stats->weights_ns / 1e9,
            !stats->weights_in                       ? "read from files"
            : strcmp(stats->weights_in, "kept") == 0 ? "read from files, and kept"
                                                     : "found in persistent memory");
    fprintf(file, "weight bytes: %" PRIu64 "\n", stats->weight_bytes);
    fprintf(file, "kv bytes: %" PRIu64 "\n", stats->kv_bytes);
    fprintf(file, "activation bytes: %" PRIu64 "\n", stats->activation_bytes);
    fprintf(file, "prefill: %" PRIu64 " tokens, %.2f tokens/s\n", stats->prefill_tokens,
            per_second((double)stats->prefill_tokens, stats->prefill_ns));
    fprintf(file, "decode: %" PRIu64 " tokens, %.2f tokens/s\n", steps,
            per_second((double)steps, stats->decode_ns.sum));
    fprintf(file, "decode, median step: %.3f ms, %.2f tokens/s\n", (double)median_ns / 1e6,
            per_second(1, median_ns));
    fprintf(file, "bytes read per token: %.0f\n", bytes_per_token);
    fprintf(file, "decode reads: %.2f GB/s\n", decode_bandwidth / 1e9);
    if (stats->bandwidth > 0) {
        fprintf(file, "machine reads: %.2f GB/s\n", stats->bandwidth / 1e9);
        fprintf(file, "fraction of the machine: %.3f\n", decode_bandwidth / stats->bandwidth);
    }
}

void berth__infer_stats_done(struct berth_infer_stats *stats)
{
    berth__series_done(&stats->decode_ns);
}
