/* SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer.h"

#include "added_tokens.h"
#include "bpe.h"
#include "config.h"
#include "json_field.h"
#include "pre_tokenizer.h"
#include "vocabulary.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct berth_tokenizer {
    struct berth_vocabulary vocabulary;
    struct berth_bpe bpe;
    struct berth_added_tokens added;
    struct berth_pre_tokenizer *pre_tokenizer;
    struct berth_id_list before; /* what the post-processor puts around a text */
    struct berth_id_list after;
    bool has_template;
};

struct encoding {
    struct berth_tokenizer *tokenizer;
    struct berth_id_list *list;
};

/* A normaliser rewrites the text before it is cut; byte-level Llama tokenizers have none. */
static int normalizer_check(const struct berth_json_place *place, const json_t *root)
{
    const json_t *value = json_object_get(root, "normalizer");
    const json_t *list = json_object_get(value, "normalizers");

    if (!value || json_is_null(value) || (json_is_array(list) && json_array_size(list) == 0))
        return 0;
    return berth__json_refuse(place, "normalizer", value, "null");
}

static int template_special_add(const struct berth_json_place *place, const json_t *processor,
                                const json_t *special, struct berth_id_list *list)
{
    const json_t *name = json_object_get(special, "id");
    const json_t *ids =
        json_object_get(json_object_get(json_object_get(processor, "special_tokens"),
                                        json_is_string(name) ? json_string_value(name) : ""),
                        "ids");

    if (!json_is_array(ids))
        return berth__json_refuse(place, "single", name,
                                  "the name of one of special_tokens, which has ids");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);

        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            (uint64_t)json_integer_value(id) >= BERTH_VOCABULARY_IDS_MAX)
            return berth__json_refuse(place, "special_tokens", id, "an id from 0 to 16777215");
        if (berth__id_list_append(list, (uint32_t)json_integer_value(id)) < 0)
            return berth__failure_no_memory(place->failure, place->file, sizeof(uint32_t));
    }
    return 0;
}

static int template_load(struct berth_tokenizer *tokenizer, const struct berth_json_place *place,
                         const json_t *processor)
{
    const json_t *single = json_object_get(processor, "single");
    struct berth_id_list *list = &tokenizer->before;

    if (!json_is_array(single))
        return berth__json_refuse(place, "single", single, "an array of template parts");
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *part = json_array_get(single, i);
        const json_t *special = json_object_get(part, "SpecialToken");
        int r;

        if (special) {
            r = template_special_add(place, processor, special, list);
            if (r < 0)
                return r;
        } else if (json_object_get(part, "Sequence") && list == &tokenizer->before) {
            list = &tokenizer->after;
        } else {
            return berth__json_refuse(place, "single", part,
                                      "SpecialToken parts around one Sequence part");
        }
    }
    tokenizer->has_template = true;
    return 0;
}

static int post_processor_load(struct berth_tokenizer *tokenizer,
                               const struct berth_json_place *place, const json_t *value)
{
    const json_t *list = json_object_get(value, "processors");
    const char *type;
    int r;

    if (!value || json_is_null(value))
        return 0;
    r = berth__json_get_string(place, value, "type", &type);
    if (r < 0)
        return r;
    if (strcmp(type, "TemplateProcessing") == 0 && !tokenizer->has_template)
        return template_load(tokenizer, place, value);
    /* It only trims offsets into the text, which nobody asks for here. */
    if (strcmp(type, "ByteLevel") == 0)
        return 0;
    if (strcmp(type, "Sequence") != 0 || !json_is_array(list))
        return berth__json_refuse(place, "type", json_object_get(value, "type"),
                                  "one \"TemplateProcessing\", \"ByteLevel\" or \"Sequence\"");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);

        if (json_object_get(item, "processors"))
            return berth__json_refuse(place, "processors", item, "no nested sequence");
        r = post_processor_load(tokenizer, place, item);
        if (r < 0)
            return r;
    }
    return 0;
}

static int root_load(struct berth_tokenizer *tokenizer, const char *path, const json_t *root,
                     struct berth_failure *failure)
{
    const struct berth_json_place place = {path, "", failure};
    struct berth_json_place inner = place;
    const json_t *model = json_object_get(root, "model");
    int r;

    if (!json_is_object(model))
        return berth__json_refuse(&place, "model", model, "an object");
    r = normalizer_check(&place, root);
    inner.section = "model.";
    if (r == 0)
        r = berth__bpe_load(&tokenizer->bpe, &inner, model, &tokenizer->vocabulary);
    if (r == 0)
        r = berth__added_tokens_load(&tokenizer->added, &place,
                                     json_object_get(root, "added_tokens"), &tokenizer->vocabulary);
    inner.section = "pre_tokenizer.";
    if (r == 0)
        r = berth__pre_tokenizer_new(&inner, json_object_get(root, "pre_tokenizer"),
                                     &tokenizer->pre_tokenizer);
    inner.section = "post_processor.";
    if (r == 0)
        r = post_processor_load(tokenizer, &inner, json_object_get(root, "post_processor"));
    return r;
}

