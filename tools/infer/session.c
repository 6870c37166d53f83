/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include "activations.h"
#include "attention.h"
#include "kv_cache.h"
#include "projection.h"
#include "rope.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct berth_session {
    const struct berth_model *model;
    const struct berth_kernels *kernels;
    struct berth_thread_pool *pool;
    struct berth_kv_cache cache;
    struct berth_activations activations;
    size_t position; /* tokens so far */
};

/* What a job over the tokens of a batch needs. */
struct token_job {
    const struct berth_session *session;
    const struct berth_kv_layer *layer;
    const float *norm;
    const uint32_t *tokens;
};

int berth__session_new(const struct berth_model *model, const struct berth_kernels *kernels,
                       struct berth_thread_pool *pool, size_t positions,
                       struct berth_failure *failure, struct berth_session **ret_session)
{
    struct berth_session *session = calloc(1, sizeof(*session));
    int r;

    if (!session)
        return berth__failure_no_memory(failure, "session", sizeof(*session));
    session->model = model;
    session->kernels = kernels;
    session->pool = pool;
    r = berth__kv_cache_init(&session->cache, &model->config, positions, failure);
    if (r == 0)
        r = berth__activations_init(&session->activations, &model->config, failure);
    if (r < 0) {
        berth__session_free(session);
        return r;
    }
    *ret_session = session;
    return 0;
}

void berth__session_free(struct berth_session *session)
{
    if (!session)
        return;
    berth__kv_cache_done(&session->cache);
    berth__activations_done(&session->activations);
    free(session);
}

/* RMSNorm of one token's stream into `normed`. */
static void token_norm(const struct berth_session *session, size_t token, const float *norm)
{
    size_t hidden = session->model->config.hidden;
    const float *x = session->activations.stream + token * hidden;
    float *y = session->activations.normed + token * hidden;
    float squares, scale;

    session->kernels->matmul[BERTH_DTYPE_F32](&squares, 1, x, 1, hidden, x, hidden, 1);
    scale = 1 / sqrtf(squares / (float)hidden + (float)session->model->config.rms_eps);
    for (size_t i = 0; i < hidden; i++)
        y[i] = x[i] * scale * norm[i];
}

static void tokens_norm(void *arg, size_t begin, size_t end)
{
    const struct token_job *job = arg;

    for (size_t token = begin; token < end; token++)
        token_norm(job->session, token, job->norm);
}

/* Looks up the stream and the angles of each token. */
static void tokens_begin(void *arg, size_t begin, size_t end)
{
    const struct token_job *job = arg;
    const struct berth_model *model = job->session->model;
    const struct berth_activations *act = &job->session->activations;
    size_t hidden = model->config.hidden, half = model->config.head_dim / 2;

    for (size_t token = begin; token < end; token++) {
        berth__dtype_widen(model->embedding.dtype, model->embedding.data,
                           job->tokens[token] * hidden, hidden, act->stream + token * hidden);
        berth__rope_angles(model->rope_frequencies, half, job->session->position + token,
                           act->cosines + token * half, act->sines + token * half);
    }
}

/* Turns queries and keys to their positions and appends keys and values to the cache. */
static void tokens_turn(void *arg, size_t begin, size_t end)
{
    const struct token_job *job = arg;
    const struct berth_config *config = &job->session->model->config;
    const struct berth_activations *act = &job->session->activations;
    const struct berth_kv_cache *cache = &job->session->cache;
    size_t dim = config->head_dim, half = dim / 2;

    for (size_t token = begin; token < end; token++) {
        const float *cosines = act->cosines + token * half, *sines = act->sines + token * half;

        for (size_t head = 0; head < config->head_count; head++)
            berth__rope_turn(act->queries + (token * config->head_count + head) * dim, half,
                             cosines, sines);
        for (size_t head = 0; head < config->kv_head_count; head++) {
            size_t from = (token * config->kv_head_count + head) * dim;
            size_t to = berth__kv_cache_offset(cache, head, job->session->position + token);

            berth__rope_turn(act->keys + from, half, cosines, sines);
            memcpy(job->layer->keys + to, act->keys + from, dim * sizeof(float));
            memcpy(job->layer->values + to, act->values + from, dim * sizeof(float));
        }
    }
}

/* The stream of a batch gains what a block computed. */
static void stream_add(struct berth_session *session, const float *delta, size_t tokens)
{
    size_t count = tokens * session->model->config.hidden;
    float *stream = session->activations.stream;

    for (size_t i = 0; i < count; i++)
        stream[i] += delta[i];
}

