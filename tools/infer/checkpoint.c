/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint.h"

#include "json_field.h"
#include "memory.h"
#include "safetensors.h"
#include "weight_image.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHARDS_MAX 4096

struct berth_checkpoint {
    json_t *index;       /* NULL where the folder has one unsharded file */
    json_t *weight_map;  /* borrowed from index */
    char *index_path;    /* NULL where the folder has one unsharded file */
    json_t *shard_names; /* file name -> position in shards */
    struct berth_safetensors **shards;
    size_t shard_count;
    const struct berth_weight_image *image; /* then there are no files */
    struct berth_checkpoint_loaded *loaded;
    size_t loaded_count;
};

static int shard_open(struct berth_checkpoint *checkpoint, const char *dir, const char *name,
                      struct berth_failure *failure)
{
    struct berth_safetensors **grown;
    char path[PATH_MAX];
    int r;

    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
        return berth__failure_set(failure, ENAMETOOLONG, "%s: the path is too long", name);
    grown = realloc(checkpoint->shards, (checkpoint->shard_count + 1) * sizeof(grown[0]));
    if (!grown)
        return berth__failure_no_memory(failure, path, sizeof(grown[0]));
    checkpoint->shards = grown;
    r = berth__safetensors_open(path, failure, &grown[checkpoint->shard_count]);
    if (r < 0)
        return r;
    if (json_object_set_new(checkpoint->shard_names, name,
                            json_integer((json_int_t)checkpoint->shard_count++)) < 0)
        return berth__failure_no_memory(failure, path, strlen(name));
    return 0;
}

/* The shards lie beside the index: a name with a slash would read outside the folder. */
static int shards_open(struct berth_checkpoint *checkpoint, const char *dir,
                       struct berth_failure *failure)
{
    const struct berth_json_place root = {checkpoint->index_path, "", failure};
    const struct berth_json_place place = {checkpoint->index_path, "weight_map.", failure};
    const char *tensor, *name;
    json_t *value;

    checkpoint->weight_map = json_object_get(checkpoint->index, "weight_map");
    if (!json_is_object(checkpoint->weight_map))
        return berth__json_refuse(&root, "weight_map", checkpoint->weight_map, "an object");
    json_object_foreach(checkpoint->weight_map, tensor, value)
    {
        int r = berth__json_get_string(&place, checkpoint->weight_map, tensor, &name);

        if (r < 0)
            return r;
        if (name[0] == '\0' || strchr(name, '/') || strcmp(name, ".") == 0 ||
            strcmp(name, "..") == 0)
            return berth__json_refuse(&place, tensor, value, "the name of a file in the folder");
        if (json_object_get(checkpoint->shard_names, name))
            continue;
        if (checkpoint->shard_count == SHARDS_MAX)
            return berth__json_refuse(&root, "weight_map", checkpoint->weight_map,
                                      "at most 4096 different files");
        r = shard_open(checkpoint, dir, name, failure);
        if (r < 0)
            return r;
    }
    return 0;
}

static int folder_open(struct berth_checkpoint *checkpoint, const char *dir,
                       struct berth_failure *failure)
{
    char path[PATH_MAX], index_path[PATH_MAX];
    int r;

    if (snprintf(index_path, sizeof(index_path), "%s/model.safetensors.index.json", dir) >=
        (int)sizeof(index_path))
        return berth__failure_set(failure, ENAMETOOLONG, "%s: the path is too long", dir);
    snprintf(path, sizeof(path), "%s/model.safetensors", dir);
    checkpoint->shard_names = json_object();
    if (!checkpoint->shard_names)
        return berth__failure_no_memory(failure, dir, sizeof(json_t));
    if (access(path, F_OK) == 0 || access(index_path, F_OK) < 0)
        return shard_open(checkpoint, dir, "model.safetensors", failure);
    checkpoint->index_path = strdup(index_path);
    if (!checkpoint->index_path)
        return berth__failure_no_memory(failure, dir, sizeof(index_path));
    r = berth__json_file_load(index_path, failure, &checkpoint->index);
    if (r < 0)
        return r;
    return shards_open(checkpoint, dir, failure);
}

int berth__checkpoint_open(const char *dir, struct berth_failure *failure,
                           struct berth_checkpoint **ret_checkpoint)
{
    struct berth_checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));
    int r;

    if (!checkpoint)
        return berth__failure_no_memory(failure, dir, sizeof(*checkpoint));
    r = folder_open(checkpoint, dir, failure);
    if (r < 0) {
        berth__checkpoint_close(checkpoint);
        return r;
    }
    *ret_checkpoint = checkpoint;
    return 0;
}

