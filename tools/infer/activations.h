/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The activations: every intermediate result of one batch of tokens, in one
 * allocation tagged `activation`. Belongs to one session.
 */
#ifndef BERTH_INFER_ACTIVATIONS_H
#define BERTH_INFER_ACTIVATIONS_H

#include "config.h"
#include "failure.h"

#include <stddef.h>

/* Tokens of a prompt that are computed together: enough to reuse each weight many times. */
#define BERTH_BATCH_TOKENS_MAX 128

struct berth_activations {
    void *memory;
    size_t size_bytes;
    size_t tokens;   /* room for this many */
    float *stream;   /* [token][hidden]: the residual stream */
    float *normed;   /* [token][hidden] */
    float *queries;  /* [token][head][number] */
    float *keys;     /* [token][kv head][number] */
    float *values;   /* the same */
    float *attended; /* like queries */
    float *gate;     /* [token][intermediate] */
    float *up;       /* the same */
    float *cosines;  /* [token][head_dim / 2] */
    float *sines;    /* the same */
    float *logits;   /* [vocab], of one token */
};

int berth__activations_init(struct berth_activations *activations,
                            const struct berth_config *config, struct berth_failure *failure);
void berth__activations_done(struct berth_activations *activations);

#endif
