/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: blocks of a shared tier lie in what was lent and nowhere else, the driver never hears of
 * them, and what is lent comes back exactly when nothing lives in it. Method: mapped host memory is
 * lent to pools over the driver of device_mock.h; the account is compared at each step.
 */
#include "alloc/log.h"
#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/pool_borrow.h"
#include "alloc/pool_parts.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "device_mock.h"
#include "pool_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static berth_tier_id hot;
static char *memory; /* LENT bytes that are lent, and as many before and behind that are not */

#define LENT MIB(8)

static int make(struct berth_tier *tier, berth_tier_id id, const struct berth_tier_config *config,
                char *why, size_t why_size)
{
    tier->sides = BERTH_SIDE_DEVICE;
    return 0;
}

static void lend_to(berth_cu_context context)
{
    const struct berth_loan loan = {
        .tier = hot, .base = (uintptr_t)memory + LENT, .size = LENT, .context = context};

    assert_int_equal(berth__loan_make(&loan), 0);
    assert_int_equal(berth__loan_make(&loan), -EEXIST);
}

static void assert_adds_up(void)
{
    const struct berth_tier_stats *stats = &berth__tier_stats[hot];
    uint64_t held = 0;

    assert_true(berth__pools_are_valid());
    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++) {
        struct berth_cell_reading cell;

        berth__stats_read(hot, (enum berth_tag)tag, &cell);
        held += cell.held;
    }
    assert_int_equal(stats->reserved, berth__loan_exists(hot) ? LENT : 0);
    assert_int_equal(held + berth__stats_cached(hot), stats->reserved);
    assert_int_equal(mock_bytes(), 0);
}

