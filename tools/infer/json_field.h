/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A JSON field: one named value of a file, read with its type and range checked.
 *
 * Every message has the form `FILE: FIELD: what it is; what was expected`. The
 * `_get_` functions insist on the field; the `_opt_` functions leave `*ret_x`
 * as it was when the field is absent or null, which Hugging Face files use
 * interchangeably.
 */
#ifndef BERTH_INFER_JSON_FIELD_H
#define BERTH_INFER_JSON_FIELD_H

#include "failure.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Where the object that is being read came from. */
struct berth_json_place {
    const char *file;
    const char *section; /* "" or the path of the object inside the file with a final dot */
    struct berth_failure *failure;
};

/* Reads a regular file; duplicate keys are an error. The caller owns *ret_root. */
int berth__json_file_load(const char *path, struct berth_failure *failure, json_t **ret_root);

/* Fills the failure with `FILE: SECTION FIELD: is X; expected Y`; returns -EINVAL. */
int berth__json_refuse(const struct berth_json_place *place, const char *field, const json_t *value,
                       const char *expected);

int berth__json_get_size(const struct berth_json_place *place, const json_t *object,
                         const char *field, size_t max, size_t *ret_value);
int berth__json_opt_size(const struct berth_json_place *place, const json_t *object,
                         const char *field, size_t max, size_t *ret_value);
int berth__json_get_number(const struct berth_json_place *place, const json_t *object,
                           const char *field, double *ret_value);
int berth__json_opt_number(const struct berth_json_place *place, const json_t *object,
                           const char *field, double *ret_value);
int berth__json_opt_bool(const struct berth_json_place *place, const json_t *object,
                         const char *field, bool *ret_value);
/* The string belongs to the JSON tree. */
int berth__json_get_string(const struct berth_json_place *place, const json_t *object,
                           const char *field, const char **ret_value);
int berth__json_opt_string(const struct berth_json_place *place, const json_t *object,
                           const char *field, const char **ret_value);

#endif
