/* SPDX-License-Identifier: Apache-2.0 */
#include "json_field.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Longer strings are shown up to here, so that a message stays one line. */
#define SHOWN_BYTES_MAX 60

int berth__json_file_load(const char *path, struct berth_failure *failure, json_t **ret_root)
{
    json_error_t error;
    struct stat st;
    json_t *root;
    int fd;

    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return berth__failure_set(failure, errno, "%s: %s", path, strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return berth__failure_set(failure, EINVAL, "%s: is not a regular file", path);
    }
    root = json_loadfd(fd, JSON_REJECT_DUPLICATES, &error);
    close(fd);
    if (!root)
        return berth__failure_set(failure, EINVAL, "%s:%d: %s; expected JSON", path, error.line,
                                  error.text);
    if (!json_is_object(root)) {
        json_decref(root);
        return berth__failure_set(failure, EINVAL, "%s: is not an object; expected {...}", path);
    }
    *ret_root = root;
    return 0;
}

static void value_describe(const json_t *value, char *text, size_t size)
{
    switch (value ? json_typeof(value) : JSON_NULL) {
    case JSON_OBJECT:
        snprintf(text, size, "is an object");
        break;
    case JSON_ARRAY:
        snprintf(text, size, "is an array");
        break;
    case JSON_STRING:
        snprintf(text, size, "is \"%.*s\"", SHOWN_BYTES_MAX, json_string_value(value));
        break;
    case JSON_INTEGER:
        snprintf(text, size, "is %" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        snprintf(text, size, "is %g", json_real_value(value));
        break;
    case JSON_TRUE:
        snprintf(text, size, "is true");
        break;
    case JSON_FALSE:
        snprintf(text, size, "is false");
        break;
    default:
        snprintf(text, size, value ? "is null" : "is missing");
        break;
    }
}

int berth__json_refuse(const struct berth_json_place *place, const char *field, const json_t *value,
                       const char *expected)
{
    char text[SHOWN_BYTES_MAX + 64];

    value_describe(value, text, sizeof(text));
    return berth__failure_set(place->failure, EINVAL, "%s: %s%s: %s; expected %s", place->file,
                              place->section, field, text, expected);
}

static bool field_absent(const json_t *object, const char *field)
{
    const json_t *value = json_object_get(object, field);

    return !value || json_is_null(value);
}

int berth__json_get_size(const struct berth_json_place *place, const json_t *object,
                         const char *field, size_t max, size_t *ret_value)
{
    const json_t *value = json_object_get(object, field);
    char expected[64];

    if (!json_is_integer(value) || json_integer_value(value) < 1 ||
        (uint64_t)json_integer_value(value) > max) {
        snprintf(expected, sizeof(expected), "an integer from 1 to %zu", max);
        return berth__json_refuse(place, field, value, expected);
    }
    *ret_value = (size_t)json_integer_value(value);
    return 0;
}

int berth__json_opt_size(const struct berth_json_place *place, const json_t *object,
                         const char *field, size_t max, size_t *ret_value)
{
    if (field_absent(object, field))
        return 0;
    return berth__json_get_size(place, object, field, max, ret_value);
}

int berth__json_get_number(const struct berth_json_place *place, const json_t *object,
                           const char *field, double *ret_value)
{
    const json_t *value = json_object_get(object, field);

    if (!json_is_number(value) || !isfinite(json_number_value(value)) ||
        json_number_value(value) <= 0)
        return berth__json_refuse(place, field, value, "a number above 0");
    *ret_value = json_number_value(value);
    return 0;
}

int berth__json_opt_number(const struct berth_json_place *place, const json_t *object,
                           const char *field, double *ret_value)
{
    if (field_absent(object, field))
        return 0;
    return berth__json_get_number(place, object, field, ret_value);
}

int berth__json_opt_bool(const struct berth_json_place *place, const json_t *object,
                         const char *field, bool *ret_value)
{
    const json_t *value = json_object_get(object, field);

    if (field_absent(object, field))
        return 0;
    if (!json_is_boolean(value))
        return berth__json_refuse(place, field, value, "true or false");
    *ret_value = json_is_true(value);
    return 0;
}

int berth__json_get_string(const struct berth_json_place *place, const json_t *object,
                           const char *field, const char **ret_value)
{
    const json_t *value = json_object_get(object, field);

    if (!json_is_string(value))
        return berth__json_refuse(place, field, value, "a string");
    *ret_value = json_string_value(value);
    return 0;
}

int berth__json_opt_string(const struct berth_json_place *place, const json_t *object,
                           const char *field, const char **ret_value)
{
    if (field_absent(object, field))
        return 0;
    return berth__json_get_string(place, object, field, ret_value);
}
