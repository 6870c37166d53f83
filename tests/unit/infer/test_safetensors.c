/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a damaged or hostile model file gives one clear message and nothing else.
 * Method: one file per mistake, written here; the message must name the file and the
 * tensor or field. Good files are read back byte for byte, sharded ones too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "checkpoint.h"
#include "folder.h"
#include "safetensors.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct berth_failure failure;

/* Opening must fail with a message that has the file's name and `expected`. */
static void open_refused(const char *dir, const char *name, const char *expected)
{
    struct berth_safetensors *file = NULL;
    char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    assert_true(berth__safetensors_open(path, &failure, &file) < 0);
    assert_null(file);
    if (!strstr(failure.text, name) || !strstr(failure.text, expected))
        fail_msg("\"%s\"; expected the file's name and \"%s\"", failure.text, expected);
}

static void header_refused(const char *header, size_t data_size, const char *expected)
{
    char *dir = folder_new();

    folder_write_safetensors(dir, "m.safetensors", header, data_size);
    open_refused(dir, "m.safetensors", expected);
    folder_free(dir);
}

static void bytes_refused(const void *bytes, size_t size, const char *expected)
{
    char *dir = folder_new();

    folder_write(dir, "m.safetensors", bytes, size);
    open_refused(dir, "m.safetensors", expected);
    folder_free(dir);
}

static void header_lengths_are_checked(void **state)
{
    bytes_refused("", 0, "expected at least 8");
    bytes_refused("\2\0\0\0\0\0\0", 7, "expected at least 8");
    bytes_refused("\3\0\0\0\0\0\0\0{}", 10, "header length: is 3");
    bytes_refused("\377\377\377\377\377\377\377\377{}", 10, "header length");
    bytes_refused("\377\377\377\177\0\0\0\0{}", 10, "header length");
    bytes_refused("\0\0\0\0\0\0\0\0", 8, "expected JSON");
}

static void headers_that_are_no_tables_are_refused(void **state)
{
    header_refused("{", 0, "expected JSON");
    header_refused("[]", 0, "expected {...}");
    header_refused("{\"a\":1}", 0, "a: dtype: is missing");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                   "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                   4, "duplicate");
}

static void entries_are_checked(void **state)
{
    header_refused("{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
                   "a: dtype: is 7");
    header_refused("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
                   "a: dtype: is \"F33\"");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4,
                   "a: shape: is 1");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4,
                   "a: shape: is -1");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4,
                   "a: shape");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],"
                   "\"data_offsets\":[0,4]}}",
                   4, "fits 64 bits");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904],"
                   "\"data_offsets\":[0,4]}}",
                   4, "a: data_offsets: hold 4 bytes");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"
                   "\"data_offsets\":[0,4]}}",
                   4, "at most 16");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4,
                   "expected the size of 2 numbers of F32");
}

static void ranges_are_checked(void **state)
{
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "data_offsets: is missing");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4,
                   "expected [begin, end]");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4,
                   "is [4, 0]");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4,
                   "is [-4, 0]");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 4,
                   "within the file's 4 data bytes");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
                   "begin at 4; expected 0");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                   "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
                   8, "b: data_offsets: begin at 4; expected 8");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 5,
                   "1 bytes after the last tensor");
    header_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":"
                   "[0,99999999999999999999]}}",
                   4, "expected JSON");
}

