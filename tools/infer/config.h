/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The config: the shape of a Llama model, as config.json and
 * generation_config.json of a Hugging Face folder describe it. Immutable after load.
 */
#ifndef BERTH_INFER_CONFIG_H
#define BERTH_INFER_CONFIG_H

#include "failure.h"
#include "rope.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* More end tokens than any published model names; a longer list is refused. */
#define BERTH_CONFIG_EOS_MAX 64

#define BERTH_TOKEN_NONE UINT32_MAX

struct berth_config {
    size_t hidden;
    size_t intermediate;
    size_t layer_count;
    size_t head_count;
    size_t kv_head_count;
    size_t head_dim;
    size_t vocab;
    size_t context_max;
    double rms_eps;
    bool tied;
    bool attention_bias;
    bool mlp_bias;
    struct berth_rope rope;
    uint32_t bos; /* BERTH_TOKEN_NONE where the files name none */
    uint32_t eos[BERTH_CONFIG_EOS_MAX];
    size_t eos_count;
};

/* Reads `dir`/config.json, then `dir`/generation_config.json where it exists. */
int berth__config_load(const char *dir, struct berth_failure *failure,
                       struct berth_config *ret_config);

bool berth__config_is_eos(const struct berth_config *config, uint32_t token);

#endif
