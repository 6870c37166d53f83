/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RoPE: rotary position embedding. A head of n numbers is n/2 pairs (i, i + n/2);
 * pair i at position p turns by p * frequency[i]. Scaling changes the frequencies
 * of a model that was trained on shorter contexts.
 */
#ifndef BERTH_INFER_ROPE_H
#define BERTH_INFER_ROPE_H

#include <stddef.h>

enum berth_rope_kind {
    BERTH_ROPE_DEFAULT,
    BERTH_ROPE_LINEAR, /* every frequency divided by `factor` */
    BERTH_ROPE_LLAMA3, /* low frequencies divided, high ones kept, a ramp between */
};

struct berth_rope {
    enum berth_rope_kind kind;
    double theta;
    double factor;
    double low_freq_factor;
    double high_freq_factor;
    double original_context;
};

/* Writes head_dim / 2 frequencies, in radians per position. */
void berth__rope_frequencies(const struct berth_rope *rope, size_t head_dim, float *frequencies);

/* Writes the `half` cosines and sines of one position. */
void berth__rope_angles(const float *frequencies, size_t half, size_t position, float *cosines,
                        float *sines);

/* Turns one head of 2 * half numbers in place. */
void berth__rope_turn(float *head, size_t half, const float *cosines, const float *sines);

#endif