static void what_is_no_file_is_refused(void **state)
{
    char *dir = folder_new(), path[PATH_MAX];

    open_refused(dir, "missing.safetensors", "No such file");
    snprintf(path, sizeof(path), "%s/fifo", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    open_refused(dir, "fifo", "not a regular file");
    folder_free(dir);
}

#define TENSOR_A "\"a\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[0,12]}"
#define TENSOR_B "\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[12,16]}"

static void a_file_that_shrinks_after_the_header_is_refused(void **state)
{
    char *dir = folder_new(), path[PATH_MAX], data[16];
    const struct berth_safetensors_entry *entry;
    struct berth_safetensors *file;

    folder_write_safetensors(dir, "m.safetensors", "{" TENSOR_A "," TENSOR_B "}", 16);
    snprintf(path, sizeof(path), "%s/m.safetensors", dir);
    assert_int_equal(berth__safetensors_open(path, &failure, &file), 0);
    entry = berth__safetensors_find(file, "b");
    assert_non_null(entry);
    assert_null(berth__safetensors_find(file, "c"));
    assert_int_equal(truncate(path, (off_t)entry->offset + 2), 0);
    assert_int_equal(berth__safetensors_read(file, entry, &failure, data), -EINVAL);
    assert_non_null(strstr(failure.text, "expected 2 bytes more"));
    berth__safetensors_close(file);
    folder_free(dir);
}

static void loading_checks_shape_and_dtype(void **state)
{
    char *dir = folder_new();
    struct berth_checkpoint *checkpoint;
    struct berth_tensor tensor = {0};

    folder_write_safetensors(dir, "model.safetensors",
                             "{\"__metadata__\":{\"format\":\"pt\"}," TENSOR_A "," TENSOR_B
                             ",\"i\":{\"dtype\":\"I32\",\"shape\":[1,1],\"data_offsets\":[16,20]}}",
                             20);
    assert_int_equal(berth__checkpoint_open(dir, &failure, &checkpoint), 0);
    assert_true(berth__checkpoint_load_matrix(checkpoint, "a", 3, 2, &failure, &tensor) < 0);
    assert_non_null(strstr(failure.text, "a: shape: is [2, 3]; expected [3, 2]"));
    assert_true(berth__checkpoint_load_vector(checkpoint, "a", 2, &failure, &tensor) < 0);
    assert_non_null(strstr(failure.text, "expected [2] by config.json"));
    assert_true(berth__checkpoint_load_matrix(checkpoint, "i", 1, 1, &failure, &tensor) < 0);
    assert_non_null(strstr(failure.text, "i: dtype: is I32; expected F32, F16 or BF16"));
    assert_true(berth__checkpoint_load_matrix(checkpoint, "z", 1, 1, &failure, &tensor) < 0);
    assert_non_null(strstr(failure.text, "z: is missing"));
    assert_null(tensor.data);
    assert_int_equal(berth__checkpoint_load_matrix(checkpoint, "a", 2, 3, &failure, &tensor), 0);
    assert_int_equal(tensor.dtype, BERTH_DTYPE_BF16);
    assert_int_equal(tensor.size_bytes, 12);
    berth__tensor_done(&tensor);
    assert_int_equal(berth__checkpoint_load_vector(checkpoint, "b", 2, &failure, &tensor), 0);
    assert_int_equal(tensor.dtype, BERTH_DTYPE_F32);
    berth__tensor_done(&tensor);
    berth__checkpoint_close(checkpoint);
    folder_free(dir);
}

static void index_refused(const char *index, const char *expected)
{
    char *dir = folder_new();
    struct berth_checkpoint *checkpoint = NULL;

    folder_write_text(dir, "model.safetensors.index.json", index);
    folder_write_safetensors(dir, "one", "{" TENSOR_A "}", 12);
    assert_true(berth__checkpoint_open(dir, &failure, &checkpoint) < 0);
    assert_null(checkpoint);
    if (!strstr(failure.text, expected))
        fail_msg("\"%s\"; expected \"%s\"", failure.text, expected);
    folder_free(dir);
}

static void an_index_is_checked(void **state)
{
    index_refused("{", "index.json:1:");
    index_refused("{}", "index.json: weight_map: is missing");
    index_refused("{\"weight_map\":[]}", "weight_map: is an array");
    index_refused("{\"weight_map\":{\"a\":1}}", "weight_map.a: is 1");
    index_refused("{\"weight_map\":{\"a\":\"../one\"}}", "weight_map.a: is \"../one\"");
    index_refused("{\"weight_map\":{\"a\":\"..\"}}", "weight_map.a");
    index_refused("{\"weight_map\":{\"a\":\"\"}}", "weight_map.a");
    index_refused("{\"weight_map\":{\"a\":\"two\"}}", "two: No such file");
}

static void shards_are_read_by_the_index(void **state)
{
    char *dir = folder_new();
    struct berth_checkpoint *checkpoint;
    struct berth_tensor tensor;

    folder_write_safetensors(dir, "one", "{" TENSOR_A "}", 12);
    folder_write_safetensors(dir, "two",
                             "{\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4);
    folder_write_text(dir, "model.safetensors.index.json",
                      "{\"weight_map\":{\"a\":\"one\",\"b\":\"two\",\"c\":\"two\"}}");
    assert_int_equal(berth__checkpoint_open(dir, &failure, &checkpoint), 0);
    assert_int_equal(berth__checkpoint_load_matrix(checkpoint, "a", 2, 3, &failure, &tensor), 0);
    berth__tensor_done(&tensor);
    assert_int_equal(berth__checkpoint_load_vector(checkpoint, "b", 1, &failure, &tensor), 0);
    berth__tensor_done(&tensor);
    assert_true(berth__checkpoint_load_matrix(checkpoint, "c", 1, 1, &failure, &tensor) < 0);
    assert_non_null(strstr(failure.text, "two: c: is missing"));
    assert_true(berth__checkpoint_load_matrix(checkpoint, "d", 1, 1, &failure, &tensor) < 0);
    assert_non_null(strstr(failure.text, "weight_map.d: is missing"));
    berth__checkpoint_close(checkpoint);
    folder_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_lengths_are_checked),
        cmocka_unit_test(headers_that_are_no_tables_are_refused),
        cmocka_unit_test(entries_are_checked),
        cmocka_unit_test(ranges_are_checked),
        cmocka_unit_test(what_is_no_file_is_refused),
        cmocka_unit_test(a_file_that_shrinks_after_the_header_is_refused),
        cmocka_unit_test(loading_checks_shape_and_dtype),
        cmocka_unit_test(an_index_is_checked),
        cmocka_unit_test(shards_are_read_by_the_index),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
