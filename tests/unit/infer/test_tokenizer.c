/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: text becomes the ids that Hugging Face's tokenizers gives, and ids become the
 * text again. Method: the cases that make_reference.py recorded, for both spellings of
 * tokenizer.json; then small tokenizers written here, for single fields.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config.h"
#include "folder.h"
#include "text_stream.h"
#include "tokenizer.h"
#include "utf8.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *data_dir;
static const char *shipped_dir; /* the model that the tree ships */
static struct berth_failure failure;

static struct berth_tokenizer *tokenizer_open(const char *dir, uint32_t bos)
{
    struct berth_tokenizer *tokenizer;

    if (berth__tokenizer_load(dir, bos, &failure, &tokenizer) < 0)
        fail_msg("%s", failure.text);
    return tokenizer;
}

static void ids_compare(struct berth_tokenizer *tokenizer, const char *text, size_t size,
                        bool template, const json_t *expected)
{
    struct berth_id_list list = {0};
    bool same;

    assert_int_equal(berth__tokenizer_encode(tokenizer, text, size, template, &failure, &list), 0);
    same = list.count == json_array_size(expected);
    for (size_t i = 0; same && i < list.count; i++)
        same = list.ids[i] == json_integer_value(json_array_get(expected, i));
    if (!same) {
        for (size_t i = 0; i < list.count; i++)
            print_error("%u ", list.ids[i]);
        fail_msg("\"%s\": %zu ids; expected %zu others", text, list.count,
                 json_array_size(expected));
    }
    berth__id_list_done(&list);
}

/* Decodes as main() does; the caller frees the text. */
static char *ids_decode(struct berth_tokenizer *tokenizer, const json_t *ids, size_t *ret_size)
{
    struct berth_text_stream stream = {0};
    char *text = NULL;

    stream.file = open_memstream(&text, ret_size);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        size_t size;
        const unsigned char *bytes = berth__tokenizer_bytes(
            tokenizer, (uint32_t)json_integer_value(json_array_get(ids, i)), &size);

        assert_int_equal(berth__text_stream_write(&stream, bytes, size), 0);
    }
    assert_int_equal(berth__text_stream_finish(&stream), 0);
    fclose(stream.file);
    return text;
}

static void cases_check(const char *name)
{
    char path[PATH_MAX];
    struct berth_tokenizer *tokenizer;
    json_t *cases;

    snprintf(path, sizeof(path), "%s/%s/cases.json", data_dir, name);
    cases = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_true(json_array_size(cases) > 50);
    snprintf(path, sizeof(path), "%s/%s", data_dir, name);
    tokenizer = tokenizer_open(path, BERTH_TOKEN_NONE);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *item = json_array_get(cases, i), *text = json_object_get(item, "text");
        const char *bytes = json_string_value(text);
        size_t size = json_string_length(text), decoded_size;
        char *decoded;

        ids_compare(tokenizer, bytes, size, true, json_object_get(item, "ids"));
        ids_compare(tokenizer, bytes, size, false, json_object_get(item, "ids_plain"));
        decoded = ids_decode(tokenizer, json_object_get(item, "ids"), &decoded_size);
        /* Special tokens inside a text are not shown again. */
        if (!strstr(bytes, "<|")) {
            assert_int_equal(decoded_size, size);
            assert_memory_equal(decoded, bytes, size);
        }
        free(decoded);
    }
    berth__tokenizer_free(tokenizer);
    json_decref(cases);
}

static void reference_cases_agree(void **state)
{
    cases_check("tokenizer");
}

static void reference_cases_agree_with_ignore_merges(void **state)
{
    cases_check("tokenizer_ignore_merges");
}

