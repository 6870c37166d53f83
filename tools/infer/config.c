/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include "json_field.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Wider than any published model by orders of magnitude; products of two of them fit 64 bits. */
#define DIMENSION_MAX ((size_t)1 << 24)
#define LAYERS_MAX ((size_t)1 << 14)
#define CONTEXT_MAX ((size_t)1 << 30)

static int architecture_check(const struct berth_json_place *place, const json_t *root)
{
    const json_t *list = json_object_get(root, "architectures");
    const char *type = NULL, *act = "silu";
    double rotary = 1;
    int r;

    r = berth__json_opt_string(place, root, "model_type", &type);
    if (r < 0)
        return r;
    if (type && strcmp(type, "llama") != 0)
        return berth__json_refuse(place, "model_type", json_object_get(root, "model_type"),
                                  "\"llama\"");
    if (!type && !json_is_array(list))
        return berth__json_refuse(place, "model_type", NULL, "\"llama\"");
    if (json_array_size(list) > 0) {
        const json_t *first = json_array_get(list, 0);

        if (!json_is_string(first) || strcmp(json_string_value(first), "LlamaForCausalLM") != 0)
            return berth__json_refuse(place, "architectures[0]", first, "\"LlamaForCausalLM\"");
    }
    r = berth__json_opt_string(place, root, "hidden_act", &act);
    if (r < 0)
        return r;
    if (strcmp(act, "silu") != 0 && strcmp(act, "swish") != 0)
        return berth__json_refuse(place, "hidden_act", json_object_get(root, "hidden_act"),
                                  "\"silu\"");
    if (json_is_object(json_object_get(root, "quantization_config")))
        return berth__json_refuse(place, "quantization_config",
                                  json_object_get(root, "quantization_config"),
                                  "no quantisation: f32, f16 or bf16 weights");
    r = berth__json_opt_number(place, root, "partial_rotary_factor", &rotary);
    if (r == 0 && rotary != 1)
        r = berth__json_refuse(place, "partial_rotary_factor",
                               json_object_get(root, "partial_rotary_factor"), "1");
    return r;
}

static int shape_read(const struct berth_json_place *place, const json_t *root,
                      struct berth_config *config)
{
    const struct {
        const char *field;
        size_t max;
        size_t *ret;
    } sizes[] = {
        {"hidden_size", DIMENSION_MAX, &config->hidden},
        {"intermediate_size", DIMENSION_MAX, &config->intermediate},
        {"num_hidden_layers", LAYERS_MAX, &config->layer_count},
        {"num_attention_heads", DIMENSION_MAX, &config->head_count},
        {"vocab_size", DIMENSION_MAX, &config->vocab},
        {"max_position_embeddings", CONTEXT_MAX, &config->context_max},
    };
    int r;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        r = berth__json_get_size(place, root, sizes[i].field, sizes[i].max, sizes[i].ret);
        if (r < 0)
            return r;
    }
    config->kv_head_count = config->head_count;
    r = berth__json_opt_size(place, root, "num_key_value_heads", config->head_count,
                             &config->kv_head_count);
    if (r < 0)
        return r;
    if (config->head_count % config->kv_head_count != 0)
        return berth__json_refuse(place, "num_key_value_heads",
                                  json_object_get(root, "num_key_value_heads"),
                                  "a divisor of num_attention_heads");
    config->head_dim = config->hidden / config->head_count;
    r = berth__json_opt_size(place, root, "head_dim", DIMENSION_MAX, &config->head_dim);
    if (r < 0)
        return r;
    if (config->head_dim == 0 || config->head_dim % 2 != 0)
        return berth__json_refuse(place, "head_dim", json_object_get(root, "head_dim"),
                                  "an even number (or hidden_size / num_attention_heads even)");
    if (config->head_dim * config->head_count > DIMENSION_MAX)
        return berth__json_refuse(place, "head_dim", json_object_get(root, "head_dim"),
                                  "head_dim x num_attention_heads of at most 2^24");
    return 0;
}

static int rope_kind_read(const struct berth_json_place *place, const json_t *object,
                          enum berth_rope_kind *ret_kind)
{
    /* transformers renamed `type` to `rope_type`; files of both ages exist, some have both. */
    const char *field = json_object_get(object, "rope_type") ? "rope_type" : "type";
    const char *name = "default";
    int r;

    r = berth__json_opt_string(place, object, field, &name);
    if (r < 0)
        return r;
    if (strcmp(name, "default") == 0)
        *ret_kind = BERTH_ROPE_DEFAULT;
    else if (strcmp(name, "linear") == 0)
        *ret_kind = BERTH_ROPE_LINEAR;
    else if (strcmp(name, "llama3") == 0)
        *ret_kind = BERTH_ROPE_LLAMA3;
    else
        return berth__json_refuse(place, field, json_object_get(object, field),
                                  "\"default\", \"linear\" or \"llama3\"");
    return 0;
}

static int rope_llama3_read(const struct berth_json_place *place, const json_t *object,
                            struct berth_rope *rope)
{
    const struct {
        const char *field;
        double *ret;
    } numbers[] = {
        {"factor", &rope->factor},
        {"low_freq_factor", &rope->low_freq_factor},
        {"high_freq_factor", &rope->high_freq_factor},
        {"original_max_position_embeddings", &rope->original_context},
    };

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        int r = berth__json_get_number(place, object, numbers[i].field, numbers[i].ret);

