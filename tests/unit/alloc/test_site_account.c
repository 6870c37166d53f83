/* SPDX-License-Identifier: Apache-2.0 */
/* The account by call site is exact per tag and tier, whoever frees, re-tags or moves a block. */
#include "alloc/site_account.h"

#include "alloc/birth.h"
#include "alloc/site.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* A site that no other test has. */
static berth_site_id new_site(void)
{
    static char path[4096];
    static unsigned next;
    const void *frame = &path[next++];

    return berth__site_intern(&frame, 1);
}

static struct berth_site_block block_of(berth_site_id site, uint64_t requested, uint64_t held)
{
    return (struct berth_site_block){site, BERTH_TIER_DRAM, BERTH_TAG_UNTAGGED, requested, held, 0};
}

static struct berth_site_reading cell(berth_site_id site, berth_tier_id tier, enum berth_tag tag)
{
    struct berth_site_reading reading;

    for (unsigned i = 0; berth__site_account_cell(site, i, &reading); i++)
        if (reading.tier == tier && reading.tag == tag)
            return reading;
    memset(&reading, 0, sizeof(reading));
    return reading;
}

static void an_unknown_site_has_no_account(void **state)
{
    const struct berth_site_block none = block_of(0, 1, 8), beyond = block_of(BERTH_SITE_MAX, 1, 8);
    struct berth_site_total total;

    (void)state;
    assert_false(berth__site_account_alloc(&none));
    assert_false(berth__site_account_alloc(&beyond));
    assert_false(berth__site_account_total(0, &total));
    assert_false(berth__site_account_total(new_site(), &total));
}

/* Samples are counted for what they stand for, beside the blocks that are counted themselves. */
static void samples_are_counted_apart(void **state)
{
    berth_site_id site = new_site();
    struct berth_site_block one = block_of(site, 100, 128), many = one, half = one;
    struct berth_site_reading reading;

    (void)state;
    many.sample = 1000 * BERTH_SAMPLE_ONE;
    half.sample = BERTH_SAMPLE_ONE * 3 / 2;
    assert_true(berth__site_account_alloc(&many));
    assert_true(berth__site_account_alloc(&one));
    assert_true(berth__site_account_alloc(&half));
    assert_true(berth__site_account_cell(site, 0, &reading));
    assert_int_equal(reading.requested, 100150);
    assert_int_equal(reading.allocs, 1002); /* 1001.5 */
    assert_int_equal(reading.samples, 2);
    berth__site_account_resize(&many, 110, 128);
    assert_true(berth__site_account_cell(site, 0, &reading));
    assert_int_equal(reading.requested, 110150);
    many.requested = 110;
    berth__site_account_free(&many, 4000);
    berth__site_account_free(&half, 1000);
    assert_true(berth__site_account_cell(site, 0, &reading));
    assert_int_equal(reading.requested, 0);
    assert_int_equal(reading.held, 0);
    assert_int_equal(reading.blocks, 0);
    assert_int_equal(reading.lifetime_ns / reading.frees, 2500); /* of two samples */
    assert_true(berth__site_account_cell(site, 1, &reading));
    assert_int_equal(reading.samples, 0);
    assert_int_equal(reading.blocks, 1);
}

static void what_is_alive_and_what_was_is_told(void **state)
{
    berth_site_id site = new_site();
    struct berth_site_block a = block_of(site, 100, 128), b = block_of(site, 1000, 1024);
    struct berth_site_reading reading;
    struct berth_site_total total;

    (void)state;
    assert_true(berth__site_account_alloc(&a));
    assert_true(berth__site_account_alloc(&b));
    berth__site_account_free(&b, 5000);
    reading = cell(site, BERTH_TIER_DRAM, BERTH_TAG_UNTAGGED);
    assert_int_equal(reading.requested, 100);
    assert_int_equal(reading.held, 128);
    assert_int_equal(reading.blocks, 1);
    assert_int_equal(reading.allocs, 2);
    assert_int_equal(reading.frees, 1);
    assert_int_equal(reading.lifetime_ns, 5000);
    assert_true(berth__site_account_total(site, &total));
    assert_int_equal(total.held, 128);
    assert_int_equal(total.peak_held, 1152);
    berth__site_account_resize(&a, 2000, 2048);
    assert_true(berth__site_account_total(site, &total));
    assert_int_equal(total.requested, 2000);
    assert_int_equal(total.peak_held, 2048);
}

