/* SPDX-License-Identifier: Apache-2.0 */
#include "weight_image.h"

#include "memory.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC UINT64_C(0x31676d6968747762)
#define VERSION 1
/* Tensors begin on an OS page after the JSON. */
#define PAGE ((size_t)4096)
#define NAME_MAX_BYTES 128

/* The block's first bytes; `json_size` bytes of JSON follow. */
struct prefix {
    uint64_t magic;
    uint64_t json_size;
};

struct berth_weight_image {
    char name[NAME_MAX_BYTES];
    unsigned char *data;
    size_t size;
    json_t *head;
    const json_t *tensors; /* name -> where and what; borrowed from head */
};

static size_t round_up(size_t value, size_t step)
{
    return (value + step - 1) & ~(step - 1);
}

/* The folder's own name for people, and a hash of its whole path. */
static void make_name(const char *dir, char name[NAME_MAX_BYTES])
{
    char path[PATH_MAX];
    const char *base;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    if (!realpath(dir, path))
        snprintf(path, sizeof(path), "%s", dir);
    for (const unsigned char *at = (const unsigned char *)path; *at; at++)
        hash = (hash ^ *at) * UINT64_C(0x100000001b3);
    base = strrchr(path, '/');
    snprintf(name, NAME_MAX_BYTES, "berth-infer/%.64s-%016" PRIx64, base ? base + 1 : path, hash);
    for (char *at = name; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 127)
            *at = '?';
}

static json_t *look_at_file(const char *dir, const char *name)
{
    char path[PATH_MAX];
    struct stat st;

    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
        return NULL;
    if (stat(path, &st) < 0)
        return errno == ENOENT ? json_pack("{s:s,s:b}", "name", name, "there", 0) : NULL;
    return json_pack("{s:s,s:b,s:I,s:I,s:I,s:I,s:I,s:I}", "name", name, "there", 1, "size",
                     (json_int_t)st.st_size, "inode", (json_int_t)st.st_ino, "mtime",
                     (json_int_t)st.st_mtim.tv_sec, "mtime_ns", (json_int_t)st.st_mtim.tv_nsec,
                     "ctime", (json_int_t)st.st_ctim.tv_sec, "ctime_ns",
                     (json_int_t)st.st_ctim.tv_nsec);
}

json_t *berth__weight_files_look(const char *dir, const struct berth_checkpoint *checkpoint)
{
    json_t *files = json_array();
    const char *name = "model.safetensors";

    for (size_t i = 0; files && name; name = berth__checkpoint_file(checkpoint, i++)) {
        json_t *file = look_at_file(dir, name);

        if (!file || json_array_append_new(files, file) < 0) {
            json_decref(files);
            return NULL;
        }
    }
    return files;
}

/* Each file is what it was. */
static bool files_agree(const char *dir, const json_t *files)
{
    const json_t *file;
    size_t i;

    if (json_array_size(files) == 0)
        return false;
    json_array_foreach(files, i, file)
    {
        const char *name = json_string_value(json_object_get(file, "name"));
        json_t *now = name && !strchr(name, '/') ? look_at_file(dir, name) : NULL;
        bool same = now && json_equal(now, file);

        json_decref(now);
        if (!same)
            return false;
    }
    return true;
}

/* The block's JSON, if it is an image's. */
static int head_parse(struct berth_weight_image *image)
{
    struct prefix prefix;
    json_error_t error;

    if (image->size < sizeof(prefix))
        return -ENOENT;
    memcpy(&prefix, image->data, sizeof(prefix));
    if (prefix.magic != MAGIC || prefix.json_size > image->size - sizeof(prefix))
        return -ENOENT;
    image->head = json_loadb((const char *)image->data + sizeof(prefix), prefix.json_size,
                             JSON_REJECT_DUPLICATES, &error);
    image->tensors = json_object_get(image->head, "tensors");
    if (json_integer_value(json_object_get(image->head, "version")) != VERSION ||
        !json_is_object(image->tensors))
        return -ENOENT;
    return 0;
}