        if (r < 0)
            return r;
    }
    if (rope->high_freq_factor <= rope->low_freq_factor)
        return berth__json_refuse(place, "high_freq_factor",
                                  json_object_get(object, "high_freq_factor"),
                                  "a number above low_freq_factor");
    return 0;
}

static int rope_read(const struct berth_json_place *place, const json_t *root,
                     struct berth_rope *rope)
{
    const char *fields[] = {"rope_parameters", "rope_scaling"};
    int r;

    rope->kind = BERTH_ROPE_DEFAULT;
    rope->theta = 10000;
    rope->factor = 1;
    r = berth__json_opt_number(place, root, "rope_theta", &rope->theta);
    for (size_t i = 0; r == 0 && i < sizeof(fields) / sizeof(fields[0]); i++) {
        const json_t *object = json_object_get(root, fields[i]);
        struct berth_json_place inner = *place;

        if (!object || json_is_null(object))
            continue;
        if (!json_is_object(object))
            return berth__json_refuse(place, fields[i], object, "an object or null");
        inner.section = i == 0 ? "rope_parameters." : "rope_scaling.";
        r = berth__json_opt_number(&inner, object, "rope_theta", &rope->theta);
        if (r == 0)
            r = rope_kind_read(&inner, object, &rope->kind);
        if (r == 0 && rope->kind == BERTH_ROPE_LINEAR)
            r = berth__json_get_number(&inner, object, "factor", &rope->factor);
        if (r == 0 && rope->kind == BERTH_ROPE_LLAMA3)
            r = rope_llama3_read(&inner, object, rope);
        break;
    }
    return r;
}

static bool token_is_valid(const json_t *value, size_t vocab)
{
    return json_is_integer(value) && json_integer_value(value) >= 0 &&
           (uint64_t)json_integer_value(value) < vocab;
}

static int eos_read(const struct berth_json_place *place, const json_t *root,
                    struct berth_config *config)
{
    const json_t *value = json_object_get(root, "eos_token_id");
    size_t count = json_is_array(value) ? json_array_size(value) : 1;

    if (!value || json_is_null(value))
        return 0;
    if (count > BERTH_CONFIG_EOS_MAX)
        return berth__json_refuse(place, "eos_token_id", value, "at most 64 tokens");
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;

        if (!token_is_valid(item, config->vocab))
            return berth__json_refuse(place, "eos_token_id", item,
                                      "a token below vocab_size, or an array of them");
        config->eos[i] = (uint32_t)json_integer_value(item);
    }
    config->eos_count = count;
    return 0;
}

static int tokens_read(const struct berth_json_place *place, const json_t *root,
                       struct berth_config *config)
{
    const json_t *bos = json_object_get(root, "bos_token_id");

    if (bos && !json_is_null(bos)) {
        if (!token_is_valid(bos, config->vocab))
            return berth__json_refuse(place, "bos_token_id", bos, "a token below vocab_size");
        config->bos = (uint32_t)json_integer_value(bos);
    }
    return eos_read(place, root, config);
}

static int flags_read(const struct berth_json_place *place, const json_t *root,
                      struct berth_config *config)
{
    const struct {
        const char *field;
        bool *ret;
    } flags[] = {
        {"tie_word_embeddings", &config->tied},
        {"attention_bias", &config->attention_bias},
        {"mlp_bias", &config->mlp_bias},
    };
    int r = 0;

    for (size_t i = 0; r == 0 && i < sizeof(flags) / sizeof(flags[0]); i++)
        r = berth__json_opt_bool(place, root, flags[i].field, flags[i].ret);
    config->rms_eps = 1e-6;
    if (r == 0)
        r = berth__json_opt_number(place, root, "rms_norm_eps", &config->rms_eps);
    return r;
}

static int main_file_read(const char *path, struct berth_failure *failure,
                          struct berth_config *config)
{
    const struct berth_json_place place = {path, "", failure};
    json_t *root;
    int r;

    r = berth__json_file_load(path, failure, &root);
    if (r < 0)
        return r;
    r = architecture_check(&place, root);
    if (r == 0)
        r = shape_read(&place, root, config);
    if (r == 0)
        r = flags_read(&place, root, config);
    if (r == 0)
        r = rope_read(&place, root, &config->rope);
    if (r == 0)
        r = tokens_read(&place, root, config);
    json_decref(root);
    return r;
}

int berth__config_load(const char *dir, struct berth_failure *failure,
                       struct berth_config *ret_config)
{
    struct berth_config config = {.bos = BERTH_TOKEN_NONE};
    char path[PATH_MAX];
    json_t *root;
    int r;

    if (snprintf(path, sizeof(path), "%s/generation_config.json", dir) >= (int)sizeof(path))
        return berth__failure_set(failure, ENAMETOOLONG, "%s: the path is too long", dir);
    snprintf(path, sizeof(path), "%s/config.json", dir);
    r = main_file_read(path, failure, &config);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "%s/generation_config.json", dir);
    if (access(path, F_OK) == 0) {
        const struct berth_json_place place = {path, "", failure};

        r = berth__json_file_load(path, failure, &root);
        if (r < 0)
            return r;
        r = tokens_read(&place, root, &config);
        json_decref(root);
        if (r < 0)
            return r;
    }
    *ret_config = config;
    return 0;
}

bool berth__config_is_eos(const struct berth_config *config, uint32_t token)
{
    for (size_t i = 0; i < config->eos_count; i++) {
        if (config->eos[i] == token)
            return true;
    }
    return false;
}