static void prompts_of_the_shipped_model_agree(void **state)
{
    struct berth_tokenizer *tokenizer = tokenizer_open(shipped_dir, BERTH_TOKEN_NONE);
    char path[PATH_MAX];
    json_t *answers;

    snprintf(path, sizeof(path), "%s/shipped/expected.json", data_dir);
    answers = json_load_file(path, 0, NULL);
    assert_true(json_array_size(answers) > 0);
    for (size_t i = 0; i < json_array_size(answers); i++) {
        const json_t *answer = json_array_get(answers, i), *text = json_object_get(answer, "text");

        ids_compare(tokenizer, json_string_value(text), json_string_length(text), true,
                    json_object_get(answer, "prompt_ids"));
    }
    json_decref(answers);
    berth__tokenizer_free(tokenizer);
}

/* A folder with the given files. */
static char *tokenizer_folder(const char *tokenizer_json, const char *config_json)
{
    char *dir = folder_new();

    folder_write_text(dir, "tokenizer.json", tokenizer_json);
    if (config_json)
        folder_write_text(dir, "tokenizer_config.json", config_json);
    return dir;
}

#define MODEL                                                                                      \
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"\xc4\xa0\":2,\"ab\":3,"              \
    "\"\xc4\xa0"                                                                                   \
    "a\":4,\"1\":5,\"2\":6,\"12\":7},\"merges\":[\"a b\",[\"\xc4\xa0\",\"a\"],\"1 2\"]}"

static void encoding_check(const char *json, const char *config, uint32_t bos, const char *text,
                           const char *ids)
{
    char *dir = tokenizer_folder(json, config);
    struct berth_tokenizer *tokenizer = tokenizer_open(dir, bos);
    json_t *expected = json_loads(ids, 0, NULL);

    ids_compare(tokenizer, text, strlen(text), true, expected);
    json_decref(expected);
    berth__tokenizer_free(tokenizer);
    folder_free(dir);
}

static void steps_of_the_pre_tokenizer_are_followed(void **state)
{
    encoding_check("{" MODEL "}", NULL, BERTH_TOKEN_NONE, "ab12", "[3,7]");
    encoding_check("{" MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}", NULL, BERTH_TOKEN_NONE,
                   "ab a", "[2,3,4]");
    encoding_check("{" MODEL ",\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                   "\"add_prefix_space\":false}}",
                   NULL, BERTH_TOKEN_NONE, "ab a", "[3,4]");
    encoding_check("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":true}}",
                   NULL, BERTH_TOKEN_NONE, "ab12", "[3,5,6]");
    encoding_check("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":"
                   "\"b\"},\"behavior\":\"Removed\",\"invert\":false}}",
                   NULL, BERTH_TOKEN_NONE, "aba", "[0,0]");
    encoding_check("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":"
                   "\"b\"},\"behavior\":\"Removed\",\"invert\":true}}",
                   NULL, BERTH_TOKEN_NONE, "aba", "[1]");
}

static void added_tokens_are_cut_out_first(void **state)
{
    const char *strip = "{" MODEL ",\"added_tokens\":[{\"id\":9,\"content\":\"1\",\"lstrip\":true,"
                        "\"rstrip\":true},{\"id\":10,\"content\":\"1b\"},"
                        "{\"id\":11,\"content\":\"2\",\"single_word\":true}]}";

    encoding_check(strip, NULL, BERTH_TOKEN_NONE, "a 1 a", "[0,9,0]");
    encoding_check(strip, NULL, BERTH_TOKEN_NONE, "a1b", "[0,10]");
    encoding_check(strip, NULL, BERTH_TOKEN_NONE, "a2 2", "[0,6,2,11]");
}

static void bos_comes_from_the_config_where_no_template_is(void **state)
{
    const char *template =
        "{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
        "{\"SpecialToken\":{\"id\":\"B\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\"}},"
        "{\"SpecialToken\":{\"id\":\"E\"}}],\"special_tokens\":{\"B\":{\"ids\":[20,21]},"
        "\"E\":{\"ids\":[22]}}}}";

    encoding_check("{" MODEL "}", "{\"add_bos_token\":true}", 8, "a", "[8,0]");
    encoding_check("{" MODEL "}", "{\"add_bos_token\":false}", 8, "a", "[0]");
    encoding_check("{" MODEL "}", NULL, 8, "a", "[0]");
    encoding_check(template, "{\"add_bos_token\":true}", 8, "a", "[20,21,0,22]");
}

