/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: config.json is read with the defaults that Hugging Face gives absent fields,
 * and a mistake names the file and the field. Method: a good file with one field
 * changed, added or removed at a time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config.h"
#include "folder.h"

#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char good[] = "{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":96,"
                           "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"vocab_size\":100,"
                           "\"max_position_embeddings\":2048,\"rms_norm_eps\":1e-05}";

static struct berth_failure failure;

/* The good file with the fields of `change` put in; "absent" removes one. */
static int config_load(const char *change, const char *generation, struct berth_config *config)
{
    json_t *root = json_loads(good, 0, NULL), *fields = json_loads(change, 0, NULL), *value;
    char *dir = folder_new(), *text;
    const char *key;
    int r;

    assert_non_null(fields);
    json_object_foreach(fields, key, value)
    {
        if (json_is_string(value) && strcmp(json_string_value(value), "absent") == 0)
            json_object_del(root, key);
        else
            json_object_set(root, key, value);
    }
    text = json_dumps(root, 0);
    folder_write_text(dir, "config.json", text);
    if (generation)
        folder_write_text(dir, "generation_config.json", generation);
    r = berth__config_load(dir, &failure, config);
    free(text);
    json_decref(root);
    json_decref(fields);
    folder_free(dir);
    return r;
}

static struct berth_config config_of(const char *change, const char *generation)
{
    struct berth_config config;

    if (config_load(change, generation, &config) < 0)
        fail_msg("%s: %s", change, failure.text);
    return config;
}

static void refused(const char *change, const char *expected)
{
    struct berth_config config;

    assert_true(config_load(change, NULL, &config) < 0);
    if (!strstr(failure.text, "config.json: ") || !strstr(failure.text, expected))
        fail_msg("%s: \"%s\"; expected the file and \"%s\"", change, failure.text, expected);
}

static void absent_fields_have_the_usual_defaults(void **state)
{
    struct berth_config config = config_of("{\"rms_norm_eps\":\"absent\"}", NULL);

    assert_int_equal(config.kv_head_count, 4);
    assert_int_equal(config.head_dim, 16);
    assert_false(config.tied);
    assert_int_equal(config.rope.kind, BERTH_ROPE_DEFAULT);
    assert_true(config.rope.theta == 10000);
    assert_true(config.rms_eps == 1e-6);
    assert_int_equal(config.bos, BERTH_TOKEN_NONE);
    assert_int_equal(config.eos_count, 0);
    config =
        config_of("{\"head_dim\":null,\"num_key_value_heads\":null,\"rope_scaling\":null}", NULL);
    assert_int_equal(config.head_dim, 16);
}

static void end_tokens_come_from_the_generation_config_first(void **state)
{
    struct berth_config config = config_of("{\"eos_token_id\":7}", NULL);

    assert_int_equal(config.eos_count, 1);
    assert_true(berth__config_is_eos(&config, 7));
    assert_false(berth__config_is_eos(&config, 8));
    config = config_of("{\"eos_token_id\":7,\"bos_token_id\":3}",
                       "{\"eos_token_id\":[8,9],\"bos_token_id\":4}");
    assert_int_equal(config.eos_count, 2);
    assert_false(berth__config_is_eos(&config, 7));
    assert_true(berth__config_is_eos(&config, 9));
    assert_int_equal(config.bos, 4);
    config = config_of("{\"eos_token_id\":7}", "{}");
    assert_true(berth__config_is_eos(&config, 7));
}

static void both_spellings_of_rope_are_read(void **state)
{
    const char *numbers = "\"factor\":32.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
                          "\"original_max_position_embeddings\":8192";
    struct berth_config config;
    char change[512];

    snprintf(change, sizeof(change),
             "{\"rope_theta\":5e5,\"rope_scaling\":{\"type\":\"llama3\",%s}}", numbers);
    config = config_of(change, NULL);
    assert_int_equal(config.rope.kind, BERTH_ROPE_LLAMA3);
    assert_true(config.rope.theta == 5e5);
    snprintf(change, sizeof(change),
             "{\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":7e5,%s}}", numbers);
    config = config_of(change, NULL);
    assert_int_equal(config.rope.kind, BERTH_ROPE_LLAMA3);
    assert_true(config.rope.theta == 7e5);
    assert_true(config.rope.original_context == 8192);
    config = config_of("{\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}}", NULL);
    assert_int_equal(config.rope.kind, BERTH_ROPE_LINEAR);
}

