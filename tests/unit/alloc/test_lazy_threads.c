/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: threads that free lazily stay out of each other's way: none takes a lock that another one
 * wants, and none writes where another one's processor has fetched what it is about to use. Method:
 * two threads do pairs at the same time, and count the locks that Berth takes, by a wrapper that
 * the linker puts in their place; two threads that take blocks in turn, whose records are looked
 * at.
 */
#include "order_fixture.h"

#include "alloc/block_index.h"
#include "alloc/pool.h"
#include "alloc/pool_lazy.h"
#include "alloc/pool_parts.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define WARM_ROUNDS 4
#define WARM_PAIRS 4096
#define PAIRS 65536
#define PER_POINT 256 /* blocks */
#define BLOCKS 200
#define PAGE_SHIFT 12

static __thread uint64_t locks;

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    locks++;
    return __real_pthread_mutex_lock(mutex);
}

struct worker {
    pthread_t thread;
    pthread_barrier_t *barrier;
    uint64_t size, locks;
    unsigned number;
    uintptr_t page[BLOCKS];
};

static void run_two(struct worker *workers, void *(*run)(void *worker))
{
    pthread_barrier_t barrier;

    pthread_barrier_init(&barrier, NULL, 2);
    for (unsigned i = 0; i < 2; i++) {
        workers[i].barrier = &barrier;
        workers[i].number = i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
}

static void pairs(unsigned count, uint64_t size)
{
    for (unsigned i = 0; i < count; i++)
        assert_int_equal(berth__pool_free(alloc(size)), 0);
}

static void *do_pairs(void *argument)
{
    struct worker *worker = argument;

    use_context(context);
    /* Until both have what they need, each may take what the other one has. */
    for (unsigned i = 0; i < WARM_ROUNDS; i++) {
        pairs(WARM_PAIRS, worker->size);
        pthread_barrier_wait(worker->barrier);
    }
    worker->locks = locks;
    pairs(PAIRS, worker->size);
    worker->locks = locks - worker->locks;
    pthread_barrier_wait(worker->barrier);
    return NULL;
}

/* Sizes of which as many as may wait for one point are little, for two threads. */
static void pairs_take_no_lock_that_others_want(void **state)
{
    const uint64_t sizes[] = {512, 65536};

    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct worker workers[2] = {{.size = sizes[i]}, {.size = sizes[i]}};
        uint64_t before = atomic_load(&berth__lazy_counts.points), points;

        run_two(workers, do_pairs);
        points = atomic_load(&berth__lazy_counts.points) - before;
        assert_int_equal(workers[0].locks, 0);
        assert_int_equal(workers[1].locks, 0);
        /*
         * The driver is called as seldom as by one thread: of half as many blocks at worst, which
         * is what a point is for as long as the one before has not passed when it is asked about.
         */
        assert_in_range(points, 1, 2 * (WARM_ROUNDS * WARM_PAIRS + PAIRS) / (PER_POINT / 2) + 64);
    }
}

/* Blocks that the pool cuts in turn for the one and for the other. */
static void *take_in_turn(void *argument)
{
    struct worker *worker = argument;
    uintptr_t block[BLOCKS];

    use_context(context);
    for (unsigned i = 0; i < 2 * BLOCKS; i++) {
        pthread_barrier_wait(worker->barrier);
        if (i % 2 == worker->number)
            block[i / 2] = alloc(worker->size);
    }
    for (unsigned i = 0; i < BLOCKS; i++)
        worker->page[i] = (uintptr_t)berth__block_index_find(block[i]) >> PAGE_SHIFT;
    pthread_barrier_wait(worker->barrier);
    for (unsigned i = 0; i < BLOCKS; i++)
        assert_int_equal(berth__pool_free(block[i]), 0);
    return NULL;
}

/* But for the first blocks of segments, whose records come with those of the segments. */
static void records_of_threads_lie_apart(void **state)
{
    static struct worker workers[2];
    struct berth_pool_audit audit;
    unsigned shared = 0;

    workers[0].size = workers[1].size = 65536;
    run_two(workers, take_in_turn);
    for (unsigned i = 0; i < BLOCKS; i++)
        for (unsigned j = 0; j < BLOCKS; j++)
            if (workers[0].page[i] == workers[1].page[j]) {
                shared++;
                break;
            }
    berth__pool_audit(&audit);
    assert_in_range(shared, 0, audit.segments);
    assert_true(audit.segments < BLOCKS / 10);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, before_each, after_each)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(records_of_threads_lie_apart),
        CASE(pairs_take_no_lock_that_others_want),
    };

    return cmocka_run_group_tests(tests, up, NULL);
}