static int refuse(struct berth_failure *failure, const char *what, int r)
{
    switch (r) {
    case -ENOSYS:
        berth__failure_set(failure, ENOSYS,
                           "--persist has no effect: Berth does not serve this process; start it "
                           "by `berth run --policy FILE` with a tier that has a name");
        return r;
    case -ENODEV:
        berth__failure_set(failure, ENODEV,
                           "--persist has no effect: no tier of the policy has a name");
        return r;
    default:
        berth__failure_set(failure, -r, "--persist: %s: %s", what, strerror(-r));
        return r;
    }
}

int berth__weight_image_find(const char *dir, struct berth_failure *failure,
                             struct berth_weight_image **ret_image)
{
    struct berth_weight_image *image = calloc(1, sizeof(*image));
    void *data = NULL;
    int r;

    if (!image)
        return berth__failure_no_memory(failure, dir, sizeof(*image));
    make_name(dir, image->name);
    r = berth_persist_find(image->name, &data, &image->size);
    if (r == 0) {
        image->data = data;
        r = head_parse(image);
        if (r == 0 && !files_agree(dir, json_object_get(image->head, "files")))
            r = -ENOENT;
    } else if (r == -EBADMSG) {
        r = -ENOENT; /* its bytes are not what they were: it is made anew */
    } else if (r != -ENOENT) {
        refuse(failure, "the weights cannot be looked for", r);
    }
    if (r < 0) {
        berth__weight_image_free(image);
        return r;
    }
    *ret_image = image;
    return 0;
}

void berth__weight_image_free(struct berth_weight_image *image)
{
    if (!image)
        return;
    if (image->data)
        berth_persist_detach(image->data);
    json_decref(image->head);
    free(image);
}

static uint64_t number(const json_t *object, const char *field)
{
    json_int_t value = json_integer_value(json_object_get(object, field));

    return value < 0 ? UINT64_MAX : (uint64_t)value;
}

int berth__weight_image_get(const struct berth_weight_image *image, const char *name, size_t rows,
                            size_t cols, size_t dim_count, struct berth_failure *failure,
                            struct berth_tensor *ret_tensor)
{
    const json_t *entry = json_object_get(image->tensors, name);
    uint64_t offset = number(entry, "offset"), dtype = number(entry, "dtype");
    uint64_t count;
    struct berth_tensor tensor = {.rows = rows, .cols = cols, .borrowed = true};

    if (!entry || number(entry, "rows") != rows || number(entry, "cols") != cols ||
        number(entry, "dims") != dim_count || dtype >= BERTH_DTYPE_COUNT ||
        __builtin_mul_overflow(rows, cols, &count))
        return berth__failure_set(failure, ENOENT, "%s: %s: is not in the image in this shape",
                                  image->name, name);
    tensor.dtype = (enum berth_dtype)dtype;
    if (__builtin_mul_overflow(count, berth__dtype_size(tensor.dtype), &tensor.size_bytes) ||
        offset > image->size || tensor.size_bytes > image->size - offset ||
        offset % BERTH_MEMORY_ALIGN != 0)
        return berth__failure_set(failure, ENOENT, "%s: %s: is not within the image", image->name,
                                  name);
    tensor.data = image->data + offset;
    berth__memory_lend(BERTH_TAG_WEIGHT, tensor.size_bytes);
    *ret_tensor = tensor;
    return 0;
}

/* Where each tensor will be, counted from the first; and how much all take. */
static json_t *plan_tensors(struct berth_checkpoint *checkpoint, size_t start, size_t *ret_end)
{
    json_t *tensors = json_object();
    size_t at = start;

    for (size_t i = 0; tensors; i++) {
        const struct berth_checkpoint_loaded *loaded = berth__checkpoint_loaded(checkpoint, i);
        const struct berth_tensor *tensor;

        if (!loaded)
            break;
        tensor = loaded->tensor;
        if (json_object_set_new(
                tensors, loaded->name,
                json_pack("{s:i,s:I,s:I,s:I,s:I}", "dtype", (int)tensor->dtype, "rows",
                          (json_int_t)tensor->rows, "cols", (json_int_t)tensor->cols, "dims",
                          (json_int_t)loaded->dim_count, "offset", (json_int_t)at)) < 0) {
            json_decref(tensors);
            return NULL;
        }
        at += round_up(tensor->size_bytes, BERTH_MEMORY_ALIGN);
    }
    *ret_end = at;
    return tensors;
}

