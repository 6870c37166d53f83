/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The model: the weights of a Llama decoder, as loaded from a Hugging Face folder.
 * Immutable after load; every tensor is an allocation of its own, or all lie in one weight image.
 */
#ifndef BERTH_INFER_MODEL_H
#define BERTH_INFER_MODEL_H

#include "checkpoint.h"
#include "config.h"
#include "failure.h"
#include "weight_image.h"

#include <stddef.h>
#include <stdint.h>

/* A product's weights; bias.data is NULL where the model has none. */
struct berth_linear {
    struct berth_tensor weight; /* rows = outputs, cols = inputs */
    struct berth_tensor bias;
};

struct berth_layer {
    struct berth_tensor attention_norm;
    struct berth_linear q, k, v, o;
    struct berth_tensor mlp_norm;
    struct berth_linear gate, up, down;
};

struct berth_model {
    struct berth_config config;
    struct berth_tensor embedding;
    struct berth_layer *layers;
    struct berth_tensor norm;
    struct berth_linear head;         /* its weight is the embedding's memory when tied */
    float *rope_frequencies;          /* head_dim / 2 of them */
    struct berth_weight_image *image; /* what the tensors lie in; NULL: in memory of their own */
    bool found;                       /* the image was there already, and no weight file was read */
};

int berth__model_load(const struct berth_weight_source *source, struct berth_failure *failure,
                      struct berth_model **ret_model);
void berth__model_free(struct berth_model *model);

/* What one decoded token reads of the weights: all but the embedding's other rows. */
uint64_t berth__model_bytes_per_token(const struct berth_model *model);

#endif
