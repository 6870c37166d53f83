/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* "model.layers.16384.post_attention_layernorm.weight" and every other name fits. */
#define NAME_MAX_BYTES 96

static int linear_load(struct berth_checkpoint *checkpoint, const char *prefix, const char *part,
                       size_t rows, size_t cols, bool bias, struct berth_failure *failure,
                       struct berth_linear *linear)
{
    char name[NAME_MAX_BYTES];
    int r;

    snprintf(name, sizeof(name), "%s%s.weight", prefix, part);
    r = berth__checkpoint_load_matrix(checkpoint, name, rows, cols, failure, &linear->weight);
    if (r < 0 || !bias)
        return r;
    snprintf(name, sizeof(name), "%s%s.bias", prefix, part);
    return berth__checkpoint_load_vector(checkpoint, name, rows, failure, &linear->bias);
}

static int norm_load(struct berth_checkpoint *checkpoint, const char *prefix, const char *part,
                     size_t count, struct berth_failure *failure, struct berth_tensor *norm)
{
    char name[NAME_MAX_BYTES];

    snprintf(name, sizeof(name), "%s%s.weight", prefix, part);
    return berth__checkpoint_load_vector(checkpoint, name, count, failure, norm);
}

static int layer_load(struct berth_checkpoint *checkpoint, const struct berth_config *config,
                      size_t index, struct berth_failure *failure, struct berth_layer *layer)
{
    size_t hidden = config->hidden, inner = config->intermediate;
    size_t q_rows = config->head_count * config->head_dim;
    size_t kv_rows = config->kv_head_count * config->head_dim;
    const struct {
        const char *part;
        size_t rows, cols;
        bool bias;
        struct berth_linear *linear;
    } linears[] = {
        {"self_attn.q_proj", q_rows, hidden, config->attention_bias, &layer->q},
        {"self_attn.k_proj", kv_rows, hidden, config->attention_bias, &layer->k},
        {"self_attn.v_proj", kv_rows, hidden, config->attention_bias, &layer->v},
        {"self_attn.o_proj", hidden, q_rows, config->attention_bias, &layer->o},
        {"mlp.gate_proj", inner, hidden, config->mlp_bias, &layer->gate},
        {"mlp.up_proj", inner, hidden, config->mlp_bias, &layer->up},
        {"mlp.down_proj", hidden, inner, config->mlp_bias, &layer->down},
    };
    char prefix[NAME_MAX_BYTES / 2];
    int r;

    snprintf(prefix, sizeof(prefix), "model.layers.%zu.", index);
    r = norm_load(checkpoint, prefix, "input_layernorm", hidden, failure, &layer->attention_norm);
    if (r == 0)
        r = norm_load(checkpoint, prefix, "post_attention_layernorm", hidden, failure,
                      &layer->mlp_norm);
    for (size_t i = 0; r == 0 && i < sizeof(linears) / sizeof(linears[0]); i++)
        r = linear_load(checkpoint, prefix, linears[i].part, linears[i].rows, linears[i].cols,
                        linears[i].bias, failure, linears[i].linear);
    return r;
}

/* The tied head is the embedding, wherever that lies. */
static void head_tie(struct berth_model *model)
{
    if (model->config.tied)
        model->head.weight = model->embedding;
}

static int weights_load(struct berth_checkpoint *checkpoint, struct berth_failure *failure,
                        struct berth_model *model)
{
    const struct berth_config *config = &model->config;
    int r;

    r = berth__checkpoint_load_matrix(checkpoint, "model.embed_tokens.weight", config->vocab,
                                      config->hidden, failure, &model->embedding);
    for (size_t i = 0; r == 0 && i < config->layer_count; i++)
        r = layer_load(checkpoint, config, i, failure, &model->layers[i]);
    if (r == 0)
        r = norm_load(checkpoint, "model.", "norm", config->hidden, failure, &model->norm);
    if (r < 0)
        return r;
    if (config->tied) {
        head_tie(model);
        return 0;
    }
    return linear_load(checkpoint, "", "lm_head", config->vocab, config->hidden, false, failure,
                       &model->head);
}

static void linear_done(struct berth_linear *linear)
{
    berth__tensor_done(&linear->weight);
    berth__tensor_done(&linear->bias);
}

static void layer_done(struct berth_layer *layer)
{
    struct berth_linear *linears[] = {&layer->q,    &layer->k,  &layer->v,   &layer->o,
                                      &layer->gate, &layer->up, &layer->down};

    for (size_t i = 0; i < sizeof(linears) / sizeof(linears[0]); i++)
        linear_done(linears[i]);
    berth__tensor_done(&layer->attention_norm);
    berth__tensor_done(&layer->mlp_norm);
}

