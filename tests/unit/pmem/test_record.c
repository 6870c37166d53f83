/* SPDX-License-Identifier: Apache-2.0 */
/* What is recorded of a block comes back, for blocks of every size, and only for them. */
#include "pmem/record.h"
#include "pmem/table.h"
#include "pmem/window.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#define AREA ((size_t)64 << 20)

static char *area;

static int make_area(void **state)
{
    (void)state;
    if (!berth__window_ready(BERTH_TIER_DRAM))
        return -1;
    area = berth__window_carve(BERTH_TIER_DRAM, AREA, BERTH_OS_PAGE);
    return area ? 0 : -1;
}

static struct berth_record sample(size_t i)
{
    return (struct berth_record){
        .requested = i * 13,
        .site = (berth_site_id)(i * 2654435761u),
        .rule = i % 5 == 0 ? BERTH_RULE_NONE : (uint32_t)(i * 7) & 0xffff,
        .version = i * 3,
        .tag = (enum berth_tag)(i % BERTH_TAG_COUNT),
        .tagged_by = (enum berth_tag_source)(i % BERTH_TAGGED_COUNT),
        .birth = i * 0x9e3779b97f4a7c15u,
        .state = i * 0xbf58476d1ce4e5b9u,
    };
}

static void expect_equal(const struct berth_record *a, const struct berth_record *b)
{
    assert_int_equal(a->requested, b->requested);
    assert_int_equal(a->site, b->site);
    assert_int_equal(a->rule, b->rule);
    assert_int_equal(a->version & BERTH_RECORD_VERSION_MASK,
                     b->version & BERTH_RECORD_VERSION_MASK);
    assert_int_equal(a->tag, b->tag);
    assert_int_equal(a->tagged_by, b->tagged_by);
    assert_int_equal(a->birth, b->birth);
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->sample, b->sample);
}

/* Of a sample the record says what it stands for, and no rule. */
static void a_sample_is_told_apart(void **state)
{
    const size_t held[] = {48, 2 * BERTH_OS_PAGE};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct berth_record got, record = sample(i + 1);

        record.sample = (uint64_t)1 << 38;
        record.rule = 7;
        assert_int_equal(berth__record_set(area, held[i], &record), 0);
        assert_true(berth__record_clear(area, held[i], &got));
        record.rule = BERTH_RULE_NONE;
        record.state = 0;
        expect_equal(&got, &record);
        record = sample(i + 1);
        record.rule = BERTH_RECORD_RULE_SAMPLE;
        assert_int_equal(berth__record_set(area, held[i], &record), 0);
        assert_true(berth__record_clear(area, held[i], &got));
        record.rule = BERTH_RULE_NONE;
        expect_equal(&got, &record);
    }
}

/* Lays blocks of one size side by side, as jemalloc does with a size class. */
static void blocks_of_one_size(size_t held)
{
    size_t count = ((size_t)1 << 20) / held;
    struct berth_record got;

    for (size_t i = 0; i < count; i++) {
        struct berth_record record = sample(i);

        assert_int_equal(berth__record_set(area + i * held, held, &record), 0);
    }
    for (size_t i = 0; i < count; i++) {
        struct berth_record record = sample(i);
        const void *base = NULL;

        assert_true(berth__record_get(area + i * held, held, &got));
        expect_equal(&got, &record);
        assert_true(berth__record_find(area + i * held + held - 1, &base, &got));
        assert_ptr_equal(base, area + i * held);
        expect_equal(&got, &record);
    }
    for (size_t i = 0; i < count; i += 2)
        assert_true(berth__record_clear(area + i * held, held, &got));
    for (size_t i = 0; i < count; i++)
        assert_int_equal(berth__record_get(area + i * held, held, &got), i % 2 == 1);
    for (size_t i = 1; i < count; i += 2)
        assert_true(berth__record_clear(area + i * held, held, &got));
    assert_false(berth__record_clear(area + held, held, &got));
}

static void each_block_has_its_record(void **state)
{
    static const size_t classes[] = {16,   32,   48,   64,   112,  320,   896,   1280,
                                     2560, 3584, 4096, 5120, 7168, 14336, 16384, 65536};

    (void)state;
    /* The same pages serve one size after the other. */
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
            blocks_of_one_size(classes[i]);
}

static void the_inside_of_a_large_block_is_found(void **state)
{
    struct berth_record record = sample(3);
    struct berth_record got;
    const void *base = NULL;
    char *block = area + ((size_t)8 << 20) + 192; /* jemalloc spreads starts over cache lines */

    (void)state;
    assert_int_equal(berth__record_set(block, (size_t)32 << 20, &record), 0);
    assert_true(berth__record_find(block + ((size_t)31 << 20), &base, &got));
    assert_ptr_equal(base, block);
    expect_equal(&got, &record);
    assert_true(berth__record_find(block, &base, &got));
    assert_false(berth__record_find(block - 1, &base, &got));
    assert_true(berth__record_clear(block, (size_t)32 << 20, &got));
    assert_false(berth__record_find(block + 100, &base, &got));
}