static int set_up(void **state)
{
    char why[256];
    const struct berth_tier_config config = {.name = "hot", .kind = BERTH_KIND_SHARED, .path = ""};

    pool_set_up(state);
    berth__tier_set_maker(BERTH_KIND_SHARED, make);
    if (!memory)
        memory = mmap(NULL, 3 * LENT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED || berth__tier_ensure(&config, &hot, why, sizeof(why)) < 0;
}

static int tear_down(void **state)
{
    struct berth_loan_use use;

    atomic_store(&berth__device_captures, 0);
    for (unsigned i = 0; i < 4; i++) {
        berth__pool_drop(mock_context(i));
        berth__loan_drop(mock_context(i));
    }
    berth__loan_end(hot, &use);
    assert_adds_up();
    return 0;
}

static int try_tagged(uint64_t size, enum berth_tag tag, uintptr_t *ret)
{
    const struct berth_pool_request request = {.tier = hot, .size = size, .tag = tag};

    return berth__pool_borrow(&request, ret);
}

static int try_borrow(uint64_t size)
{
    uintptr_t address = 1;
    int r = try_tagged(size, BERTH_TAG_KV, &address);

    assert_true(r == 0 || address == 1);
    return r;
}

static uintptr_t borrow(uint64_t size)
{
    uintptr_t address = 0;

    assert_int_equal(try_tagged(size, BERTH_TAG_WEIGHT, &address), 0);
    assert_true(address >= (uintptr_t)memory + LENT);
    assert_true(address + size <= (uintptr_t)memory + 2 * LENT);
    assert_int_equal(address % 512, 0);
    memset((void *)address, 7, size); /* it is memory */
    return address;
}

static void give_back(uintptr_t address)
{
    assert_int_equal(berth__pool_free(address), 0);
}

static void blocks_are_cut_from_what_was_lent(void **state)
{
    struct berth_block_view view;
    struct berth_loan_use use;
    uintptr_t blocks[4];

    assert_int_equal(try_borrow(1), -ENOMEM);
    lend_to(NULL);
    assert_adds_up();
    for (int i = 0; i < 4; i++)
        blocks[i] = borrow(MIB(2));
    assert_adds_up();
    assert_int_equal(try_borrow(1), -ENOMEM);
    assert_int_equal(berth__pool_find(blocks[2] + 5, &view), 0);
    assert_true(view.is_borrowed && !view.is_whole && view.tier == hot && view.base == blocks[2]);
    for (int i = 3; i >= 0; i--)
        give_back(blocks[i]);
    assert_int_equal(berth__pool_free(blocks[0]), -EINVAL);
    give_back(borrow(LENT)); /* free neighbours have joined */
    assert_int_equal(try_borrow(LENT + 1), -ENOMEM);
    assert_int_equal(try_borrow(UINT64_MAX), -ENOMEM);
    assert_int_equal(try_borrow(0), BERTH_POOL_FORWARD);
    mock_set_current(NULL);
    assert_int_equal(try_borrow(1), BERTH_POOL_FORWARD);
    assert_adds_up();
    assert_int_equal(berth__loan_end(hot, &use), 0);
    assert_int_equal(berth__loan_end(hot, &use), -ENOENT);
    mock_set_current(mock_context(0));
    assert_int_equal(try_borrow(1), -ENOMEM);
    assert_int_equal(berth__pool_free(blocks[0]), BERTH_POOL_FORWARD);
}

static void what_lives_in_it_keeps_a_loan(void **state)
{
    struct berth_loan_use use;
    uintptr_t kv = 0, weight;

    lend_to(NULL);
    weight = borrow(MIB(3));
    assert_int_equal(try_tagged(1000, BERTH_TAG_KV, &kv), 0);
    assert_int_equal(berth__loan_end(hot, &use), -EBUSY);
    assert_int_equal(use.blocks[BERTH_TAG_WEIGHT], 1);
    assert_int_equal(use.bytes[BERTH_TAG_WEIGHT], MIB(3));
    assert_int_equal(use.blocks[BERTH_TAG_KV], 1);
    assert_int_equal(use.bytes[BERTH_TAG_KV], 1024);
    assert_int_equal(use.blocks[BERTH_TAG_UNTAGGED], 0);
    give_back(borrow(512)); /* it goes on as if nobody had asked */
    give_back(weight);
    assert_int_equal(berth__loan_end(hot, &use), -EBUSY);
    assert_int_equal(use.blocks[BERTH_TAG_WEIGHT], 0);
    give_back(kv);
    assert_int_equal(berth__loan_end(hot, &use), 0);
    assert_adds_up();
}

static void the_driver_is_given_none_of_it(void **state)
{
    lend_to(NULL);
    give_back(borrow(MIB(4)));
    assert_int_equal(berth__pool_cached(0), 0);
    assert_int_equal(berth__pool_release_cached(BERTH_POOL_ALL_DEVICES), 0);
    assert_int_equal(berth__pool_release_tier(hot), 0);
    assert_int_equal(mock_calls(MOCK_FREE), 0);
    assert_adds_up();
    borrow(LENT);
}

static void one_context_of_its_device_has_it(void **state)
{
    struct berth_loan_use use;
    uintptr_t block;

    lend_to(NULL);
    mock_set_current(mock_context(2)); /* on the other device */
    assert_int_equal(try_borrow(512), -ENOMEM);
    mock_set_current(mock_context(0));
    block = borrow(MIB(1));
    mock_set_current(mock_context(1));
    assert_int_equal(try_borrow(512), -ENOMEM);
    give_back(block);
    give_back(borrow(LENT)); /* no block of the other context's lives any more */
    mock_set_current(mock_context(0));
    borrow(MIB(1));
    mock_set_current(mock_context(1));
    assert_int_equal(try_borrow(512), -ENOMEM);
    mock_destroy(mock_context(0));
    berth__pool_drop(mock_context(0));
    berth__loan_drop(mock_context(0));
    assert_adds_up(); /* the block died with its context, the loan did not */
    borrow(LENT);
    assert_int_equal(berth__loan_end(hot, &use), -EBUSY);
}

static void what_one_context_has_mapped_ends_with_it(void **state)
{
    struct berth_loan_use use;

    lend_to(mock_context(1));
    assert_int_equal(try_borrow(512), -ENOMEM);
    mock_set_current(mock_context(1));
    borrow(512);
    berth__pool_drop(mock_context(1));
    assert_false(berth__loan_exists(hot));
    assert_int_equal(berth__loan_end(hot, &use), -ENOENT);
    assert_adds_up();
    /* Also where no block was ever cut from it. */
    lend_to(mock_context(1));
    berth__loan_drop(mock_context(0));
    assert_true(berth__loan_exists(hot));
    berth__loan_drop(mock_context(1));
    assert_false(berth__loan_exists(hot));
    /* To be taken back it need not end. */
    lend_to(mock_context(1));
    mock_set_current(mock_context(1));
    give_back(borrow(512));
    assert_int_equal(berth__loan_end(hot, &use), 0);
}

static void nothing_is_cut_from_what_is_in_doubt(void **state)
{
    struct berth_loan_use use;
    uintptr_t block;

    lend_to(NULL);
    block = borrow(512);
    berth__loan_stop(hot);
    assert_false(berth__loan_is_open(hot));
    assert_int_equal(try_borrow(512), -ENOMEM);
    assert_int_equal(berth__loan_end(hot, &use), -EBUSY);
    assert_false(berth__loan_is_open(hot));
    give_back(block);
    assert_int_equal(berth__loan_end(hot, &use), 0);
    lend_to(NULL);
    borrow(512);
}

static void a_capture_takes_none_and_delays_frees(void **state)
{
    uintptr_t block;
    struct berth_loan_use use;

    lend_to(NULL);
    block = borrow(LENT - 512);
    atomic_store(&berth__device_captures, 1);
    assert_int_equal(try_borrow(512), -ENOMEM);
    assert_int_equal(berth__pool_free(block), 0);
    assert_int_equal(berth__loan_end(hot, &use), -EBUSY);
    atomic_store(&berth__device_captures, 0);
    give_back(borrow(LENT));
    assert_int_equal(berth__loan_end(hot, &use), 0);
}

static void lazily_freed_blocks_come_back(void **state)
{
    struct berth_loan_use use;
    char why[BERTH_OPTION_WHY_MAX];

    assert_int_equal(berth__option_set("free", 4, "lazy", 4, BERTH_ORIGIN_ENVIRONMENT, why), 0);
    lend_to(NULL);
    for (int i = 0; i < 50; i++)
        give_back(borrow(LENT));
    assert_int_equal(berth__loan_end(hot, &use), 0);
    berth__option_unset(BERTH_OPTION_FREE, BERTH_ORIGIN_ENVIRONMENT);
}

static void *no_memory(size_t size)
{
    return NULL;
}

static void without_host_memory_the_next_place_is_asked(void **state)
{
    void *(*map)(size_t) = berth__slab_map;

    lend_to(NULL);
    berth__slab_map = no_memory;
    for (int i = 0; i < 3; i++)
        if (try_borrow(512) == 0)
            break; /* there were records left */
    berth__slab_map = map;
    borrow(MIB(1));
    assert_adds_up();
}

static void a_piece_must_fit(void **state)
{
    struct berth_loan loan = {.tier = hot, .base = (uintptr_t)memory, .size = 0};

    assert_int_equal(berth__loan_make(&loan), -EINVAL);
    loan.size = 100;
    assert_int_equal(berth__loan_make(&loan), -EINVAL);
    loan.size = 512;
    loan.base += 8;
    assert_int_equal(berth__loan_make(&loan), -EINVAL);
    berth__tier(hot)->capacity = LENT - 1;
    loan.base -= 8;
    loan.size = LENT;
    assert_int_equal(berth__loan_make(&loan), -ENOSPC);
    berth__tier(hot)->capacity = 0;
    assert_false(berth__loan_exists(hot));
}

#define THREADS 4
#define ROUNDS 4000

static atomic_bool torn; /* a block's bytes were not its own */
static _Atomic unsigned had;

static void *work(void *context)
{
    unsigned char mark = (unsigned char)(uintptr_t)context;

    mock_set_current(mock_context(mark % 2));
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t size = 512 + (i * 7919 + mark * 104729) % 200000;
        unsigned char *block;
        uintptr_t address;

        if (try_tagged(size, BERTH_TAG_ACTIVATION, &address) < 0)
            continue;
        had++;
        block = (unsigned char *)address;
        block[0] = block[size - 1] = mark;
        if (block[0] != mark || block[size - 1] != mark || address < (uintptr_t)memory + LENT ||
            address + size > (uintptr_t)memory + 2 * LENT)
            torn = true;
        if (berth__pool_free(address) != 0)
            torn = true;
    }
    return NULL;
}

