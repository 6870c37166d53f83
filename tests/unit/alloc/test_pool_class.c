/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of the device pool that the classifier follows: the account stays exact, by tag and site,
 * however they get other tags and go. */
#include "alloc/pool_class.h"

#include "alloc/classifier.h"
#include "alloc/classifier_parts.h"
#include "alloc/options.h"
#include "alloc/pool.h"
#include "class_account.h"
#include "device_mock.h"
#include "pool_fixture.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define BLOCKS 16

/* As the hooks ask. */
static uintptr_t get(uint64_t size)
{
    struct berth_pool_request request = {.size = size, .follow = (const void *)get};
    uintptr_t address = 0;

    assert_true(berth__pool_class_follows(size));
    request.site = a_site();
    request.tag = berth__pool_class_guess(size, request.follow, request.site);
    request.tagged_by =
        request.tag == BERTH_TAG_UNTAGGED ? BERTH_TAGGED_NONE : BERTH_TAGGED_CLASSIFIER;
    assert_int_equal(berth__pool_alloc(&request, &address), 0);
    berth__pool_class_tend();
    return address;
}

static void load(uintptr_t *blocks)
{
    struct berth_block_view view;

    for (unsigned i = 0; i < BLOCKS; i++) {
        blocks[i] = get(KIB(96));
        /* By halves, anywhere in the block. */
        berth__pool_class_filled(blocks[i], KIB(48));
        berth__pool_class_filled(blocks[i] + KIB(48), KIB(48));
    }
    berth__classifier_step();
    berth__classifier_refresh();
    for (unsigned i = 0; i < BLOCKS; i++) {
        assert_int_equal(berth__pool_find(blocks[i] + 5, &view), 0);
        assert_int_equal(view.tag, BERTH_TAG_WEIGHT);
        assert_int_equal(view.tagged_by, BERTH_TAGGED_CLASSIFIER);
        assert_int_not_equal(view.class_number, 0);
    }
    assert_int_equal(held_as(BERTH_TAG_WEIGHT), BLOCKS * KIB(96));
    assert_int_equal(held_by_site_as(BERTH_TAG_WEIGHT), BLOCKS * KIB(96));
    assert_int_equal(held_as(BERTH_TAG_UNTAGGED), 0);
    pool_assert_adds_up();
}

static void what_got_another_tag_is_counted_off_as_that(void **state)
{
    uintptr_t blocks[BLOCKS];

    (void)state;
    load(blocks);
    for (unsigned i = 0; i < BLOCKS; i++)
        pool_put(blocks[i]);
    assert_nothing_is_left();
}

static void without_thread_caches_too(void **state)
{
    pool_set_thread_cache("0");
    what_got_another_tag_is_counted_off_as_that(state);
}

static void a_context_that_ends_takes_them_along(void **state)
{
    uintptr_t blocks[BLOCKS];

    (void)state;
    load(blocks);
    berth__pool_drop(mock_context(0));
    mock_reset(GIB(1));
    mock_set_current(mock_context(0));
    assert_nothing_is_left();
}

static void what_is_told_is_left_alone(void **state)
{
    struct berth_pool_request request = {.size = KIB(96),
                                         .tag = BERTH_TAG_KV,
                                         .tagged_by = BERTH_TAGGED_API,
                                         .follow = (const void *)get};
    struct berth_block_view view;
    uintptr_t address, blocks[BLOCKS];

    (void)state;
    assert_int_equal(berth__pool_alloc(&request, &address), 0);
    berth__pool_class_filled(address, KIB(96));
    load(blocks);
    assert_int_equal(berth__pool_find(address, &view), 0);
    assert_int_equal(view.tag, BERTH_TAG_KV);
    for (unsigned i = 0; i < BLOCKS; i++)
        pool_put(blocks[i]);
    pool_put(address);
    assert_nothing_is_left();
}

static atomic_bool is_over;
static _Atomic uintptr_t in_use[BLOCKS];

/* Far more often than the classifier, which changes its mind a few times. */
static void *retag_all(void *context)
{
    const struct berth_classifier_ops *ops = berth__classifier(BERTH_SIDE_DEVICE)->ops;
    struct berth_block_view view;

    for (unsigned i = 0; !atomic_load(&is_over); i++) {
        if (berth__pool_find(atomic_load(&in_use[i % BLOCKS]), &view) == 0)
            ops->retag(view.base, view.held, view.class_number,
                       (enum berth_tag)(i / BLOCKS % BERTH_TAG_COUNT));
        if (i % 4096 == 0)
            berth__classifier_refresh();
    }
    return context;
}

/* Blocks that are freed in the moment in which they get another tag. */
static void tags_change_while_blocks_go(void **state)
{
    pthread_t thread;

    (void)state;
    atomic_store(&is_over, false);
    assert_int_equal(pthread_create(&thread, NULL, retag_all, NULL), 0);
    for (unsigned i = 0; i < 200000; i++) {
        unsigned at = i * 7 % BLOCKS;

        if (in_use[at])
            assert_int_equal(berth__pool_free(in_use[at]), 0);
        in_use[at] = get(KIB(64) + i % 5 * KIB(4));
        for (unsigned fill = 0; fill < i % 5; fill++)
            berth__pool_class_filled(in_use[at], KIB(80));
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_int_equal(berth__pool_free(in_use[i]), 0);
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    assert_nothing_is_left();
}

static int begin(void **state)
{
    memset(berth__classifier(BERTH_SIDE_DEVICE), 0, sizeof(struct berth_classifier));
    berth__pool_class_start();
    return berth__pool_class_on ? pool_set_up(state) : -1;
}

#define FOLLOWED(name) cmocka_unit_test_setup_teardown(name, begin, pool_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FOLLOWED(what_got_another_tag_is_counted_off_as_that),
        FOLLOWED(without_thread_caches_too),
        FOLLOWED(a_context_that_ends_takes_them_along),
        FOLLOWED(what_is_told_is_left_alone),
        FOLLOWED(tags_change_while_blocks_go),
    };
    char why[BERTH_OPTION_WHY_MAX];

    if (berth__option_set("classifier", 10, "on", 2, BERTH_ORIGIN_ENVIRONMENT, why) < 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