static void extremes_are_kept(void **state)
{
    struct berth_record record = {
        .requested = ((size_t)1 << 47) - 1,
        .site = UINT32_MAX,
        .rule = BERTH_RECORD_RULE_SAMPLE - 1,
        .version = UINT64_MAX,
        .tag = BERTH_TAG_WORKSPACE,
        .tagged_by = BERTH_TAGGED_CLASSIFIER,
        .birth = UINT64_MAX,
        .state = UINT64_MAX,
    };
    struct berth_record got;

    (void)state;
    assert_int_equal(berth__record_set(area + 4088, (size_t)1 << 47, &record), 0);
    assert_true(berth__record_clear(area + 4088, (size_t)1 << 47, &got));
    expect_equal(&got, &record);
    record.requested = 0;
    record.site = 0;
    record.rule = 0;
    record.tag = BERTH_TAG_UNTAGGED;
    record.version = 0;
    assert_int_equal(berth__record_set(area, 4096, &record), 0);
    assert_true(berth__record_clear(area, 4096, &got));
    expect_equal(&got, &record);
    record.rule = BERTH_RECORD_RULE_NONE + 5;
    assert_int_equal(berth__record_set(area, 4096, &record), 0);
    assert_true(berth__record_clear(area, 4096, &got));
    assert_int_equal(got.rule, BERTH_RULE_NONE);
}

static bool retag(size_t held, struct berth_record was, enum berth_tag to)
{
    return berth__record_retag(area, held, &was, to, BERTH_TAGGED_CLASSIFIER);
}

static void a_live_block_gets_another_tag(void **state)
{
    const size_t held = (size_t)1 << 20;
    struct berth_record record = sample(7);
    struct berth_record got;

    (void)state;
    record.tag = BERTH_TAG_UNTAGGED;
    record.tagged_by = BERTH_TAGGED_NONE;
    assert_false(retag(held, record, BERTH_TAG_WEIGHT));
    assert_int_equal(berth__record_set(area, held, &record), 0);
    assert_true(retag(held, record, BERTH_TAG_WEIGHT));
    assert_false(retag(held, record, BERTH_TAG_KV));
    record.tag = BERTH_TAG_WEIGHT;
    record.tagged_by = BERTH_TAGGED_CLASSIFIER;
    assert_true(berth__record_clear(area, held, &got));
    expect_equal(&got, &record);
    assert_false(retag(held, record, BERTH_TAG_KV));
    /* One that shares its pages has no tag of its own to change. */
    assert_int_equal(berth__record_set(area, 256, &record), 0);
    assert_false(retag(256, record, BERTH_TAG_KV));
    assert_true(berth__record_clear(area, 256, &got));
}

static void another_block_at_the_address_keeps_its_tag(void **state)
{
    const size_t held = (size_t)1 << 20;
    struct berth_record record = sample(7);
    struct berth_record old, got;

    (void)state;
    record.state = 5;
    assert_int_equal(berth__record_set(area, held, &record), 0);
    old = record;
    old.state = 4;
    assert_false(retag(held, old, BERTH_TAG_KV));
    old = record;
    old.tagged_by = (record.tagged_by + 1) % 4;
    assert_false(retag(held, old, BERTH_TAG_KV));
    old = record;
    old.requested++;
    assert_false(retag(held, old, BERTH_TAG_KV));
    assert_true(berth__record_clear(area, held, &got));
    expect_equal(&got, &record);
}

/* A tag that comes while the owner frees is either the one it leaves with, or refused. */
struct tagger {
    atomic_bool done;
    size_t given;
};

static void *retag_on_and_on(void *argument)
{
    const struct berth_record was = {.requested = 1 << 20, .rule = BERTH_RULE_NONE};
    struct tagger *tagger = argument;

    for (int i = 0; i < 2000000; i++)
        tagger->given += retag((size_t)1 << 20, was, BERTH_TAG_WEIGHT);
    atomic_store(&tagger->done, true);
    return NULL;
}

static void a_free_takes_the_last_tag(void **state)
{
    struct berth_record record = {.requested = 1 << 20, .rule = BERTH_RULE_NONE};
    struct tagger tagger = {.done = false};
    struct berth_record got;
    size_t taken = 0;
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, retag_on_and_on, &tagger), 0);
    while (!atomic_load(&tagger.done)) {
        assert_int_equal(berth__record_set(area, (size_t)1 << 20, &record), 0);
        assert_true(berth__record_clear(area, (size_t)1 << 20, &got));
        taken += got.tag == BERTH_TAG_WEIGHT;
    }
    pthread_join(thread, NULL);
    assert_int_equal(taken, tagger.given);
}

/* Each thread has every fourth block of the same pages. */
static void *record_some(void *argument)
{
    size_t mine = (size_t)(uintptr_t)argument;
    size_t wrong = 0;

    for (int round = 0; round < 20; round++) {
        for (size_t i = mine; i < 20000; i += 4) {
            struct berth_record record = sample(i);

            wrong += berth__record_set(area + i * 80, 80, &record) != 0;
        }
        for (size_t i = mine; i < 20000; i += 4) {
            struct berth_record got;

            wrong += !berth__record_clear(area + i * 80, 80, &got) || got.requested != i * 13;
        }
    }
    return (void *)(uintptr_t)wrong;
}

static void threads_share_pages(void **state)
{
    pthread_t thread[4];

    (void)state;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, record_some, (void *)(uintptr_t)i), 0);
    for (size_t i = 0; i < 4; i++) {
        void *wrong;

        pthread_join(thread[i], &wrong);
        assert_null(wrong);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sample_is_told_apart),
        cmocka_unit_test(each_block_has_its_record),
        cmocka_unit_test(the_inside_of_a_large_block_is_found),
        cmocka_unit_test(extremes_are_kept),
        cmocka_unit_test(a_live_block_gets_another_tag),
        cmocka_unit_test(another_block_at_the_address_keeps_its_tag),
        cmocka_unit_test(a_free_takes_the_last_tag),
        cmocka_unit_test(threads_share_pages),
    };

    return cmocka_run_group_tests(tests, make_area, NULL);
}