/*
 * The JSON with the tensors' offsets in it, which depend on how long it is: the room for it is
 * found with the largest offsets that there could be.
 */
static char *plan_head(struct berth_checkpoint *checkpoint, const json_t *files, size_t *ret_start,
                       size_t *ret_end)
{
    size_t start = (size_t)1 << 60, end = 0;
    char *text = NULL;

    for (int round = 0; round < 2; round++) {
        json_t *tensors = plan_tensors(checkpoint, start, &end);
        json_t *head = tensors ? json_pack("{s:i,s:O,s:o}", "version", VERSION, "files", files,
                                           "tensors", tensors)
                               : NULL;

        free(text);
        text = head ? json_dumps(head, JSON_COMPACT) : NULL;
        json_decref(head);
        if (!text)
            return NULL;
        if (round == 0)
            start = round_up(sizeof(struct prefix) + strlen(text), PAGE);
    }
    *ret_start = start;
    *ret_end = end;
    return text;
}

static void fill(unsigned char *data, const char *text, struct berth_checkpoint *checkpoint,
                 size_t start)
{
    const struct prefix prefix = {MAGIC, strlen(text)};
    size_t at = start;

    memcpy(data, &prefix, sizeof(prefix));
    memcpy(data + sizeof(prefix), text, prefix.json_size);
    for (size_t i = 0;; i++) {
        const struct berth_checkpoint_loaded *loaded = berth__checkpoint_loaded(checkpoint, i);

        if (!loaded)
            return;
        memcpy(data + at, loaded->tensor->data, loaded->tensor->size_bytes);
        at += round_up(loaded->tensor->size_bytes, BERTH_MEMORY_ALIGN);
    }
}

/* From now on the tensors are those in the image. */
static void move_tensors(unsigned char *data, struct berth_checkpoint *checkpoint, size_t start)
{
    size_t at = start;

    for (size_t i = 0;; i++) {
        const struct berth_checkpoint_loaded *loaded = berth__checkpoint_loaded(checkpoint, i);
        struct berth_tensor *tensor = loaded ? loaded->tensor : NULL;

        if (!tensor)
            return;
        berth__tensor_done(tensor);
        tensor->data = data + at;
        tensor->borrowed = true;
        berth__memory_lend(BERTH_TAG_WEIGHT, tensor->size_bytes);
        at += round_up(tensor->size_bytes, BERTH_MEMORY_ALIGN);
    }
}

int berth__weight_image_make(const char *dir, struct berth_checkpoint *checkpoint,
                             const json_t *files, struct berth_failure *failure,
                             struct berth_weight_image **ret_image)
{
    struct berth_weight_image *image = calloc(1, sizeof(*image));
    size_t start = 0, end = 0;
    char *text = image && files ? plan_head(checkpoint, files, &start, &end) : NULL;
    void *data = NULL;
    int r = text ? 0 : -ENOMEM;

    if (r == 0) {
        make_name(dir, image->name);
        r = berth_persist_replace(image->name, end, &data);
    }
    if (r == 0) {
        image->data = data;
        image->size = end;
        fill(data, text, checkpoint, start);
        r = files_agree(dir, files) ? berth_persist_commit(data) : -ESTALE;
    }
    free(text);
    if (r < 0) {
        berth__weight_image_free(image);
        return refuse(failure, "the weights cannot be kept", r);
    }
    move_tensors(image->data, checkpoint, start);
    *ret_image = image;
    return 0;
}
