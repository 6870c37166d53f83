/* SPDX-License-Identifier: Apache-2.0 */
#include "safetensors.h"

#include "json_field.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Field names in messages are cut here; a tensor's name may be as long as the header. */
#define NAME_SHOWN_MAX 200

/* Files of this size and more are asked of the kernel in pieces, which it limits to 2 GiB. */
#define READ_PIECE_BYTES ((size_t)1 << 28)

struct berth_safetensors {
    char *path;
    int fd;
    json_t *header;
    struct berth_safetensors_entry *entries; /* sorted by name */
    size_t entry_count;
};

static int bytes_read(const struct berth_safetensors *file, uint64_t offset, size_t size,
                      void *data, struct berth_failure *failure)
{
    char *at = data;

    while (size > 0) {
        ssize_t n =
            pread(file->fd, at, size < READ_PIECE_BYTES ? size : READ_PIECE_BYTES, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return berth__failure_set(failure, errno, "%s: %s", file->path, strerror(errno));
        if (n == 0)
            return berth__failure_set(failure, EINVAL,
                                      "%s: ends at byte %" PRIu64 "; expected %zu bytes more",
                                      file->path, offset, size);
        at += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int header_read(struct berth_safetensors *file, uint64_t file_size,
                       struct berth_failure *failure, uint64_t *ret_data_start)
{
    unsigned char prefix[8];
    uint64_t length = 0;
    json_error_t error;
    char *text;
    int r;

    if (file_size < sizeof(prefix))
        return berth__failure_set(failure, EINVAL, "%s: has %" PRIu64 " bytes; expected at least 8",
                                  file->path, file_size);
    r = bytes_read(file, 0, sizeof(prefix), prefix, failure);
    if (r < 0)
        return r;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | prefix[i];
    if (length > BERTH_SAFETENSORS_HEADER_MAX || length > file_size - sizeof(prefix))
        return berth__failure_set(failure, EINVAL,
                                  "%s: header length: is %" PRIu64 "; expected at most %" PRIu64
                                  " (the file has %" PRIu64 " bytes)",
                                  file->path, length, BERTH_SAFETENSORS_HEADER_MAX, file_size);
    text = malloc((size_t)length + 1);
    if (!text)
        return berth__failure_no_memory(failure, file->path, length);
    r = bytes_read(file, sizeof(prefix), (size_t)length, text, failure);
    if (r == 0) {
        file->header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
        if (!file->header)
            r = berth__failure_set(failure, EINVAL, "%s: header: %s at byte %d; expected JSON",
                                   file->path, error.text, error.position);
        else if (!json_is_object(file->header))
            r = berth__failure_set(failure, EINVAL, "%s: header: is not an object; expected {...}",
                                   file->path);
    }
    free(text);
    if (r == 0)
        *ret_data_start = sizeof(prefix) + length;
    return r;
}

/* The bits of one number of a dtype; 0 for a dtype that the format does not have. */
static unsigned int dtype_bits(const char *dtype)
{
    static const struct {
        const char *name;
        unsigned int bits;
    } dtypes[] = {
        {"F64", 64}, {"F32", 32}, {"F16", 16}, {"BF16", 16},   {"I64", 64},    {"I32", 32},
        {"I16", 16}, {"I8", 8},   {"U64", 64}, {"U32", 32},    {"U16", 16},    {"U8", 8},
        {"BOOL", 8}, {"C64", 64}, {"F4", 4},   {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8},
    };

    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
        if (strcmp(dtypes[i].name, dtype) == 0)
            return dtypes[i].bits;
    }
    return 0;
}

static int shape_read(const struct berth_json_place *place, const json_t *object,
                      struct berth_safetensors_entry *entry, uint64_t *ret_count)
{
    const json_t *shape = json_object_get(object, "shape");
    uint64_t count = 1;

    if (!json_is_array(shape) || json_array_size(shape) > BERTH_SAFETENSORS_DIMS_MAX)
        return berth__json_refuse(place, "shape", shape, "an array of at most 16 sizes");
    entry->dim_count = json_array_size(shape);
    for (size_t i = 0; i < entry->dim_count; i++) {
        const json_t *dim = json_array_get(shape, i);

        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return berth__json_refuse(place, "shape", dim, "an array of sizes of 0 or more");
        entry->dims[i] = (uint64_t)json_integer_value(dim);
        if (__builtin_mul_overflow(count, entry->dims[i], &count))
            return berth__json_refuse(place, "shape", shape, "a product that fits 64 bits");
    }
    *ret_count = count;
    return 0;
}

static int range_read(const struct berth_json_place *place, const json_t *object,
                      uint64_t data_size, uint64_t *ret_begin, uint64_t *ret_end)
{
    const json_t *range = json_object_get(object, "data_offsets");
    const json_t *first = json_array_get(range, 0), *second = json_array_get(range, 1);
    json_int_t begin = json_integer_value(first), end = json_integer_value(second);

    if (json_array_size(range) != 2 || !json_is_integer(first) || !json_is_integer(second))
        return berth__json_refuse(place, "data_offsets", range, "[begin, end]");
    if (begin < 0 || end < begin || (uint64_t)end > data_size)
        return berth__failure_set(place->failure, EINVAL,
                                  "%s: %sdata_offsets: is [%" JSON_INTEGER_FORMAT
                                  ", %" JSON_INTEGER_FORMAT
                                  "]; expected a range within the file's %" PRIu64 " data bytes",
                                  place->file, place->section, begin, end, data_size);
    *ret_begin = (uint64_t)begin;
    *ret_end = (uint64_t)end;
    return 0;
}

static int entry_read(const struct berth_safetensors *file, const char *name, const json_t *object,
                      uint64_t data_start, uint64_t data_size, struct berth_failure *failure,
                      struct berth_safetensors_entry *entry)
{
    char section[NAME_SHOWN_MAX + 8];
    const struct berth_json_place place = {file->path, section, failure};
    uint64_t count = 0, begin = 0, end = 0, bits;
    int r;

    snprintf(section, sizeof(section), "%.*s: ", NAME_SHOWN_MAX, name);
    entry->name = name;
    r = berth__json_get_string(&place, object, "dtype", &entry->dtype);
    if (r < 0)
        return r;
    if (dtype_bits(entry->dtype) == 0)
        return berth__json_refuse(&place, "dtype", json_object_get(object, "dtype"),
                                  "a dtype of the safetensors format");
    r = shape_read(&place, object, entry, &count);
    if (r == 0)
        r = range_read(&place, object, data_size, &begin, &end);
    if (r < 0)
        return r;
    if (__builtin_mul_overflow(count, dtype_bits(entry->dtype), &bits) || bits % 8 != 0 ||
        bits / 8 != end - begin)
        return berth__failure_set(failure, EINVAL,
                                  "%s: %sdata_offsets: hold %" PRIu64
                                  " bytes; expected the size of %" PRIu64 " numbers of %s",
                                  file->path, section, end - begin, count, entry->dtype);
    entry->offset = data_start + begin;
    entry->size_bytes = end - begin;
    return 0;
}

static int entry_compare_offset(const void *a, const void *b)
{
    const struct berth_safetensors_entry *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->size_bytes > y->size_bytes) - (x->size_bytes < y->size_bytes);
}

static int entry_compare_name(const void *a, const void *b)
{
    const struct berth_safetensors_entry *x = a, *y = b;

    return strcmp(x->name, y->name);
}

/* Sorts by offset and wants each range to begin where the one before it ended. */
static int entries_check(struct berth_safetensors *file, uint64_t data_start, uint64_t file_size,
                         struct berth_failure *failure)
{
    uint64_t at = data_start;

    qsort(file->entries, file->entry_count, sizeof(file->entries[0]), entry_compare_offset);
    for (size_t i = 0; i < file->entry_count; i++) {
        const struct berth_safetensors_entry *entry = &file->entries[i];

        if (entry->offset != at)
            return berth__failure_set(failure, EINVAL,
                                      "%s: %.*s: data_offsets: begin at %" PRIu64
                                      "; expected %" PRIu64 ", where the tensor before it ends",
                                      file->path, NAME_SHOWN_MAX, entry->name,
                                      entry->offset - data_start, at - data_start);
        at += entry->size_bytes;
    }
    if (at != file_size)
        return berth__failure_set(failure, EINVAL,
                                  "%s: has %" PRIu64 " bytes after the last tensor; expected none",
                                  file->path, file_size - at);
    return 0;
}

static int header_parse(struct berth_safetensors *file, uint64_t data_start, uint64_t file_size,
                        struct berth_failure *failure)
{
    const char *name;
    json_t *value;
    int r;

    file->entries = calloc(json_object_size(file->header) + 1, sizeof(file->entries[0]));
    if (!file->entries)
        return berth__failure_no_memory(failure, file->path, json_object_size(file->header));
    json_object_foreach(file->header, name, value)
    {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        r = entry_read(file, name, value, data_start, file_size - data_start, failure,
                       &file->entries[file->entry_count]);
        if (r < 0)
            return r;
        file->entry_count++;
    }
    r = entries_check(file, data_start, file_size, failure);
    if (r < 0)
        return r;
    qsort(file->entries, file->entry_count, sizeof(file->entries[0]), entry_compare_name);
    return 0;
}

int berth__safetensors_open(const char *path, struct berth_failure *failure,
                            struct berth_safetensors **ret_file)
{
    struct berth_safetensors *file = calloc(1, sizeof(*file));
    uint64_t data_start = 0;
    struct stat st;
    int r;

    if (!file)
        return berth__failure_no_memory(failure, path, sizeof(*file));
    file->fd = -1;
    file->path = strdup(path);
    if (!file->path) {
        r = berth__failure_no_memory(failure, path, strlen(path));
        goto err_close;
    }
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->fd < 0 || fstat(file->fd, &st) < 0) {
        r = berth__failure_set(failure, errno, "%s: %s", path, strerror(errno));
        goto err_close;
    }
    if (!S_ISREG(st.st_mode)) {
        r = berth__failure_set(failure, EINVAL, "%s: is not a regular file", path);
        goto err_close;
    }
    r = header_read(file, (uint64_t)st.st_size, failure, &data_start);
    if (r == 0)
        r = header_parse(file, data_start, (uint64_t)st.st_size, failure);
    if (r < 0)
        goto err_close;
    *ret_file = file;
    return 0;

err_close:
    berth__safetensors_close(file);
    return r;
}

void berth__safetensors_close(struct berth_safetensors *file)
{
    if (!file)
        return;
    if (file->fd >= 0)
        close(file->fd);
    json_decref(file->header);
    free(file->entries);
    free(file->path);
    free(file);
}

const struct berth_safetensors_entry *berth__safetensors_find(const struct berth_safetensors *file,
                                                              const char *name)
{
    struct berth_safetensors_entry key = {.name = name};

    return bsearch(&key, file->entries, file->entry_count, sizeof(key), entry_compare_name);
}

const char *berth__safetensors_path(const struct berth_safetensors *file)
{
    return file->path;
}

int berth__safetensors_read(const struct berth_safetensors *file,
                            const struct berth_safetensors_entry *entry,
                            struct berth_failure *failure, void *data)
{
    return bytes_read(file, entry->offset, (size_t)entry->size_bytes, data, failure);
}
