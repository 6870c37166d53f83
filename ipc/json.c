/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/json.h"

#include "alloc/private_library.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The version of the interface in <jansson.h>, as the library's file name carries it. */
#define LIBRARY "libjansson.so.4"

/* X(result, name, parameters, arguments) */
#define FUNCTIONS(X)                                                                               \
    X(json_t *, json_object, (void), ())                                                           \
    X(json_t *, json_array, (void), ())                                                            \
    X(json_t *, json_string, (const char *text), (text))                                           \
    X(json_t *, json_integer, (json_int_t value), (value))                                         \
    X(json_t *, json_true, (void), ())                                                             \
    X(json_t *, json_false, (void), ())                                                            \
    X(json_t *, json_null, (void), ())                                                             \
    X(json_t *, json_object_get, (const json_t *object, const char *key), (object, key))           \
    X(int, json_object_set_new, (json_t * object, const char *key, json_t *value),                 \
      (object, key, value))                                                                        \
    X(void *, json_object_iter, (json_t * object), (object))                                       \
    X(void *, json_object_iter_next, (json_t * object, void *iter), (object, iter))                \
    X(const char *, json_object_iter_key, (void *iter), (iter))                                    \
    X(json_t *, json_object_iter_value, (void *iter), (iter))                                      \
    X(int, json_array_append_new, (json_t * array, json_t * value), (array, value))                \
    X(size_t, json_array_size, (const json_t *array), (array))                                     \
    X(json_t *, json_array_get, (const json_t *array, size_t index), (array, index))               \
    X(const char *, json_string_value, (const json_t *string), (string))                           \
    X(size_t, json_string_length, (const json_t *string), (string))                                \
    X(json_int_t, json_integer_value, (const json_t *integer), (integer))                          \
    X(json_t *, json_loadb,                                                                        \
      (const char *buffer, size_t length, size_t flags, json_error_t *error),                      \
      (buffer, length, flags, error))                                                              \
    X(char *, json_dumps, (const json_t *json, size_t flags), (json, flags))                       \
    X(json_t *, json_vpack_ex,                                                                     \
      (json_error_t * error, size_t flags, const char *format, va_list args),                      \
      (error, flags, format, args))

/* Written once by the control thread, before anything is called through it. */
static struct {
#define X(result, name, parameters, arguments) result(*name) parameters;
    FUNCTIONS(X)
#undef X
    void (*json_delete)(json_t *json);
} library;

#define X(result, name, parameters, arguments)                                                     \
    result name parameters                                                                         \
    {                                                                                              \
        return library.name arguments;                                                             \
    }
FUNCTIONS(X)
#undef X

void json_delete(json_t *json)
{
    library.json_delete(json);
}

json_t *json_pack(const char *format, ...)
{
    va_list args;
    json_t *json;

    va_start(args, format);
    json = library.json_vpack_ex(NULL, 0, format, args);
    va_end(args);
    return json;
}

static const struct {
    const char *name;
    void *slot;
} slots[] = {
#define X(result, name, parameters, arguments) {#name, &library.name},
    FUNCTIONS(X)
#undef X
        {"json_delete", &library.json_delete},
};

static int load_once(char *why, size_t why_size)
{
    char reason[200];
    void *handle = berth__private_library_open(LIBRARY, 0, reason, sizeof(reason));

    if (!handle) {
        snprintf(why, why_size, "jansson cannot be loaded: %s", reason);
        return -ENOENT;
    }
    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        void *function = dlsym(handle, slots[i].name);

        if (!function) {
            snprintf(why, why_size, "%s has no %s; expected jansson 2.10 or later", LIBRARY,
                     slots[i].name);
            dlclose(handle);
            return -ENOENT;
        }
        *(void **)slots[i].slot = function;
    }
    return 0;
}

int berth__json_load(char *why, size_t why_size)
{
    static char first_why[256];
    static bool tried;
    static int result;

    if (!tried) {
        result = load_once(first_why, sizeof(first_why));
        tried = true;
    }
    snprintf(why, why_size, "%s", first_why);
    return result;
}

const char *berth__json_quote(const char *text, char *ret, size_t size)
{
    size_t used = 0;

    ret[used++] = '"';
    for (; *text && used + 4 <= size; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\')
            ret[used++] = '\\';
        ret[used++] = c < 0x20 || c > 0x7e ? '?' : (char)c;
    }
    ret[used++] = '"';
    ret[used] = '\0';
    return ret;
}

json_t *berth__json_text(const char *text)
{
    json_t *json = json_string(text);
    char *copy;

    if (json)
        return json;
    copy = strdup(text);
    if (!copy)
        return NULL;
    for (char *c = copy; *c; c++)
        if (*c & 0x80)
            *c = '?';
    json = json_string(copy);
    free(copy);
    return json;
}