int berth__checkpoint_open_image(const struct berth_weight_image *image,
                                 struct berth_failure *failure,
                                 struct berth_checkpoint **ret_checkpoint)
{
    struct berth_checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));

    if (!checkpoint)
        return berth__failure_no_memory(failure, "image", sizeof(*checkpoint));
    checkpoint->image = image;
    *ret_checkpoint = checkpoint;
    return 0;
}

const char *berth__checkpoint_file(const struct berth_checkpoint *checkpoint, size_t index)
{
    void *at = json_object_iter(checkpoint->shard_names);

    if (!checkpoint->index)
        return NULL;
    if (index == 0)
        return strrchr(checkpoint->index_path, '/') + 1;
    while (at && --index > 0)
        at = json_object_iter_next(checkpoint->shard_names, at);
    return at ? json_object_iter_key(at) : NULL;
}

const struct berth_checkpoint_loaded *
berth__checkpoint_loaded(const struct berth_checkpoint *checkpoint, size_t index)
{
    return index < checkpoint->loaded_count ? &checkpoint->loaded[index] : NULL;
}

void berth__checkpoint_close(struct berth_checkpoint *checkpoint)
{
    if (!checkpoint)
        return;
    for (size_t i = 0; i < checkpoint->loaded_count; i++)
        free(checkpoint->loaded[i].name);
    free(checkpoint->loaded);
    for (size_t i = 0; i < checkpoint->shard_count; i++)
        berth__safetensors_close(checkpoint->shards[i]);
    free(checkpoint->shards);
    json_decref(checkpoint->shard_names);
    json_decref(checkpoint->index);
    free(checkpoint->index_path);
    free(checkpoint);
}

static int tensor_find(const struct berth_checkpoint *checkpoint, const char *name,
                       struct berth_failure *failure, const struct berth_safetensors **ret_file,
                       const struct berth_safetensors_entry **ret_entry)
{
    const struct berth_safetensors *file = checkpoint->shards ? checkpoint->shards[0] : NULL;
    const struct berth_safetensors_entry *entry = NULL;

    if (checkpoint->weight_map) {
        const json_t *shard = json_object_get(checkpoint->weight_map, name);

        if (!shard)
            return berth__failure_set(failure, ENOENT,
                                      "%s: weight_map.%s: is missing; config.json asks for it",
                                      checkpoint->index_path, name);
        file = checkpoint->shards[json_integer_value(
            json_object_get(checkpoint->shard_names, json_string_value(shard)))];
    }
    entry = berth__safetensors_find(file, name);
    if (!entry)
        return berth__failure_set(failure, ENOENT,
                                  "%s: %s: is missing; the model's config or index asks for it",
                                  berth__safetensors_path(file), name);
    *ret_file = file;
    *ret_entry = entry;
    return 0;
}

static int dtype_parse(const struct berth_safetensors *file,
                       const struct berth_safetensors_entry *entry, struct berth_failure *failure,
                       enum berth_dtype *ret_dtype)
{
    static const char *const names[BERTH_DTYPE_COUNT] = {
        [BERTH_DTYPE_F32] = "F32", [BERTH_DTYPE_F16] = "F16", [BERTH_DTYPE_BF16] = "BF16"};

    for (int i = 0; i < BERTH_DTYPE_COUNT; i++) {
        if (strcmp(entry->dtype, names[i]) == 0) {
            *ret_dtype = (enum berth_dtype)i;
            return 0;
        }
    }
    return berth__failure_set(failure, EINVAL, "%s: %s: dtype: is %s; expected F32, F16 or BF16",
                              berth__safetensors_path(file), entry->name, entry->dtype);
}

static int shape_refuse(const struct berth_safetensors *file,
                        const struct berth_safetensors_entry *entry, size_t rows, size_t cols,
                        size_t dim_count, struct berth_failure *failure)
{
    char shape[BERTH_SAFETENSORS_DIMS_MAX * 24 + 1] = "";
    size_t at = 0;

    for (size_t i = 0; i < entry->dim_count; i++)
        at += (size_t)snprintf(shape + at, sizeof(shape) - at, "%s%" PRIu64, i > 0 ? ", " : "",
                               entry->dims[i]);
    if (dim_count == 1)
        return berth__failure_set(failure, EINVAL,
                                  "%s: %s: shape: is [%s]; expected [%zu] by config.json",
                                  berth__safetensors_path(file), entry->name, shape, rows);
    return berth__failure_set(failure, EINVAL,
                              "%s: %s: shape: is [%s]; expected [%zu, %zu] by config.json",
                              berth__safetensors_path(file), entry->name, shape, rows, cols);
}