static void a_moved_block_is_counted_where_it_is(void **state)
{
    berth_site_id site = new_site();
    struct berth_site_block block = block_of(site, 100, 128);
    struct berth_site_total total;

    (void)state;
    assert_true(berth__site_account_alloc(&block));
    assert_true(berth__site_account_move(&block, 7, BERTH_TAG_WEIGHT));
    assert_int_equal(cell(site, BERTH_TIER_DRAM, BERTH_TAG_UNTAGGED).blocks, 0);
    assert_int_equal(cell(site, BERTH_TIER_DRAM, BERTH_TAG_UNTAGGED).held, 0);
    assert_int_equal(cell(site, 7, BERTH_TAG_WEIGHT).blocks, 1);
    assert_int_equal(cell(site, 7, BERTH_TAG_WEIGHT).held, 128);
    block.tier = 7;
    block.tag = BERTH_TAG_WEIGHT;
    berth__site_account_free(&block, 1);
    assert_true(berth__site_account_total(site, &total));
    assert_int_equal(total.blocks, 0);
    assert_int_equal(total.held, 0);
    assert_int_equal(total.allocs, 1);
    assert_int_equal(total.frees, 1);
    assert_int_equal(total.peak_held, 128);
}

/* The owner's free overtakes whoever gives the block another tag. */
static void a_free_may_come_before_the_move(void **state)
{
    berth_site_id site = new_site();
    struct berth_site_block block = block_of(site, 100, 128), retagged = block;
    struct berth_site_total total;

    (void)state;
    assert_true(berth__site_account_alloc(&block));
    retagged.tag = BERTH_TAG_KV;
    berth__site_account_free(&retagged, 1);
    assert_true(berth__site_account_move(&block, BERTH_TIER_DRAM, BERTH_TAG_KV));
    assert_int_equal(cell(site, BERTH_TIER_DRAM, BERTH_TAG_KV).held, 0);
    assert_true(berth__site_account_total(site, &total));
    assert_int_equal(total.blocks, 0);
    assert_int_equal(total.requested, 0);
}

struct worker {
    pthread_t thread;
    berth_site_id site;
    unsigned number;
};

static void *churn(void *argument)
{
    const struct worker *worker = argument;

    for (unsigned i = 0; i < 20000; i++) {
        struct berth_site_block block = block_of(worker->site, i, i + 8);

        block.tier = (berth_tier_id)(i % 5);
        block.tag = (enum berth_tag)(i % BERTH_TAG_COUNT);
        if (!berth__site_account_alloc(&block))
            return argument;
        berth__site_account_move(&block, 9, block.tag);
        block.tier = 9;
        if (i % 100 != worker->number)
            berth__site_account_free(&block, 1);
    }
    return NULL;
}

static void threads_share_a_site(void **state)
{
    berth_site_id site = new_site();
    struct worker worker[4];
    struct berth_site_total total;
    uint64_t requested = 0, blocks = 0;

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        worker[i].site = site;
        worker[i].number = i;
        assert_int_equal(pthread_create(&worker[i].thread, NULL, churn, &worker[i]), 0);
        for (unsigned k = i; k < 20000; k += 100) {
            requested += k;
            blocks++;
        }
    }
    for (unsigned i = 0; i < 4; i++) {
        void *failed;

        pthread_join(worker[i].thread, &failed);
        assert_null(failed);
    }
    assert_true(berth__site_account_total(site, &total));
    assert_int_equal(total.requested, requested);
    assert_int_equal(total.held, requested + 8 * blocks);
    assert_int_equal(total.blocks, blocks);
    assert_int_equal(total.allocs, 80000);
    assert_int_equal(total.lifetime_ns, 80000 - blocks);
}

static void births_never_go_back(void **state)
{
    uint64_t birth = berth__birth_now();
    uint32_t birth_short = berth__birth_short();

    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_true(berth__birth_now() >= birth);
    assert_true(birth > 0);
    /* Far less than what a wrap would give. */
    assert_true(berth__birth_short_age(birth_short) < (uint64_t)3600 * 1000000000);
    assert_int_equal(berth__birth_short_age(birth_short - 1000) >> 20 >= 1000, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_are_counted_apart),
        cmocka_unit_test(an_unknown_site_has_no_account),
        cmocka_unit_test(what_is_alive_and_what_was_is_told),
        cmocka_unit_test(a_moved_block_is_counted_where_it_is),
        cmocka_unit_test(a_free_may_come_before_the_move),
        cmocka_unit_test(threads_share_a_site),
        cmocka_unit_test(births_never_go_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