static void llama3_scaling_keeps_high_and_divides_low_frequencies(void **state)
{
    const struct berth_rope rope = {.kind = BERTH_ROPE_LLAMA3,
                                    .theta = 500000,
                                    .factor = 32,
                                    .low_freq_factor = 1,
                                    .high_freq_factor = 4,
                                    .original_context = 8192};
    const struct berth_rope plain = {.kind = BERTH_ROPE_DEFAULT, .theta = 500000};
    float scaled[32], unscaled[32];

    berth__rope_frequencies(&rope, 64, scaled);
    berth__rope_frequencies(&plain, 64, unscaled);
    assert_true(scaled[0] == 1);
    assert_true(fabs(scaled[31] / unscaled[31] - 1 / 32.0) < 1e-6);
    for (size_t i = 0; i < 32; i++) {
        double wavelength = 2 * M_PI / unscaled[i];

        if (wavelength < 8192 / 4.0)
            assert_true(scaled[i] == unscaled[i]);
        else
            assert_true(scaled[i] < unscaled[i]);
    }
}

static void mistakes_name_the_field(void **state)
{
    refused("{\"model_type\":\"mistral\"}", "model_type: is \"mistral\"; expected \"llama\"");
    refused("{\"model_type\":\"absent\"}", "model_type: is missing");
    refused("{\"architectures\":[\"GPT2\"]}", "architectures[0]: is \"GPT2\"");
    refused("{\"hidden_size\":\"absent\"}", "hidden_size: is missing");
    refused("{\"hidden_size\":\"64\"}", "hidden_size: is \"64\"; expected an integer");
    refused("{\"hidden_size\":0}", "hidden_size: is 0");
    refused("{\"hidden_size\":-1}", "hidden_size: is -1");
    refused("{\"hidden_size\":64.5}", "hidden_size: is 64.5");
    refused("{\"vocab_size\":99999999999}", "vocab_size");
    refused("{\"num_hidden_layers\":99999999}", "num_hidden_layers");
    refused("{\"num_key_value_heads\":3}", "num_key_value_heads: is 3; expected a divisor");
    refused("{\"num_key_value_heads\":8}", "num_key_value_heads: is 8");
    refused("{\"head_dim\":15}", "head_dim: is 15; expected an even number");
    refused("{\"head_dim\":16777216}", "head_dim");
    refused("{\"hidden_act\":\"gelu\"}", "hidden_act: is \"gelu\"");
    refused("{\"rms_norm_eps\":0}", "rms_norm_eps: is 0");
    refused("{\"tie_word_embeddings\":1}", "tie_word_embeddings: is 1; expected true or false");
    refused("{\"quantization_config\":{}}", "quantization_config: is an object");
    refused("{\"rope_theta\":\"x\"}", "rope_theta: is \"x\"");
    refused("{\"rope_scaling\":[]}", "rope_scaling: is an array");
    refused("{\"rope_scaling\":{\"type\":\"yarn\"}}", "rope_scaling.type: is \"yarn\"");
    refused("{\"rope_scaling\":{\"type\":\"linear\"}}", "rope_scaling.factor: is missing");
    refused("{\"rope_parameters\":{\"rope_type\":\"llama3\",\"factor\":8}}",
            "rope_parameters.low_freq_factor: is missing");
    refused("{\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8,\"low_freq_factor\":4,"
            "\"high_freq_factor\":4,\"original_max_position_embeddings\":64}}",
            "rope_scaling.high_freq_factor: is 4; expected a number above");
    refused("{\"eos_token_id\":100}", "eos_token_id: is 100");
    refused("{\"eos_token_id\":[1,\"2\"]}", "eos_token_id: is \"2\"");
    refused("{\"bos_token_id\":-1}", "bos_token_id: is -1");
    refused("{\"partial_rotary_factor\":0.5}", "partial_rotary_factor: is 0.5");
}

static void a_broken_generation_config_is_named(void **state)
{
    struct berth_config config;

    assert_true(config_load("{}", "{\"eos_token_id\":\"x\"}", &config) < 0);
    assert_non_null(strstr(failure.text, "generation_config.json: eos_token_id: is \"x\""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(absent_fields_have_the_usual_defaults),
        cmocka_unit_test(end_tokens_come_from_the_generation_config_first),
        cmocka_unit_test(both_spellings_of_rope_are_read),
        cmocka_unit_test(llama3_scaling_keeps_high_and_divides_low_frequencies),
        cmocka_unit_test(mistakes_name_the_field),
        cmocka_unit_test(a_broken_generation_config_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