static int tensor_load(const struct berth_checkpoint *checkpoint, const char *name, size_t rows,
                       size_t cols, size_t dim_count, struct berth_failure *failure,
                       struct berth_tensor *ret_tensor)
{
    const struct berth_safetensors_entry *entry = NULL;
    struct berth_tensor tensor = {.rows = rows, .cols = cols};
    const struct berth_safetensors *file = NULL;
    int r;

    r = tensor_find(checkpoint, name, failure, &file, &entry);
    if (r == 0)
        r = dtype_parse(file, entry, failure, &tensor.dtype);
    if (r < 0)
        return r;
    if (entry->dim_count != dim_count || entry->dims[0] != rows ||
        (dim_count == 2 && entry->dims[1] != cols))
        return shape_refuse(file, entry, rows, cols, dim_count, failure);
    /* The header was checked: the product of the shape is the entry's size. */
    tensor.size_bytes = (size_t)entry->size_bytes;
    tensor.data = berth__memory_alloc(BERTH_TAG_WEIGHT, tensor.size_bytes);
    if (!tensor.data)
        return berth__failure_no_memory(failure, name, tensor.size_bytes);
    r = berth__safetensors_read(file, entry, failure, tensor.data);
    if (r < 0) {
        berth__tensor_done(&tensor);
        return r;
    }
    *ret_tensor = tensor;
    return 0;
}

/* Remembers where the tensor is, for an image that is made later. */
static int loaded_note(struct berth_checkpoint *checkpoint, const char *name, size_t dim_count,
                       struct berth_failure *failure, struct berth_tensor *tensor)
{
    struct berth_checkpoint_loaded *grown;
    size_t count = checkpoint->loaded_count;

    grown = realloc(checkpoint->loaded, (count + 1) * sizeof(grown[0]));
    if (!grown)
        return berth__failure_no_memory(failure, name, sizeof(grown[0]));
    checkpoint->loaded = grown;
    grown[count].name = strdup(name);
    grown[count].tensor = tensor;
    grown[count].dim_count = dim_count;
    if (!grown[count].name)
        return berth__failure_no_memory(failure, name, strlen(name));
    checkpoint->loaded_count++;
    return 0;
}

int berth__checkpoint_load_matrix(struct berth_checkpoint *checkpoint, const char *name,
                                  size_t rows, size_t cols, struct berth_failure *failure,
                                  struct berth_tensor *ret_tensor)
{
    int r;

    if (checkpoint->image)
        return berth__weight_image_get(checkpoint->image, name, rows, cols, 2, failure, ret_tensor);
    r = tensor_load(checkpoint, name, rows, cols, 2, failure, ret_tensor);
    return r < 0 ? r : loaded_note(checkpoint, name, 2, failure, ret_tensor);
}

static int vector_load(const struct berth_checkpoint *checkpoint, const char *name, size_t count,
                       struct berth_failure *failure, struct berth_tensor *ret_tensor)
{
    struct berth_tensor raw, wide = {.dtype = BERTH_DTYPE_F32, .rows = count, .cols = 1};
    int r;

    r = tensor_load(checkpoint, name, count, 1, 1, failure, &raw);
    if (r < 0)
        return r;
    wide.size_bytes = count * sizeof(float);
    wide.data = berth__memory_alloc(BERTH_TAG_WEIGHT, wide.size_bytes);
    if (!wide.data) {
        berth__tensor_done(&raw);
        return berth__failure_no_memory(failure, name, wide.size_bytes);
    }
    berth__dtype_widen(raw.dtype, raw.data, 0, count, wide.data);
    berth__tensor_done(&raw);
    *ret_tensor = wide;
    return 0;
}

int berth__checkpoint_load_vector(struct berth_checkpoint *checkpoint, const char *name,
                                  size_t count, struct berth_failure *failure,
                                  struct berth_tensor *ret_tensor)
{
    int r;

    if (checkpoint->image)
        return berth__weight_image_get(checkpoint->image, name, count, 1, 1, failure, ret_tensor);
    r = vector_load(checkpoint, name, count, failure, ret_tensor);
    return r < 0 ? r : loaded_note(checkpoint, name, 1, failure, ret_tensor);
}

void berth__tensor_done(struct berth_tensor *tensor)
{
    if (tensor->borrowed && tensor->data)
        berth__memory_return(BERTH_TAG_WEIGHT, tensor->size_bytes);
    else
        berth__memory_free(BERTH_TAG_WEIGHT, tensor->data, tensor->size_bytes);
    tensor->data = NULL;
}