static void refusal_check(const char *json, const char *expected)
{
    char *dir = tokenizer_folder(json, NULL);
    struct berth_tokenizer *tokenizer = NULL;

    assert_true(berth__tokenizer_load(dir, BERTH_TOKEN_NONE, &failure, &tokenizer) < 0);
    assert_null(tokenizer);
    if (!strstr(failure.text, expected) || !strstr(failure.text, "tokenizer.json"))
        fail_msg("\"%s\"; expected the file and \"%s\"", failure.text, expected);
    folder_free(dir);
}

static void mistakes_are_named(void **state)
{
    refusal_check("", "expected JSON");
    refusal_check("[]", "expected {...}");
    refusal_check("{}", "model: is missing");
    refusal_check("{\"model\":{\"type\":\"Unigram\"}}", "model.type: is \"Unigram\"");
    refusal_check("{\"model\":{\"vocab\":[]}}", "model.vocab: is an array");
    refusal_check("{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", "model.vocab.a: is -1");
    refusal_check("{\"model\":{\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]}}", "no other token has");
    refusal_check("{\"model\":{\"vocab\":{\"a\":99999999999},\"merges\":[]}}", "16777215");
    refusal_check("{\"model\":{\"vocab\":{\"a\":0}}}", "model.merges: is missing");
    refusal_check("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", "model.merges[0]");
    refusal_check("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", "model.merges[0]");
    refusal_check("{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", "model.merges[0]");
    refusal_check("{\"model\":{\"vocab\":{},\"merges\":[],\"byte_fallback\":true}}",
                  "model.byte_fallback: is true");
    refusal_check("{" MODEL ",\"normalizer\":{\"type\":\"NFC\"}}", "normalizer: is an object");
    refusal_check("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Whitespace\"}}",
                  "pre_tokenizer.type: is \"Whitespace\"");
    refusal_check("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},"
                  "\"behavior\":\"Isolated\"}}",
                  "expected a regular expression");
    refusal_check("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},"
                  "\"behavior\":\"Contiguous\"}}",
                  "pre_tokenizer.behavior: is \"Contiguous\"");
    refusal_check("{" MODEL ",\"added_tokens\":[{\"content\":\"x\",\"id\":\"1\"}]}",
                  "added_tokens[0].id: is \"1\"");
    refusal_check("{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
                  "{\"SpecialToken\":{\"id\":\"B\"}}]}}",
                  "post_processor.single");
}

static void stream_check(const char *bytes, size_t size, const char *expected)
{
    /* The same however the bytes are divided into tokens. */
    for (size_t step = 1; step <= size; step++) {
        struct berth_text_stream stream = {0};
        size_t written;
        char *text = NULL;

        stream.file = open_memstream(&text, &written);
        for (size_t at = 0; at < size; at += step)
            berth__text_stream_write(&stream, (const unsigned char *)bytes + at,
                                     size - at < step ? size - at : step);
        berth__text_stream_finish(&stream);
        fclose(stream.file);
        assert_string_equal(text, expected);
        free(text);
    }
}