/* Loans come and go while threads ask for blocks. */
static void a_loan_ends_between_blocks_or_not_at_all(void **state)
{
    pthread_t threads[THREADS];
    unsigned ended = 0;

    lend_to(NULL);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < 20000 && ended < 500; i++) {
        struct berth_loan_use use;

        if (berth__loan_end(hot, &use) == 0) {
            ended++;
            lend_to(NULL);
        }
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_false(torn);
    assert_true(had > 0);
    assert_adds_up();
    print_message("%u blocks, %u loans ended\n", had, ended);
}

#define BORROW_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BORROW_TEST(blocks_are_cut_from_what_was_lent),
        BORROW_TEST(what_lives_in_it_keeps_a_loan),
        BORROW_TEST(the_driver_is_given_none_of_it),
        BORROW_TEST(one_context_of_its_device_has_it),
        BORROW_TEST(what_one_context_has_mapped_ends_with_it),
        BORROW_TEST(nothing_is_cut_from_what_is_in_doubt),
        BORROW_TEST(a_capture_takes_none_and_delays_frees),
        BORROW_TEST(lazily_freed_blocks_come_back),
        BORROW_TEST(without_host_memory_the_next_place_is_asked),
        BORROW_TEST(a_piece_must_fit),
        BORROW_TEST(a_loan_ends_between_blocks_or_not_at_all),
    };

    berth__log_configure("none");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