static void tensors_done(struct berth_model *model)
{
    for (size_t i = 0; model->layers && i < model->config.layer_count; i++)
        layer_done(&model->layers[i]);
    if (!model->config.tied)
        linear_done(&model->head);
    berth__tensor_done(&model->embedding);
    berth__tensor_done(&model->norm);
}

/* From the files. Then, if it is wanted, they are kept; if that fails the model is good all the
 * same, and the failure is told. */
static int files_load(const struct berth_weight_source *source, bool keep,
                      struct berth_failure *failure, struct berth_model *model)
{
    struct berth_checkpoint *checkpoint = NULL;
    json_t *files = NULL;
    int r = berth__checkpoint_open(source->dir, failure, &checkpoint);

    /* Looked at, and then opened again: whatever is read is not older than what was looked at. */
    if (r == 0 && keep) {
        files = berth__weight_files_look(source->dir, checkpoint);
        berth__checkpoint_close(checkpoint);
        r = berth__checkpoint_open(source->dir, failure, &checkpoint);
    }
    if (r < 0) {
        json_decref(files);
        return r;
    }
    r = weights_load(checkpoint, failure, model);
    if (r == 0 && keep) {
        if (berth__weight_image_make(source->dir, checkpoint, files, failure, &model->image) < 0)
            fprintf(stderr, "berth-infer: %s\n", failure->text);
        head_tie(model);
    }
    json_decref(files);
    berth__checkpoint_close(checkpoint);
    return r;
}

/* The image is the same files', but the configuration may be another: then it is made anew. */
static int image_load(struct berth_weight_image *image, struct berth_failure *failure,
                      struct berth_model *model)
{
    struct berth_checkpoint *checkpoint = NULL;
    int r = berth__checkpoint_open_image(image, failure, &checkpoint);

    if (r == 0)
        r = weights_load(checkpoint, failure, model);
    berth__checkpoint_close(checkpoint);
    return r;
}

static int weights_get(const struct berth_weight_source *source, struct berth_failure *failure,
                       struct berth_model *model)
{
    int r = -ENOENT;

    if (source->persist)
        r = berth__weight_image_find(source->dir, failure, &model->image);
    if (r == 0) {
        r = image_load(model->image, failure, model);
        model->found = r == 0;
        if (r == 0)
            return 0;
        tensors_done(model);
        berth__weight_image_free(model->image);
        model->image = NULL;
    }
    if (r != -ENOENT)
        fprintf(stderr, "berth-infer: %s\n", failure->text);
    return files_load(source, source->persist && r == -ENOENT, failure, model);
}

int berth__model_load(const struct berth_weight_source *source, struct berth_failure *failure,
                      struct berth_model **ret_model)
{
    struct berth_model *model = calloc(1, sizeof(*model));
    const char *dir = source->dir;
    int r;

    if (!model)
        return berth__failure_no_memory(failure, dir, sizeof(*model));
    r = berth__config_load(dir, failure, &model->config);
    if (r < 0)
        goto err_free;
    model->layers = calloc(model->config.layer_count, sizeof(model->layers[0]));
    model->rope_frequencies = calloc(model->config.head_dim / 2, sizeof(float));
    if (!model->layers || !model->rope_frequencies) {
        r = berth__failure_no_memory(failure, dir,
                                     model->config.layer_count * sizeof(model->layers[0]));
        goto err_free;
    }
    berth__rope_frequencies(&model->config.rope, model->config.head_dim, model->rope_frequencies);
    r = weights_get(source, failure, model);
    if (r < 0)
        goto err_free;
    *ret_model = model;
    return 0;

err_free:
    berth__model_free(model);
    return r;
}

void berth__model_free(struct berth_model *model)
{
    if (!model)
        return;
    tensors_done(model);
    berth__weight_image_free(model->image);
    free(model->rope_frequencies);
    free(model->layers);
    free(model);
}

static uint64_t linear_bytes(const struct berth_linear *linear)
{
    return linear->weight.size_bytes + linear->bias.size_bytes;
}

uint64_t berth__model_bytes_per_token(const struct berth_model *model)
{
    uint64_t bytes = linear_bytes(&model->head) + model->norm.size_bytes +
                     model->config.hidden * berth__dtype_size(model->embedding.dtype);

    for (size_t i = 0; i < model->config.layer_count; i++) {
        const struct berth_layer *layer = &model->layers[i];

        bytes += layer->attention_norm.size_bytes + layer->mlp_norm.size_bytes;
        bytes += linear_bytes(&layer->q) + linear_bytes(&layer->k) + linear_bytes(&layer->v) +
                 linear_bytes(&layer->o);
        bytes += linear_bytes(&layer->gate) + linear_bytes(&layer->up) + linear_bytes(&layer->down);
    }
    return bytes;
}
