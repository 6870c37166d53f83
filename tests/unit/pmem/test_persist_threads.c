/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: threads that ask for persistent blocks at the same moment get each its own, and the common
 * one all of them; nobody is told -EBUSY because another thread opens the store.
 * Method: the calls of berth_persist(), on a tier of a directory of the test's own. Meant to be run
 * under ThreadSanitizer, too.
 */
#include "pmem/persist.h"

#include "alloc/persistent.h"
#include "alloc/tier_ops.h"
#include "pmem/host.h"
#include "pmem/persist_named.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS 16
#define ROUNDS 12
#define SIZE(round) ((size_t)100 + (size_t)(round)*7919)

static char directory[] = "/tmp/berth-threads-XXXXXX";
static pthread_barrier_t begin;
static _Atomic int wrong;

/* cmocka's own checks are for its thread alone. */
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            atomic_fetch_add(&wrong, 1);                                                           \
        }                                                                                          \
    } while (0)

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *place)
{
    (void)st;
    (void)type;
    (void)place;
    return remove(path);
}

static int start(void **state)
{
    (void)state;
    berth__host_register();
    return mkdtemp(directory) ? 0 : -1;
}

static int finish(void **state)
{
    (void)state;
    return nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static berth_tier_id make_tier(const char *name)
{
    struct berth_tier_config config = {
        .name = name,
        .kind = BERTH_KIND_FILE,
        .path = directory,
        .segment = name,
        .fork_copy_max = UINT64_MAX,
    };
    berth_tier_id id = BERTH_TIER_NONE;
    char why[256];

    assert_int_equal(berth__tier_ensure(&config, &id, why, sizeof(why)), 0);
    return id;
}

/* One writer of a store at a time: the block of another thread of this process is no hindrance. */
static void put(const char *name, size_t size, unsigned char byte)
{
    unsigned found = 9;
    void *p = NULL;

    EXPECT(berth__persistent_calls->open(name, size, &p, &found) == 0);
    if (!p)
        return;
    if (found == BERTH_PERSIST_CREATED)
        memset(p, byte, size);
    EXPECT(berth__persistent_calls->commit(p) == 0);
    EXPECT(((unsigned char *)p)[size - 1] == byte);
    EXPECT(berth__persist_size(p) == size);
    EXPECT(berth__persistent_calls->detach(p) == 0);
}

static void *work(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    char name[64];

    pthread_barrier_wait(&begin);
    for (unsigned round = 0; round < ROUNDS; round++) {
        size_t size = 0;
        void *p = NULL;

        snprintf(name, sizeof(name), "own:block-%u", number);
        put(name, SIZE(round), (unsigned char)(round + 1));
        EXPECT(berth__persistent_calls->find(name, &p, &size) == 0 && size == SIZE(round));
        EXPECT(berth__persistent_calls->remove(name) == -EBUSY);
        berth__persist_free(p);
        EXPECT(berth__persistent_calls->remove(name) == 0);
        EXPECT(berth__persistent_calls->find(name, &p, &size) == -ENOENT);
        EXPECT(berth__persistent_calls->find("common:all", &p, &size) == 0 && size == 4096);
        EXPECT(((unsigned char *)p)[4095] == 42);
        EXPECT(berth__persistent_calls->detach(p) == 0);
    }
    return NULL;
}

static void run_threads(void *(*function)(void *))
{
    pthread_t threads[THREADS];

    assert_int_equal(pthread_barrier_init(&begin, NULL, THREADS), 0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, function, (void *)i), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    pthread_barrier_destroy(&begin);
    assert_int_equal(atomic_load(&wrong), 0);
}

static void threads_work_at_once(void **state)
{
    (void)state;
    make_tier("common");
    make_tier("own");
    put("common:all", 4096, 42);
    run_threads(work);
}

/* Each opens the store, and removes at once what nobody else has. */
static void *open_first(void *argument)
{
    unsigned number = (unsigned)(uintptr_t)argument;
    char name[64];

    pthread_barrier_wait(&begin);
    snprintf(name, sizeof(name), "fresh:block-%u", number);
    put(name, 100, (unsigned char)number);
    EXPECT(berth__persistent_calls->remove(name) == 0);
    return NULL;
}

static void threads_that_open_a_store_at_once_share_it(void **state)
{
    (void)state;
    make_tier("fresh");
    run_threads(open_first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_that_open_a_store_at_once_share_it),
        cmocka_unit_test(threads_work_at_once),
    };

    return cmocka_run_group_tests(tests, start, finish);
}
