/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: each thread has a tag stack of its own, which neither overflows nor underflows. */
#include "alloc/describe.h"
#include "alloc/thread.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void the_innermost_tag_is_in_force(void **state)
{
    (void)state;
    assert_int_equal(berth__tag_current(), BERTH_TAG_UNTAGGED);
    assert_int_equal(berth__tag_pop(), -ENOENT);
    assert_int_equal(berth__tag_push(BERTH_TAG_WEIGHT), 0);
    assert_int_equal(berth__tag_push(BERTH_TAG_UNTAGGED), 0);
    assert_int_equal(berth__tag_current(), BERTH_TAG_UNTAGGED);
    assert_int_equal(berth__tag_push(BERTH_TAG_KV), 0);
    assert_int_equal(berth__tag_current(), BERTH_TAG_KV);
    assert_int_equal(berth__tag_pop(), 0);
    assert_int_equal(berth__tag_pop(), 0);
    assert_int_equal(berth__tag_current(), BERTH_TAG_WEIGHT);
    assert_int_equal(berth__tag_pop(), 0);
    assert_int_equal(berth__tag_pop(), -ENOENT);
}

static void what_is_no_tag_is_refused(void **state)
{
    (void)state;
    assert_int_equal(berth__tag_push((enum berth_tag)BERTH_TAG_COUNT), -EINVAL);
    assert_int_equal(berth__tag_push((enum berth_tag) - 1), -EINVAL);
    assert_int_equal(berth__tag_push((enum berth_tag)256), -EINVAL);
    assert_int_equal(berth__tag_current(), BERTH_TAG_UNTAGGED);
}

static void a_full_stack_keeps_its_innermost_tag(void **state)
{
    (void)state;
    for (int i = 0; i < BERTH_TAG_DEPTH_MAX; i++)
        assert_int_equal(berth__tag_push(i % 2 ? BERTH_TAG_KV : BERTH_TAG_WEIGHT), 0);
    assert_int_equal(berth__tag_push(BERTH_TAG_ACTIVATION), -ENOSPC);
    assert_int_equal(berth__tag_current(), BERTH_TAG_KV);
    assert_int_equal(berth__thread.inside, 0);
    assert_int_equal(berth__thread.sequence, 0);
    for (int i = 0; i < BERTH_TAG_DEPTH_MAX; i++)
        assert_int_equal(berth__tag_pop(), 0);
    assert_int_equal(berth__tag_pop(), -ENOENT);
}

static void a_step_begins_the_sequence_anew(void **state)
{
    (void)state;
    berth__thread.sequence = 77;
    assert_int_equal(berth__step(), 0);
    assert_int_equal(berth__thread.sequence, 0);
}

static void *look(void *context)
{
    *(enum berth_tag *)context = berth__tag_current();
    berth__tag_push(BERTH_TAG_WORKSPACE);
    return NULL;
}

static void threads_do_not_share_tags(void **state)
{
    enum berth_tag seen = BERTH_TAG_WEIGHT;
    pthread_t thread;

    (void)state;
    berth__tag_push(BERTH_TAG_KV);
    assert_int_equal(pthread_create(&thread, NULL, look, &seen), 0);
    pthread_join(thread, NULL);
    assert_int_equal(seen, BERTH_TAG_UNTAGGED);
    assert_int_equal(berth__tag_current(), BERTH_TAG_KV);
    berth__tag_pop();
}

static int block;
static uint32_t inside_seen;

static int describe_here(const void *p, struct berth_block_info *ret)
{
    inside_seen = berth__thread.inside;
    errno = 4242;
    if (p != &block)
        return -ENOENT;
    *ret = (struct berth_block_info){p, 100, 112, BERTH_TAG_KV, "there", "why"};
    return 0;
}

static int describe_nothing(const void *p, struct berth_block_info *ret)
{
    (void)p;
    (void)ret;
    return -ENOENT;
}

static void a_block_is_described_by_the_side_that_has_it(void **state)
{
    struct {
        struct berth_block_info info;
        long newer;
    } wide;
    struct berth_block_info info, before;
    int other;

    (void)state;
    memset(&info, 0x55, sizeof(info));
    before = info;
    assert_int_equal(berth__describe(&block, &info, sizeof(info)), -ENOENT);
    berth__describe_host = describe_nothing;
    berth__describe_device = describe_here;
    assert_int_equal(berth__describe(&block, &info, sizeof(info) - 1), -EINVAL);
    assert_int_equal(berth__describe(&block, &info, 0), -EINVAL);
    assert_int_equal(berth__describe(&other, &info, sizeof(info)), -ENOENT);
    assert_memory_equal(&info, &before, sizeof(info));
    errno = 11;
    assert_int_equal(berth__describe(&block, &info, sizeof(info)), 0);
    assert_int_equal(errno, 11);
    assert_int_equal(inside_seen, 1);
    assert_int_equal(berth__thread.inside, 0);
    assert_ptr_equal(info.base, &block);
    assert_int_equal(info.held, 112);
    assert_string_equal(info.tier, "there");
    wide.newer = 77;
    assert_int_equal(berth__describe(&block, &wide.info, sizeof(wide)), 0);
    assert_string_equal(wide.info.rule, "why");
    assert_int_equal(wide.newer, 0);
    berth__describe_host = describe_here;
    berth__describe_device = NULL;
    assert_int_equal(berth__describe(&block, &info, sizeof(info)), 0);
}

static void names_go_both_ways(void **state)
{
    (void)state;
    for (int tag = 0; tag < BERTH_TAG_COUNT; tag++)
        assert_int_equal(berth__tag_from_name(berth__tag_name((unsigned)tag)), tag);
    for (int kind = 0; kind < BERTH_KIND_COUNT; kind++)
        assert_int_equal(berth__kind_from_name(berth__kind_name((unsigned)kind)), kind);
    for (unsigned source = 0; source < BERTH_TAGGED_COUNT; source++)
        assert_non_null(berth__tag_source_name(source));
    assert_null(berth__tag_source_name(BERTH_TAGGED_COUNT));
    for (int i = 0; i < BERTH_NUMA_COUNT; i++)
        assert_int_equal(berth__numa_mode_from_name(berth__numa_mode_name((unsigned)i)), i);
    for (int i = 0; i < BERTH_HUGE_COUNT; i++)
        assert_int_equal(berth__huge_pages_from_name(berth__huge_pages_name((unsigned)i)), i);
    for (int i = 0; i < BERTH_VERIFY_COUNT; i++)
        assert_int_equal(berth__verify_from_name(berth__verify_name((unsigned)i)), i);
    assert_null(berth__tag_name(BERTH_TAG_COUNT));
    assert_null(berth__kind_name(BERTH_KIND_COUNT));
    assert_int_equal(berth__tag_from_name("weights"), -ENOENT);
    assert_int_equal(berth__tag_from_name(""), -ENOENT);
    assert_int_equal(berth__kind_from_name("Dram"), -ENOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_innermost_tag_is_in_force),
        cmocka_unit_test(what_is_no_tag_is_refused),
        cmocka_unit_test(a_full_stack_keeps_its_innermost_tag),
        cmocka_unit_test(a_step_begins_the_sequence_anew),
        cmocka_unit_test(threads_do_not_share_tags),
        cmocka_unit_test(a_block_is_described_by_the_side_that_has_it),
        cmocka_unit_test(names_go_both_ways),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
