/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream-ordered blocks that the classifier follows, on the simulated driver: the account stays
 * exact, by tag and site, however they get other tags and go.
 */
#include "alloc/classifier.h"
#include "alloc/classifier_parts.h"
#include "alloc/pool_class.h"
#include "alloc/pool_stream.h"
#include "alloc/pool_walk.h"

#include "class_account.h"
#include "order_fixture.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define KIB(n) ((uint64_t)(n) << 10)
#define BLOCKS 16

static CUstream stream;

/* As the hooks ask. */
static uintptr_t get_with(uint64_t size, berth_site_id site)
{
    struct berth_pool_request request = {
        .size = size, .tier = BERTH_TIER_DEVICE, .follow = (const void *)get_with, .site = site};
    uintptr_t address = 0;

    assert_true(berth__pool_class_follows(size));
    request.tag = berth__pool_class_guess(size, request.follow, request.site);
    request.tagged_by =
        request.tag == BERTH_TAG_UNTAGGED ? BERTH_TAGGED_NONE : BERTH_TAGGED_CLASSIFIER;
    assert_int_equal(berth__stream_alloc(&request, (berth_cu_stream)stream, &address), 0);
    berth__pool_class_tend();
    return address;
}

static uintptr_t get(uint64_t size)
{
    return get_with(size, a_site());
}

/* Weights that are filled by halves, anywhere in the block. */
static void load(uintptr_t *blocks)
{
    struct berth_block_view view;

    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = get(KIB(96));
        berth__pool_class_filled(blocks[i], KIB(48));
        berth__pool_class_filled(blocks[i] + KIB(48), KIB(48));
    }
    berth__classifier_step();
    berth__classifier_refresh();
    for (unsigned i = 0; i < BLOCKS; i++) {
        assert_int_equal(berth__stream_find_block(blocks[i] + 5, &view), 0);
        assert_int_equal(view.tag, BERTH_TAG_WEIGHT);
        assert_int_equal(view.tagged_by, BERTH_TAGGED_CLASSIFIER);
        assert_int_not_equal(view.class_number, 0);
    }
    assert_int_equal(held_as(BERTH_TAG_WEIGHT), BLOCKS * KIB(96));
    assert_int_equal(held_by_site_as(BERTH_TAG_WEIGHT), BLOCKS * KIB(96));
    assert_int_equal(held_as(BERTH_TAG_UNTAGGED), 0);
}

static void what_got_another_tag_is_counted_off_as_that(void **state)
{
    uintptr_t blocks[BLOCKS];
    struct berth_stream_block *block;

    (void)state;
    load(blocks);
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (i % 2 == 0) {
            free_in(stream, blocks[i]);
            continue;
        }
        /* As the driver's own cuMemFree does it. */
        assert_int_equal(berth__stream_leave_begin(blocks[i], &block), 0);
        assert_int_equal(cuMemFree_v2(blocks[i]), 0);
        berth__stream_leave_end(block, true);
    }
    assert_nothing_is_left();
}

static void what_comes_and_goes_is_guessed(void **state)
{
    uintptr_t blocks[BLOCKS], passing = 0;
    struct berth_block_view view;

    (void)state;
    load(blocks);
    for (unsigned i = 0; i < 8; i++) {
        uintptr_t next = get(KIB(200));

        if (passing)
            free_in(stream, passing);
        passing = next;
    }
    assert_int_equal(berth__stream_find_block(passing, &view), 0);
    assert_int_equal(view.tag, BERTH_TAG_ACTIVATION);
    free_in(stream, passing);
    for (unsigned i = 0; i < BLOCKS; i++)
        free_in(stream, blocks[i]);
    assert_nothing_is_left();
}

static void a_site_that_comes_later_counts_the_tag(void **state)
{
    uintptr_t block = get_with(KIB(128), 0);

    (void)state;
    berth__pool_class_filled(block, KIB(128));
    berth__classifier_step();
    berth__classifier_refresh();
    berth__pool_set_site(block, a_site());
    assert_int_equal(held_by_site_as(BERTH_TAG_WEIGHT), KIB(128));
    free_in(stream, block);
    assert_nothing_is_left();
}

static atomic_bool is_over;
static _Atomic uintptr_t in_use[BLOCKS];

/* Far more often than the classifier, which changes its mind a few times. */
static void *retag_all(void *argument)
{
    const struct berth_classifier_ops *ops = berth__classifier(BERTH_SIDE_DEVICE)->ops;
    struct berth_block_view view;

    for (unsigned i = 0; !atomic_load(&is_over); i++) {
        if (berth__stream_find_block(atomic_load(&in_use[i % BLOCKS]), &view) == 0)
            ops->retag(view.base, view.held, view.class_number,
                       (enum berth_tag)(i / BLOCKS % BERTH_TAG_COUNT));
        if (i % 4096 == 0)
            berth__classifier_refresh();
    }
    return argument;
}

/* Blocks that are freed in the moment in which they get another tag. */
static void tags_change_while_blocks_go(void **state)
{
    pthread_t thread;

    (void)state;
    atomic_store(&is_over, false);
    assert_int_equal(pthread_create(&thread, NULL, retag_all, NULL), 0);
    for (unsigned i = 0; i < 100000; i++) {
        unsigned at = i * 7 % BLOCKS;

        if (in_use[at])
            free_in(stream, in_use[at]);
        in_use[at] = get(KIB(64) + i % 5 * KIB(4));
        for (unsigned fill = 0; fill < i % 5; fill++)
            berth__pool_class_filled(in_use[at], KIB(80));
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        free_in(stream, in_use[i]);
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    assert_nothing_is_left();
}

static int begin(void **state)
{
    memset(berth__classifier(BERTH_SIDE_DEVICE), 0, sizeof(struct berth_classifier));
    berth__pool_class_start();
    if (!berth__pool_class_on || before_each(state) != 0)
        return -1;
    stream = stream_new();
    return 0;
}

static int end(void **state)
{
    stream_delete(stream);
    return after_each(state);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(what_got_another_tag_is_counted_off_as_that),
        CASE(what_comes_and_goes_is_guessed),
        CASE(a_site_that_comes_later_counts_the_tag),
        CASE(tags_change_while_blocks_go),
    };

    set_option("classifier", "on");
    return cmocka_run_group_tests(tests, up, NULL);
}
