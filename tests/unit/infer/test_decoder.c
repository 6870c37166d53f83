/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: the decoder computes what an independent implementation computes.
 * Method: every folder of the reference data (make_reference.py) is loaded, its prompt
 * is fed whole and token by token, with each instruction set and with several numbers
 * of threads. Logits must agree within 1e-3 of the largest, greedy tokens exactly;
 * and what this runtime promises itself, equal bytes however the work was divided,
 * is checked with memcmp.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "kernels.h"
#include "model.h"
#include "sampler.h"
#include "session.h"
#include "thread_pool.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOLERANCE 1e-3

static const char *const isas[] = {"scalar", "avx2", "avx512"};
static const char *data_dir;
static const char *shipped_dir; /* the model that the tree ships; its reference is data/shipped */
static struct berth_failure failure;

struct reference {
    struct berth_model *model;
    json_t *expected;
    uint32_t *prompt;
    size_t prompt_count;
    struct berth_thread_pool *pool;
    char name[NAME_MAX + 1];
};

static uint32_t *ids_copy(const json_t *array)
{
    uint32_t *ids = calloc(json_array_size(array) + 1, sizeof(ids[0]));

    for (size_t i = 0; i < json_array_size(array); i++)
        ids[i] = (uint32_t)json_integer_value(json_array_get(array, i));
    return ids;
}

static void reference_open(struct reference *reference, const char *name, json_t *expected)
{
    char path[PATH_MAX];

    snprintf(reference->name, sizeof(reference->name), "%s", name);
    snprintf(path, sizeof(path), "%s/%s", data_dir, name);
    if (strcmp(name, "shipped") == 0)
        snprintf(path, sizeof(path), "%s", shipped_dir);
    if (berth__model_load(&(struct berth_weight_source){.dir = path}, &failure, &reference->model) <
        0)
        fail_msg("%s", failure.text);
    reference->expected = expected;
    reference->prompt = ids_copy(json_object_get(expected, "prompt_ids"));
    reference->prompt_count = json_array_size(json_object_get(expected, "prompt_ids"));
    assert_true(reference->prompt_count > 0);
    assert_int_equal(berth__thread_pool_new(2, &failure, &reference->pool), 0);
}

static void reference_close(struct reference *reference)
{
    berth__thread_pool_free(reference->pool);
    berth__model_free(reference->model);
    free(reference->prompt);
}

/* A folder's expected.json is one answer, or a list of them. */
static void folder_check(const char *name, json_t *expected, void (*check)(struct reference *))
{
    size_t count = json_is_array(expected) ? json_array_size(expected) : 1;

    for (size_t i = 0; i < count; i++) {
        struct reference reference;

        reference_open(&reference, name,
                       json_is_array(expected) ? json_array_get(expected, i) : expected);
        check(&reference);
        reference_close(&reference);
    }
}

/* Runs `check` on every folder that has an expected.json; at least five must. */
static void references_each(void (*check)(struct reference *reference))
{
    struct dirent *entry;
    DIR *dir = opendir(data_dir);
    char path[PATH_MAX];
    size_t count = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir))) {
        json_t *expected;

        snprintf(path, sizeof(path), "%s/%s/expected.json", data_dir, entry->d_name);
        expected = json_load_file(path, 0, NULL);
        if (!expected)
            continue;
        folder_check(entry->d_name, expected, check);
        json_decref(expected);
        count++;
    }
    closedir(dir);
    assert_true(count >= 5);
}

static struct berth_session *session_begin(const struct reference *reference,
                                           const struct berth_kernels *kernels)
{
    struct berth_session *session;

    assert_int_equal(
        berth__session_new(reference->model, kernels, reference->pool, 1, &failure, &session), 0);
    return session;
}

