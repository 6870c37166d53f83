/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples are taken as often as their sizes say, and stand for what was asked for: by sums that are
 * six standard deviations wide, so that no run fails by chance.
 */
#include "pmem/sample.h"

#include "alloc/site_account.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define INTERVAL 4096
#define THRESHOLD ((size_t)64 << 10)

/* What `count` blocks of one size are estimated to be. */
static double estimate(size_t size, unsigned count)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < count; i++)
        sum += berth__sample_weigh(size);
    return (double)sum / BERTH_SAMPLE_ONE;
}

/* Each block is found with the chance p and counts 1/p: the variance of the sum is n (1 - p) / p.
 */
static void expect_estimate(double got, size_t size, unsigned count)
{
    double p = -expm1(-(double)size / INTERVAL);
    double allowed = 6 * sqrt(count * (1 - p) / p) + count / 256.0 + 1;

    if (fabs(got - count) > allowed)
        fail_msg("%u blocks of %zu bytes are estimated to be %.0f", count, size, got);
}

static void samples_stand_for_all_blocks(void **state)
{
    static const size_t sizes[] = {1, 16, 100, 1000, 4096, 20000, 65535};

    (void)state;
    berth__plain_renew(THRESHOLD, false, INTERVAL);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        expect_estimate(estimate(sizes[i], 400000), sizes[i], 400000);
    /* One that is sure to be hit stands for itself. */
    assert_int_equal(berth__sample_weigh(200 * INTERVAL), BERTH_SAMPLE_ONE);
}

#define THREADS 1000
#define BLOCKS 20
#define BLOCK 64

static void *live_shortly(void *sum)
{
    *(double *)sum += estimate(BLOCK, BLOCKS);
    return NULL;
}

/* They follow one another at one address. */
static void short_threads_are_sampled_like_long_ones(void **state)
{
    double sum = 0;

    (void)state;
    berth__plain_renew(THRESHOLD, false, INTERVAL);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, live_shortly, &sum), 0);
        pthread_join(thread, NULL);
    }
    expect_estimate(sum, BLOCK, THREADS * BLOCKS);
}

static void without_an_interval_nothing_is_counted(void **state)
{
    int64_t until;

    (void)state;
    berth__plain_renew(THRESHOLD, false, 0);
    until = berth__sample.until;
    assert_int_equal(berth__plain.sampled, 0);
    assert_int_equal(berth__plain.count, THRESHOLD - (BERTH_TINY_MAX + 1));
    for (unsigned i = 0; i < 1000; i++) {
        assert_true(berth__sample_passes(1 << 20));
        assert_int_equal(berth__sample_weigh(1 << 20), 0);
    }
    assert_int_equal(berth__sample.until, until);
}

/* The plain path lets a block pass as long as none is due, and then leaves it to be weighed. */
static void what_passes_is_no_sample(void **state)
{
    unsigned samples = 0, weighed = 0;

    (void)state;
    berth__plain_start();
    berth__plain_renew(THRESHOLD, false, INTERVAL);
    assert_int_equal(berth__plain.count, 0);
    assert_int_equal(berth__plain.limit, BERTH_PLAIN_LIMIT_NONE);
    assert_int_equal(berth__plain.sampled, THRESHOLD);
    berth__sample_weigh(BLOCK); /* the thread's first draw */
    for (unsigned i = 0; i < 100000; i++) {
        if (berth__sample_passes(BLOCK))
            continue;
        weighed++;
        samples += berth__sample_weigh(BLOCK) != 0;
    }
    assert_true(samples > 0);
    assert_int_equal(samples, weighed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_stand_for_all_blocks),
        cmocka_unit_test(short_threads_are_sampled_like_long_ones),
        cmocka_unit_test(without_an_interval_nothing_is_counted),
        cmocka_unit_test(what_passes_is_no_sample),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