static void a_stream_writes_whole_characters_only(void **state)
{
    struct berth_text_stream stream = {0};
    size_t written;
    char *text = NULL;

    stream.file = open_memstream(&text, &written);
    berth__text_stream_write(&stream, (const unsigned char *)"\xf0\x9f\x98", 3);
    fflush(stream.file);
    assert_int_equal(written, 0);
    berth__text_stream_write(&stream, (const unsigned char *)"\x80", 1);
    fflush(stream.file);
    assert_string_equal(text, "\xf0\x9f\x98\x80");
    fclose(stream.file);
    free(text);
    stream_check("a\xc3\xa9z", 4, "a\xc3\xa9z");
    stream_check("\xff"
                 "a",
                 2, BERTH_UTF8_REPLACEMENT "a");
    stream_check("\xe2\x82", 2, BERTH_UTF8_REPLACEMENT);
    stream_check("\xe2\x82"
                 "a",
                 3, BERTH_UTF8_REPLACEMENT "a");
    stream_check("\xed\xa0\x80", 3,
                 BERTH_UTF8_REPLACEMENT BERTH_UTF8_REPLACEMENT BERTH_UTF8_REPLACEMENT);
    stream_check("\xf0\x9f\xf0\x9f\x98\x80", 6, BERTH_UTF8_REPLACEMENT "\xf0\x9f\x98\x80");
}

static void bytes_that_are_no_utf8_become_tokens(void **state)
{
    char path[PATH_MAX];
    const char text[] = "a\xff\xfe b\xc3";
    struct berth_id_list list = {0};
    struct berth_tokenizer *tokenizer;
    size_t at = 0, size;

    snprintf(path, sizeof(path), "%s/tokenizer", data_dir);
    tokenizer = tokenizer_open(path, BERTH_TOKEN_NONE);
    assert_int_equal(
        berth__tokenizer_encode(tokenizer, text, sizeof(text) - 1, false, &failure, &list), 0);
    for (size_t i = 0; i < list.count; i++) {
        const unsigned char *bytes = berth__tokenizer_bytes(tokenizer, list.ids[i], &size);

        assert_true(at + size <= sizeof(text) - 1);
        assert_memory_equal(bytes, text + at, size);
        at += size;
    }
    assert_int_equal(at, sizeof(text) - 1);
    berth__id_list_done(&list);
    berth__tokenizer_free(tokenizer);
}

/* Were the time quadratic in the length, the test would run into its limit. */
static void a_long_text_is_its_lines(void **state)
{
    static const char line[] = "Stra\xc3\x9f"
                               "e and memory\n";
    const size_t lines = 150000, size = sizeof(line) - 1;
    struct berth_id_list one = {0}, all = {0};
    struct berth_tokenizer *tokenizer;
    char path[PATH_MAX], *text = malloc(lines * size);

    snprintf(path, sizeof(path), "%s/tokenizer", data_dir);
    tokenizer = tokenizer_open(path, BERTH_TOKEN_NONE);
    for (size_t i = 0; i < lines; i++)
        memcpy(text + i * size, line, size);
    assert_int_equal(berth__tokenizer_encode(tokenizer, line, size, false, &failure, &one), 0);
    assert_int_equal(berth__tokenizer_encode(tokenizer, text, lines * size, false, &failure, &all),
                     0);
    assert_int_equal(all.count, lines * one.count);
    for (size_t i = 0; i < all.count; i++)
        assert_int_equal(all.ids[i], one.ids[i % one.count]);
    berth__id_list_done(&one);
    berth__id_list_done(&all);
    berth__tokenizer_free(tokenizer);
    free(text);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_cases_agree),
        cmocka_unit_test(reference_cases_agree_with_ignore_merges),
        cmocka_unit_test(prompts_of_the_shipped_model_agree),
        cmocka_unit_test(steps_of_the_pre_tokenizer_are_followed),
        cmocka_unit_test(added_tokens_are_cut_out_first),
        cmocka_unit_test(bos_comes_from_the_config_where_no_template_is),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(a_stream_writes_whole_characters_only),
        cmocka_unit_test(bytes_that_are_no_utf8_become_tokens),
        cmocka_unit_test(a_long_text_is_its_lines),
    };

    data_dir = argc > 1 ? argv[1] : "data";
    shipped_dir = argc > 2 ? argv[2] : "model";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