static void logits_compare(const struct reference *reference, const char *isa, const float *logits,
                           const json_t *expected)
{
    double largest = 0;

    assert_int_equal(json_array_size(expected), reference->model->config.vocab);
    for (size_t i = 0; i < json_array_size(expected); i++)
        largest = fmax(largest, fabs(json_number_value(json_array_get(expected, i))));
    for (size_t i = 0; i < json_array_size(expected); i++) {
        double want = json_number_value(json_array_get(expected, i));

        if (!(fabs(logits[i] - want) <= TOLERANCE * largest))
            fail_msg("%s, %s: logit %zu is %g; expected %g", reference->name, isa, i,
                     (double)logits[i], want);
    }
}

static void check_last_logits(struct reference *reference)
{
    for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++) {
        const struct berth_kernels *kernels = berth__kernels_choose(isas[i]);
        struct berth_session *session;

        if (!kernels || !json_object_get(reference->expected, "logits_last"))
            continue;
        session = session_begin(reference, kernels);
        assert_int_equal(
            berth__session_feed(session, reference->prompt, reference->prompt_count, &failure), 0);
        logits_compare(reference, isas[i], berth__session_logits(session),
                       json_object_get(reference->expected, "logits_last"));
        berth__session_free(session);
    }
}

static void logits_of_the_last_position_agree(void **state)
{
    references_each(check_last_logits);
}

static void check_every_position(struct reference *reference)
{
    const json_t *rows = json_object_get(reference->expected, "logits_rows");
    struct berth_session *session = session_begin(reference, berth__kernels_choose(NULL));

    for (size_t i = 0; i < json_array_size(rows); i++) {
        assert_int_equal(berth__session_feed(session, &reference->prompt[i], 1, &failure), 0);
        logits_compare(reference, "best", berth__session_logits(session), json_array_get(rows, i));
    }
    berth__session_free(session);
}

static void logits_of_every_position_agree(void **state)
{
    references_each(check_every_position);
}

static void check_greedy(struct reference *reference)
{
    const json_t *greedy = json_object_get(reference->expected, "greedy_ids");
    const struct berth_sampling sampling = {.top_p = 1};
    size_t vocab = reference->model->config.vocab;

    for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++) {
        const struct berth_kernels *kernels = berth__kernels_choose(isas[i]);
        struct berth_sampler *sampler;
        struct berth_session *session;

        if (!kernels)
            continue;
        session = session_begin(reference, kernels);
        assert_int_equal(berth__sampler_new(&sampling, vocab, &failure, &sampler), 0);
        assert_int_equal(
            berth__session_feed(session, reference->prompt, reference->prompt_count, &failure), 0);
        for (size_t step = 0; step < json_array_size(greedy); step++) {
            uint32_t token = berth__sampler_pick(sampler, berth__session_logits(session));
            json_int_t want = json_integer_value(json_array_get(greedy, step));

            if (token != want)
                fail_msg("%s, %s: token %zu is %u; expected %lld", reference->name, isas[i], step,
                         token, (long long)want);
            assert_int_equal(berth__session_feed(session, &token, 1, &failure), 0);
        }
        berth__sampler_free(sampler);
        berth__session_free(session);
    }
}

static void greedy_tokens_agree(void **state)
{
    references_each(check_greedy);
}

/* Feeds the prompt in pieces of `batch` with a pool of `threads`; the caller frees the logits. */
static float *logits_form(const struct reference *reference, const struct berth_kernels *kernels,
                          size_t threads, size_t batch)
{
    size_t bytes = reference->model->config.vocab * sizeof(float);
    struct berth_thread_pool *pool;
    struct berth_session *session;
    float *logits = malloc(bytes);

    assert_int_equal(berth__thread_pool_new(threads, &failure, &pool), 0);
    assert_int_equal(berth__session_new(reference->model, kernels, pool, 1, &failure, &session), 0);
    for (size_t at = 0; at < reference->prompt_count; at += batch) {
        size_t left = reference->prompt_count - at;

        assert_int_equal(berth__session_feed(session, reference->prompt + at,
                                             left < batch ? left : batch, &failure),
                         0);
    }
    memcpy(logits, berth__session_logits(session), bytes);
    berth__session_free(session);
    berth__thread_pool_free(pool);
    return logits;
}

