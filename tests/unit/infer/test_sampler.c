/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: greedy takes the largest logit; draws follow the probabilities, stay within
 * top_k and top_p, and repeat with the seed. Method: small distributions, counted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define VOCAB 8
#define DRAWS 20000

/* Probabilities 0.4, 0.3, 0.15, 0.1, 0.05 and nothing, not in order. */
static const double shares[VOCAB] = {0.1, 0, 0.4, 0.15, 0, 0.3, 0.05, 0};

static struct berth_failure failure;

static void counts_draw(struct berth_sampling sampling, size_t counts[VOCAB])
{
    struct berth_sampler *sampler;
    float logits[VOCAB];

    for (size_t i = 0; i < VOCAB; i++)
        logits[i] = shares[i] > 0 ? (float)log(shares[i]) : -100;
    memset(counts, 0, VOCAB * sizeof(counts[0]));
    assert_int_equal(berth__sampler_new(&sampling, VOCAB, &failure, &sampler), 0);
    for (size_t i = 0; i < DRAWS; i++)
        counts[berth__sampler_pick(sampler, logits)]++;
    berth__sampler_free(sampler);
}

static void greedy_takes_the_largest_and_the_lowest_of_equals(void **state)
{
    const struct berth_sampling sampling = {.temperature = 0, .top_p = 1};
    const float logits[VOCAB] = {1, 5, 2, 5, -3, 0, 5, 4};
    struct berth_sampler *sampler;

    assert_int_equal(berth__sampler_new(&sampling, VOCAB, &failure, &sampler), 0);
    assert_int_equal(berth__sampler_pick(sampler, logits), 1);
    berth__sampler_free(sampler);
}

static void expect_shares(const size_t counts[VOCAB], const double expected[VOCAB])
{
    for (size_t i = 0; i < VOCAB; i++) {
        double share = (double)counts[i] / DRAWS;

        if (fabs(share - expected[i]) > 0.02 || (expected[i] == 0 && counts[i] > 0))
            fail_msg("token %zu: share %g; expected %g", i, share, expected[i]);
    }
}

static void draws_follow_the_probabilities(void **state)
{
    const double sharper[VOCAB] = {0.01 / 0.285,   0, 0.16 / 0.285, 0.0225 / 0.285, 0, 0.09 / 0.285,
                                   0.0025 / 0.285, 0};
    size_t counts[VOCAB];

    counts_draw((struct berth_sampling){.temperature = 1, .top_p = 1, .seed = 1}, counts);
    expect_shares(counts, shares);
    counts_draw((struct berth_sampling){.temperature = 0.5, .top_p = 1, .seed = 2}, counts);
    expect_shares(counts, sharper);
}

static void top_k_and_top_p_cut(void **state)
{
    const double two[VOCAB] = {0, 0, 4 / 7.0, 0, 0, 3 / 7.0, 0, 0};
    const double three[VOCAB] = {0, 0, 0.4 / 0.85, 0.15 / 0.85, 0, 0.3 / 0.85, 0, 0};
    const double one[VOCAB] = {0, 0, 1};
    size_t counts[VOCAB];

    counts_draw((struct berth_sampling){.temperature = 1, .top_k = 2, .top_p = 1}, counts);
    expect_shares(counts, two);
    counts_draw((struct berth_sampling){.temperature = 1, .top_p = 0.75}, counts);
    expect_shares(counts, three);
    counts_draw((struct berth_sampling){.temperature = 1, .top_k = 3, .top_p = 0.8}, counts);
    expect_shares(counts, two);
    counts_draw((struct berth_sampling){.temperature = 1, .top_k = 1, .top_p = 1}, counts);
    expect_shares(counts, one);
    counts_draw((struct berth_sampling){.temperature = 1, .top_p = 0}, counts);
    expect_shares(counts, one);
    counts_draw((struct berth_sampling){.temperature = 1, .top_k = 100, .top_p = 1}, counts);
    expect_shares(counts, shares);
}

static void a_seed_repeats_its_draws(void **state)
{
    const float logits[VOCAB] = {0};
    uint32_t picks[2][64];
    size_t different = 0;

    for (size_t run = 0; run < 3; run++) {
        const struct berth_sampling sampling = {
            .temperature = 1, .top_p = 1, .seed = run == 2 ? 8 : 7};
        struct berth_sampler *sampler;

        assert_int_equal(berth__sampler_new(&sampling, VOCAB, &failure, &sampler), 0);
        for (size_t i = 0; i < 64; i++) {
            uint32_t pick = berth__sampler_pick(sampler, logits);

            if (run < 2)
                picks[run][i] = pick;
            else
                different += pick != picks[0][i];
        }
        berth__sampler_free(sampler);
    }
    assert_memory_equal(picks[0], picks[1], sizeof(picks[0]));
    assert_true(different > 32);
}

static void logits_that_are_no_numbers_do_not_crash(void **state)
{
    const struct berth_sampling samplings[] = {{.temperature = 0, .top_p = 1},
                                               {.temperature = 1, .top_p = 1},
                                               {.temperature = 1, .top_k = 3, .top_p = 0.5}};
    const float rows[][VOCAB] = {
        {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN},
        {1, NAN, INFINITY, -INFINITY, 0, 0, 0, 0},
        {-INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -INFINITY}};

    for (size_t i = 0; i < 3; i++) {
        for (size_t row = 0; row < 3; row++) {
            struct berth_sampler *sampler;

            assert_int_equal(berth__sampler_new(&samplings[i], VOCAB, &failure, &sampler), 0);
            assert_true(berth__sampler_pick(sampler, rows[row]) < VOCAB);
            berth__sampler_free(sampler);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_largest_and_the_lowest_of_equals),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(top_k_and_top_p_cut),
        cmocka_unit_test(a_seed_repeats_its_draws),
        cmocka_unit_test(logits_that_are_no_numbers_do_not_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
