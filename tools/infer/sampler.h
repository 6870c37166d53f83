/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sampler: picks the next token from logits. Temperature 0 is greedy: the largest
 * logit, the lowest id among equals. Otherwise the logits are divided by the
 * temperature, cut to the top_k largest, then to the smallest set of the most likely
 * whose probabilities reach top_p, and one is drawn. The same seed and logits give
 * the same tokens.
 */
#ifndef BERTH_INFER_SAMPLER_H
#define BERTH_INFER_SAMPLER_H

#include "failure.h"

#include <stddef.h>
#include <stdint.h>

struct berth_sampling {
    double temperature; /* 0: greedy */
    size_t top_k;       /* 0: all */
    double top_p;       /* 1: all */
    uint64_t seed;
};

struct berth_sampler;

int berth__sampler_new(const struct berth_sampling *sampling, size_t vocab,
                       struct berth_failure *failure, struct berth_sampler **ret_sampler);
void berth__sampler_free(struct berth_sampler *sampler);
uint32_t berth__sampler_pick(struct berth_sampler *sampler, const float *logits);

#endif
