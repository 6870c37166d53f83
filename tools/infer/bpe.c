/* SPDX-License-Identifier: Apache-2.0 */
#include "bpe.h"

#include "byte_alphabet.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A part of a piece: a token and its neighbours, by index; gone once joined to the left one. */
struct part {
    uint32_t id;
    uint32_t previous, next;
    bool gone;
};

#define PART_NONE UINT32_MAX

/* A pair that may be joined: the heap gives the lowest rank, then the leftmost. It is stale when
 * either part has changed since; `joined` then no longer fits what the merge list says. */
struct candidate {
    uint32_t rank;
    uint32_t part;
    uint32_t joined;
};

struct joiner {
    const struct berth_bpe *bpe;
    struct part *parts;
    struct candidate *heap;
    size_t heap_count;
};

static uint64_t pair_hash(uint32_t left, uint32_t right)
{
    uint64_t hash = ((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u;

    return hash ^ hash >> 29;
}

static struct berth_bpe_merge *merge_slot(const struct berth_bpe *bpe, uint32_t left,
                                          uint32_t right)
{
    size_t slot = pair_hash(left, right) & (bpe->merge_slots - 1);

    while (bpe->merges[slot].left != BERTH_ID_NONE &&
           (bpe->merges[slot].left != left || bpe->merges[slot].right != right))
        slot = (slot + 1) & (bpe->merge_slots - 1);
    return &bpe->merges[slot];
}

static int vocab_load(struct berth_bpe *bpe, const struct berth_json_place *place,
                      const json_t *model)
{
    const json_t *vocab = json_object_get(model, "vocab");
    struct berth_json_place inner = *place;
    const char *token;
    json_t *value;

    if (!json_is_object(vocab))
        return berth__json_refuse(place, "vocab", vocab, "an object of tokens and ids");
    inner.section = "model.vocab.";
    json_object_foreach((json_t *)vocab, token, value)
    {
        size_t size = strlen(token);
        unsigned char *bytes;
        bool findable;
        int r;

        if (!json_is_integer(value) || json_integer_value(value) < 0 ||
            (uint64_t)json_integer_value(value) >= BERTH_VOCABULARY_IDS_MAX)
            return berth__json_refuse(&inner, token, value, "an id from 0 to 16777215");
        bytes = malloc(size + 1);
        if (!bytes)
            return berth__failure_no_memory(place->failure, place->file, size);
        /* What is not of the alphabet can never come out of a merge; it only has a text. */
        findable = berth__byte_alphabet_decode(token, size, bytes, &size);
        if (!findable)
            memcpy(bytes, token, size);
        r = berth__vocabulary_add(bpe->vocabulary, (uint32_t)json_integer_value(value), bytes, size,
                                  findable);
        free(bytes);
        if (r == -EEXIST)
            return berth__json_refuse(&inner, token, value, "an id that no other token has");
        if (r < 0)
            return berth__failure_no_memory(place->failure, place->file, size);
    }
    return 0;
}

/* A merge is "left right" or ["left", "right"]; the file's age decides which. */
static int merge_split(const json_t *merge, const char **ret_left, size_t *ret_left_size,
                       const char **ret_right, size_t *ret_right_size)
{
    if (json_is_string(merge)) {
        const char *text = json_string_value(merge), *space = strchr(text, ' ');

        if (!space || strchr(space + 1, ' '))
            return -EINVAL;
        *ret_left = text;
        *ret_left_size = (size_t)(space - text);
        *ret_right = space + 1;
        *ret_right_size = json_string_length(merge) - *ret_left_size - 1;
        return 0;
    }
    if (json_array_size(merge) != 2 || !json_is_string(json_array_get(merge, 0)) ||
        !json_is_string(json_array_get(merge, 1)))
        return -EINVAL;
    *ret_left = json_string_value(json_array_get(merge, 0));
    *ret_left_size = json_string_length(json_array_get(merge, 0));
    *ret_right = json_string_value(json_array_get(merge, 1));
    *ret_right_size = json_string_length(json_array_get(merge, 1));
    return 0;
}

/* The ids of both halves and of the whole; BERTH_ID_NONE in *ret where one is not in the vocab. */
static int merge_resolve(const struct berth_bpe *bpe, const json_t *merge,
                         struct berth_bpe_merge *ret)
{
    size_t left_size, right_size, left_bytes, right_bytes;
    const char *left, *right;
    unsigned char *bytes;
    int r;

    r = merge_split(merge, &left, &left_size, &right, &right_size);
    if (r < 0)
        return r;
    bytes = malloc(left_size + right_size + 1);
    if (!bytes)
        return -ENOMEM;
    r = -EINVAL;
    if (berth__byte_alphabet_decode(left, left_size, bytes, &left_bytes) &&
        berth__byte_alphabet_decode(right, right_size, bytes + left_bytes, &right_bytes)) {
        ret->left = berth__vocabulary_find(bpe->vocabulary, bytes, left_bytes);
        ret->right = berth__vocabulary_find(bpe->vocabulary, bytes + left_bytes, right_bytes);
        ret->joined = berth__vocabulary_find(bpe->vocabulary, bytes, left_bytes + right_bytes);
        if (ret->left != BERTH_ID_NONE && ret->right != BERTH_ID_NONE &&
            ret->joined != BERTH_ID_NONE)
            r = 0;
    }
    free(bytes);
    return r;
}

static int merges_load(struct berth_bpe *bpe, const struct berth_json_place *place,
                       const json_t *model)
{
    const json_t *merges = json_object_get(model, "merges");
    size_t count = json_array_size(merges);
    char field[48];

    if (!json_is_array(merges))
        return berth__json_refuse(place, "merges", merges, "an array of pairs of tokens");
    bpe->merge_slots = 2;
    while (bpe->merge_slots < 2 * count)
        bpe->merge_slots *= 2;
    bpe->merges = malloc(bpe->merge_slots * sizeof(bpe->merges[0]));
    if (!bpe->merges || count >= UINT32_MAX)
        return berth__failure_no_memory(place->failure, place->file,
                                        bpe->merge_slots * sizeof(bpe->merges[0]));
    memset(bpe->merges, 0xff, bpe->merge_slots * sizeof(bpe->merges[0]));
    for (size_t i = 0; i < count; i++) {
        struct berth_bpe_merge merge = {.rank = (uint32_t)i}, *slot;
        int r = merge_resolve(bpe, json_array_get(merges, i), &merge);

        if (r == -ENOMEM)
            return berth__failure_no_memory(place->failure, place->file, sizeof(merge));
        if (r < 0) {
            snprintf(field, sizeof(field), "merges[%zu]", i);
            return berth__json_refuse(place, field, json_array_get(merges, i),
                                      "two tokens that model.vocab has, as it has both joined");
        }
        slot = merge_slot(bpe, merge.left, merge.right);
        if (slot->left == BERTH_ID_NONE)
            *slot = merge;
        else
            slot->rank = merge.rank; /* said twice: the later rank counts, as in other readers */
    }
    return 0;
}

/* Options of other kinds of BPE would change every token: they are refused by name. */
static int options_load(struct berth_bpe *bpe, const struct berth_json_place *place,
                        const json_t *model)
{
    const char *type = "BPE", *unknown = NULL;
    const char *affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    bool byte_fallback = false;
    int r;

    r = berth__json_opt_string(place, model, "type", &type);
    if (r == 0 && strcmp(type, "BPE") != 0)
        r = berth__json_refuse(place, "type", json_object_get(model, "type"), "\"BPE\"");
    if (r == 0)
        r = berth__json_opt_bool(place, model, "ignore_merges", &bpe->ignore_merges);
    if (r == 0)
        r = berth__json_opt_bool(place, model, "byte_fallback", &byte_fallback);
    if (r == 0 && byte_fallback)
        r = berth__json_refuse(place, "byte_fallback", json_object_get(model, "byte_fallback"),
                               "false: the BPE works on bytes");
    for (size_t i = 0; r == 0 && i < sizeof(affixes) / sizeof(affixes[0]); i++) {
        const char *affix = "";

        r = berth__json_opt_string(place, model, affixes[i], &affix);
        if (r == 0 && affix[0] != '\0')
            r = berth__json_refuse(place, affixes[i], json_object_get(model, affixes[i]),
                                   "null or \"\"");
    }
    bpe->unknown = BERTH_ID_NONE;
    if (r == 0)
        r = berth__json_opt_string(place, model, "unk_token", &unknown);
    if (r == 0 && unknown) {
        const json_t *id = json_object_get(json_object_get(model, "vocab"), unknown);

        if (json_is_integer(id))
            bpe->unknown = (uint32_t)json_integer_value(id);
    }
    return r;
}

int berth__bpe_load(struct berth_bpe *bpe, const struct berth_json_place *place,
                    const json_t *model, struct berth_vocabulary *vocabulary)
{
    int r;

    *bpe = (struct berth_bpe){.vocabulary = vocabulary};
    r = options_load(bpe, place, model);
    if (r == 0)
        r = vocab_load(bpe, place, model);
    if (r == 0)
        r = merges_load(bpe, place, model);
    for (unsigned int byte = 0; r == 0 && byte < 256; byte++) {
        unsigned char bytes[] = {(unsigned char)byte};

        bpe->byte_ids[byte] = berth__vocabulary_find(vocabulary, bytes, 1);
    }
    return r;
}

void berth__bpe_done(struct berth_bpe *bpe)
{
    free(bpe->merges);
    bpe->merges = NULL;
}

static bool candidate_before(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->part < b->part;
}

static void heap_push(struct joiner *joiner, struct candidate candidate)
{
    size_t at = joiner->heap_count++;

    while (at > 0 && candidate_before(&candidate, &joiner->heap[(at - 1) / 2])) {
        joiner->heap[at] = joiner->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    joiner->heap[at] = candidate;
}

static struct candidate heap_pop(struct joiner *joiner)
{
    struct candidate first = joiner->heap[0], last = joiner->heap[--joiner->heap_count];
    size_t at = 0, child;

    while ((child = 2 * at + 1) < joiner->heap_count) {
        if (child + 1 < joiner->heap_count &&
            candidate_before(&joiner->heap[child + 1], &joiner->heap[child]))
            child++;
        if (!candidate_before(&joiner->heap[child], &last))
            break;
        joiner->heap[at] = joiner->heap[child];
        at = child;
    }
    joiner->heap[at] = last;
    return first;
}

/* What the part and its right neighbour would become; NULL where no merge knows them. */
static const struct berth_bpe_merge *part_merge(const struct joiner *joiner, uint32_t index)
{
    const struct berth_bpe_merge *merge;
    const struct part *part;

    if (index == PART_NONE)
        return NULL;
    part = &joiner->parts[index];
    if (part->gone || part->next == PART_NONE)
        return NULL;
    merge = merge_slot(joiner->bpe, part->id, joiner->parts[part->next].id);
    return merge->left == BERTH_ID_NONE ? NULL : merge;
}

static void part_consider(struct joiner *joiner, uint32_t index)
{
    const struct berth_bpe_merge *merge = part_merge(joiner, index);

    if (merge)
        heap_push(joiner, (struct candidate){merge->rank, index, merge->joined});
}

static void parts_join(struct joiner *joiner)
{
    while (joiner->heap_count > 0) {
        struct candidate best = heap_pop(joiner);
        const struct berth_bpe_merge *merge = part_merge(joiner, best.part);
        struct part *part = &joiner->parts[best.part], *right;

        if (!merge || merge->joined != best.joined)
            continue;
        right = &joiner->parts[part->next];
        right->gone = true;
        part->id = merge->joined;
        part->next = right->next;
        if (part->next != PART_NONE)
            joiner->parts[part->next].previous = best.part;
        part_consider(joiner, part->previous);
        part_consider(joiner, best.part);
    }
}

static uint32_t parts_fill(struct joiner *joiner, const unsigned char *piece, size_t size)
{
    const struct berth_bpe *bpe = joiner->bpe;
    uint32_t count = 0;

    for (size_t i = 0; i < size; i++) {
        uint32_t id = bpe->byte_ids[piece[i]];

        if (id == BERTH_ID_NONE)
            id = bpe->unknown;
        if (id == BERTH_ID_NONE)
            continue;
        joiner->parts[count] = (struct part){id, count - 1, count + 1, false};
        count++;
    }
    if (count > 0)
        joiner->parts[count - 1].next = PART_NONE; /* index 0 has PART_NONE before it already */
    return count;
}

int berth__bpe_encode(const struct berth_bpe *bpe, const unsigned char *piece, size_t size,
                      struct berth_id_list *list)
{
    struct joiner joiner = {.bpe = bpe};
    uint32_t whole, count;
    int r = 0;

    if (size == 0)
        return 0;
    whole = bpe->ignore_merges || size == 1 ? berth__vocabulary_find(bpe->vocabulary, piece, size)
                                            : BERTH_ID_NONE;
    if (whole != BERTH_ID_NONE)
        return berth__id_list_append(list, whole);
    /* Each join takes one part away and considers two pairs: the heap never has more. */
    if (size > UINT32_MAX / 4)
        return -ENOMEM;
    joiner.parts = malloc(size * sizeof(joiner.parts[0]));
    joiner.heap = malloc(3 * size * sizeof(joiner.heap[0]));
    if (!joiner.parts || !joiner.heap) {
        r = -ENOMEM;
        goto out;
    }
    count = parts_fill(&joiner, piece, size);
    for (uint32_t i = 0; i < count; i++)
        part_consider(&joiner, i);
    parts_join(&joiner);
    for (uint32_t i = 0; i < count && r == 0; i = joiner.parts[i].next)
        r = berth__id_list_append(list, joiner.parts[i].id);
out:
    free(joiner.parts);
    free(joiner.heap);
    return r;
}