static int config_load(struct berth_tokenizer *tokenizer, const char *path, uint32_t bos,
                       struct berth_failure *failure)
{
    const struct berth_json_place place = {path, "", failure};
    bool add_bos = false;
    json_t *root;
    int r;

    if (tokenizer->has_template || bos == BERTH_TOKEN_NONE || access(path, F_OK) < 0)
        return 0;
    r = berth__json_file_load(path, failure, &root);
    if (r < 0)
        return r;
    r = berth__json_opt_bool(&place, root, "add_bos_token", &add_bos);
    json_decref(root);
    if (r == 0 && add_bos && berth__id_list_append(&tokenizer->before, bos) < 0)
        r = berth__failure_no_memory(failure, path, sizeof(bos));
    return r;
}

int berth__tokenizer_load(const char *dir, uint32_t bos, struct berth_failure *failure,
                          struct berth_tokenizer **ret_tokenizer)
{
    struct berth_tokenizer *tokenizer;
    char path[PATH_MAX], config_path[PATH_MAX];
    json_t *root;
    int r;

    if (snprintf(config_path, sizeof(config_path), "%s/tokenizer_config.json", dir) >=
        (int)sizeof(config_path))
        return berth__failure_set(failure, ENAMETOOLONG, "%s: the path is too long", dir);
    snprintf(path, sizeof(path), "%s/tokenizer.json", dir);
    r = berth__json_file_load(path, failure, &root);
    if (r < 0)
        return r;
    tokenizer = calloc(1, sizeof(*tokenizer));
    if (!tokenizer) {
        json_decref(root);
        return berth__failure_no_memory(failure, path, sizeof(*tokenizer));
    }
    r = root_load(tokenizer, path, root, failure);
    json_decref(root);
    if (r == 0)
        r = config_load(tokenizer, config_path, bos, failure);
    if (r < 0) {
        berth__tokenizer_free(tokenizer);
        return r;
    }
    *ret_tokenizer = tokenizer;
    return 0;
}

void berth__tokenizer_free(struct berth_tokenizer *tokenizer)
{
    if (!tokenizer)
        return;
    berth__bpe_done(&tokenizer->bpe);
    berth__added_tokens_done(&tokenizer->added);
    berth__pre_tokenizer_free(tokenizer->pre_tokenizer);
    berth__vocabulary_done(&tokenizer->vocabulary);
    berth__id_list_done(&tokenizer->before);
    berth__id_list_done(&tokenizer->after);
    free(tokenizer);
}

static int piece_encode(void *arg, const unsigned char *piece, size_t size)
{
    struct encoding *encoding = arg;

    return berth__bpe_encode(&encoding->tokenizer->bpe, piece, size, encoding->list);
}

/* Text between added tokens: those that are looked for second, then plain text. */
static int text_encode(struct encoding *encoding, const unsigned char *text, size_t size,
                       bool normalized)
{
    struct berth_tokenizer *tokenizer = encoding->tokenizer;
    const struct berth_added_token *token;
    size_t at = 0, begin = size, end = size;
    int r = 0;

    do {
        token =
            berth__added_tokens_find(&tokenizer->added, normalized, text, size, at, &begin, &end);
        if (!token)
            begin = end = size;
        if (!normalized)
            r = text_encode(encoding, text + at, begin - at, true);
        else
            r = berth__pre_tokenizer_cut(tokenizer->pre_tokenizer, text + at, begin - at,
                                         piece_encode, encoding);
        if (r == 0 && token)
            r = berth__id_list_append(encoding->list, token->id);
        at = end;
    } while (r == 0 && token);
    return r;
}

static int ids_append(struct berth_id_list *list, const struct berth_id_list *ids)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < ids->count; i++)
        r = berth__id_list_append(list, ids->ids[i]);
    return r;
}

int berth__tokenizer_encode(struct berth_tokenizer *tokenizer, const char *text, size_t size,
                            bool template, struct berth_failure *failure,
                            struct berth_id_list *list)
{
    struct encoding encoding = {tokenizer, list};
    int r = 0;

    if (template)
        r = ids_append(list, &tokenizer->before);
    if (r == 0)
        r = text_encode(&encoding, (const unsigned char *)text, size, false);
    if (r == 0 && template)
        r = ids_append(list, &tokenizer->after);
    if (r == -EOVERFLOW)
        return berth__failure_set(
            failure, EOVERFLOW, "the text: the tokenizer's expression takes too many steps on it");
    if (r < 0)
        return berth__failure_no_memory(failure, "the text", size);
    return 0;
}

const unsigned char *berth__tokenizer_bytes(const struct berth_tokenizer *tokenizer, uint32_t id,
                                            size_t *ret_size)
{
    const struct berth_added_token *token = berth__added_tokens_by_id(&tokenizer->added, id);
    const unsigned char *bytes;

    *ret_size = 0;
    if (token) {
        *ret_size = token->special ? 0 : token->size;
        return token->content;
    }
    bytes = berth__vocabulary_bytes(&tokenizer->vocabulary, id, ret_size);
    return bytes ? bytes : (const unsigned char *)"";
}