static void attention_block(struct berth_session *session, const struct berth_layer *layer,
                            const struct berth_kv_layer *rows, size_t tokens)
{
    struct berth_activations *act = &session->activations;
    struct token_job job = {.session = session, .layer = rows, .norm = layer->attention_norm.data};
    struct berth_projection inputs = {
        .kernels = session->kernels,
        .linears = {&layer->q, &layer->k, &layer->v},
        .outputs = {act->queries, act->keys, act->values},
        .parts = 3,
        .input = act->normed,
        .tokens = tokens,
    };
    struct berth_attention attention = {
        .kernels = session->kernels,
        .cache = &session->cache,
        .layer = rows,
        .queries = act->queries,
        .output = act->attended,
        .head_count = session->model->config.head_count,
        .position = session->position,
    };
    struct berth_projection output = {
        .kernels = session->kernels,
        .linears = {&layer->o},
        .outputs = {act->normed},
        .parts = 1,
        .input = act->attended,
        .tokens = tokens,
    };

    berth__thread_pool_run(session->pool, tokens_norm, &job, tokens, 1);
    berth__projection_run(&inputs, session->pool);
    berth__thread_pool_run(session->pool, tokens_turn, &job, tokens, 1);
    berth__thread_pool_run(session->pool, berth__attention_run, &attention,
                           tokens * berth__attention_pieces(&attention), 1);
    berth__projection_run(&output, session->pool);
    stream_add(session, act->normed, tokens);
}

static void mlp_block(struct berth_session *session, const struct berth_layer *layer, size_t tokens)
{
    struct berth_activations *act = &session->activations;
    struct token_job job = {.session = session, .norm = layer->mlp_norm.data};
    struct berth_projection gated = {
        .kernels = session->kernels,
        .linears = {&layer->gate, &layer->up},
        .outputs = {act->gate, act->up},
        .parts = 2,
        .input = act->normed,
        .tokens = tokens,
    };
    struct berth_projection output = {
        .kernels = session->kernels,
        .linears = {&layer->down},
        .outputs = {act->normed},
        .parts = 1,
        .input = act->gate,
        .tokens = tokens,
    };

    berth__thread_pool_run(session->pool, tokens_norm, &job, tokens, 1);
    berth__projection_run_gated(&gated, session->pool);
    berth__projection_run(&output, session->pool);
    stream_add(session, act->normed, tokens);
}

static void logits_compute(struct berth_session *session, size_t token)
{
    const struct berth_model *model = session->model;
    struct berth_activations *act = &session->activations;
    struct berth_projection head = {
        .kernels = session->kernels,
        .linears = {&model->head},
        .outputs = {act->logits},
        .parts = 1,
        .input = act->normed + token * model->config.hidden,
        .tokens = 1,
    };

    token_norm(session, token, model->norm.data);
    berth__projection_run(&head, session->pool);
}

static void batch_feed(struct berth_session *session, const uint32_t *tokens, size_t count)
{
    struct token_job job = {.session = session, .tokens = tokens};

    berth__thread_pool_run(session->pool, tokens_begin, &job, count, 1);
    for (size_t i = 0; i < session->model->config.layer_count; i++) {
        attention_block(session, &session->model->layers[i], &session->cache.layers[i], count);
        mlp_block(session, &session->model->layers[i], count);
    }
    session->position += count;
}

static int tokens_check(const struct berth_session *session, const uint32_t *tokens, size_t count,
                        struct berth_failure *failure)
{
    const struct berth_config *config = &session->model->config;

    if (count > config->context_max - session->position)
        return berth__failure_set(failure, ENOSPC,
                                  "the text: has %zu tokens; the model's context has room for %zu",
                                  session->position + count, config->context_max);
    for (size_t i = 0; i < count; i++) {
        if (tokens[i] >= config->vocab)
            return berth__failure_set(failure, EINVAL,
                                      "token %u: is not in the model's vocabulary of %zu",
                                      tokens[i], config->vocab);
    }
    return 0;
}

int berth__session_feed(struct berth_session *session, const uint32_t *tokens, size_t count,
                        struct berth_failure *failure)
{
    size_t batch = 0;
    int r;

    r = tokens_check(session, tokens, count, failure);
    if (r == 0)
        r = berth__kv_cache_reserve(&session->cache, session->position, session->position + count,
                                    failure);
    if (r < 0)
        return r;
    for (size_t at = 0; at < count; at += batch) {
        batch = count - at < session->activations.tokens ? count - at : session->activations.tokens;
        batch_feed(session, tokens + at, batch);
    }
    if (count > 0)
        logits_compute(session, batch - 1);
    return 0;
}

const float *berth__session_logits(const struct berth_session *session)
{
    return session->activations.logits;
}

size_t berth__session_position(const struct berth_session *session)
{
    return session->position;
}

uint64_t berth__session_kv_bytes_per_token(const struct berth_session *session)
{
    const struct berth_config *config = &session->model->config;

    return (uint64_t)2 * session->position * config->layer_count * config->kv_head_count *
           config->head_dim * sizeof(float);
}