static void check_division(struct reference *reference)
{
    static const struct {
        size_t threads, batch;
    } divisions[] = {{2, 1000}, {3, 1}, {8, 7}, {5, 1000}};
    size_t bytes = reference->model->config.vocab * sizeof(float);

    for (size_t i = 0; i < sizeof(isas) / sizeof(isas[0]); i++) {
        const struct berth_kernels *kernels = berth__kernels_choose(isas[i]);
        float *first;

        if (!kernels)
            continue;
        first = logits_form(reference, kernels, 1, 1000);
        for (size_t j = 0; j < sizeof(divisions) / sizeof(divisions[0]); j++) {
            float *again =
                logits_form(reference, kernels, divisions[j].threads, divisions[j].batch);

            if (memcmp(first, again, bytes) != 0)
                fail_msg("%s, %s: %zu threads, batches of %zu: other bytes than one thread",
                         reference->name, isas[i], divisions[j].threads, divisions[j].batch);
            free(again);
        }
        free(first);
    }
}

static void bytes_do_not_depend_on_threads_or_batches(void **state)
{
    references_each(check_division);
}

/* A cache that grows while it is filled must hold what one of the right size holds. */
static void check_growth(struct reference *reference)
{
    const struct berth_kernels *kernels = berth__kernels_choose(NULL);
    size_t count = 1300, vocab = reference->model->config.vocab;
    struct berth_session *sessions[2];
    uint32_t *tokens;

    if (reference->model->config.context_max < count)
        return;
    tokens = calloc(count, sizeof(tokens[0]));
    for (size_t i = 0; i < count; i++)
        tokens[i] = (uint32_t)(i * 7 % vocab);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(berth__session_new(reference->model, kernels, reference->pool,
                                            i == 0 ? 1 : count, &failure, &sessions[i]),
                         0);
        assert_int_equal(berth__session_feed(sessions[i], tokens, 100, &failure), 0);
        assert_int_equal(berth__session_feed(sessions[i], tokens + 100, 500, &failure), 0);
        assert_int_equal(berth__session_feed(sessions[i], tokens + 600, count - 600, &failure), 0);
    }
    assert_memory_equal(berth__session_logits(sessions[0]), berth__session_logits(sessions[1]),
                        vocab * sizeof(float));
    berth__session_free(sessions[0]);
    berth__session_free(sessions[1]);
    free(tokens);
}

static void a_cache_that_grows_keeps_its_rows(void **state)
{
    references_each(check_growth);
}

static void check_limits(struct reference *reference)
{
    struct berth_session *session = session_begin(reference, &berth__kernels_scalar);
    size_t room = reference->model->config.context_max;
    uint32_t foreign = (uint32_t)reference->model->config.vocab;
    uint32_t *tokens = calloc(room + 1, sizeof(tokens[0]));

    assert_int_equal(berth__session_feed(session, tokens, room + 1, &failure), -ENOSPC);
    assert_non_null(strstr(failure.text, "context"));
    assert_int_equal(berth__session_feed(session, &foreign, 1, &failure), -EINVAL);
    assert_int_equal(berth__session_position(session), 0);
    free(tokens);
    berth__session_free(session);
}

static void a_text_that_does_not_fit_is_refused_whole(void **state)
{
    references_each(check_limits);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_of_the_last_position_agree),
        cmocka_unit_test(logits_of_every_position_agree),
        cmocka_unit_test(greedy_tokens_agree),
        cmocka_unit_test(bytes_do_not_depend_on_threads_or_batches),
        cmocka_unit_test(a_cache_that_grows_keeps_its_rows),
        cmocka_unit_test(a_text_that_does_not_fit_is_refused_whole),
    };

    data_dir = argc > 1 ? argv[1] : "data";
    shipped_dir = argc > 2 ? argv[2] : "model";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
