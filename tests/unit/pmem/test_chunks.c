/* SPDX-License-Identifier: Apache-2.0 */
/* Chunks of a backing come behind a window and go again, whole, also where a signal comes amid. */
#include "alloc/types.h"
#include "pmem/chunks.h"
#include "pmem/window.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define CHUNK ((size_t)16 * BERTH_OS_PAGE)
#define WINDOW_CHUNKS 12
#define BACKING_CHUNKS 4

static struct berth_chunks chunks;
static struct berth_page_set committed;
static char *window;
static int backing;
static bool is_interrupted; /* each change of what is mapped */
static volatile sig_atomic_t interruptions;
static volatile sig_atomic_t holds;

/* As a handler that forks. */
static void handle(int number)
{
    (void)number;
    interruptions++;
    if (berth__chunks_hold(&chunks)) {
        holds++;
        berth__chunks_let_go(&chunks);
    }
}

static int attach(void *context, void *address, uint64_t offset, size_t size)
{
    assert_ptr_equal(context, &backing);
    if (is_interrupted)
        raise(SIGUSR1);
    return mmap(address, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, backing,
                (off_t)offset) == MAP_FAILED
               ? -errno
               : 0;
}

static int detach(void *context, void *address, uint64_t offset, size_t size)
{
    (void)context;
    (void)offset;
    if (is_interrupted)
        raise(SIGUSR1);
    return mmap(address, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
                   MAP_FAILED
               ? -errno
               : 0;
}

static int make_chunks(void **state)
{
    struct sigaction action = {.sa_handler = handle};

    (void)state;
    sigaction(SIGUSR1, &action, NULL);
    is_interrupted = false;
    interruptions = holds = 0;
    backing = memfd_create("chunks", MFD_CLOEXEC);
    window = mmap(NULL, (WINDOW_CHUNKS + 1) * CHUNK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (backing < 0 || window == MAP_FAILED ||
        ftruncate(backing, (off_t)(BACKING_CHUNKS * CHUNK)) < 0)
        return -1;
    window += -(uintptr_t)window % CHUNK;
    chunks = (struct berth_chunks){.attach = attach,
                                   .detach = detach,
                                   .context = &backing,
                                   .committed = &committed,
                                   .window = (uintptr_t)window};
    if (berth__page_set_init(&committed, WINDOW_CHUNKS * CHUNK) < 0)
        return -1;
    return berth__chunks_init(&chunks, (uintptr_t)window, WINDOW_CHUNKS * CHUNK, CHUNK,
                              BACKING_CHUNKS * CHUNK);
}

static int drop_chunks(void **state)
{
    (void)state;
    berth__chunks_done(&chunks);
    berth__page_set_done(&committed);
    munmap(window, WINDOW_CHUNKS * CHUNK);
    close(backing);
    return 0;
}

/* A page in each of these chunks of the window. */
static int commit_page_of(size_t chunk)
{
    return berth__chunks_commit(&chunks, window + chunk * CHUNK + BERTH_OS_PAGE, BERTH_OS_PAGE);
}

static int decommit_page_of(size_t chunk)
{
    return berth__chunks_decommit(&chunks, window + chunk * CHUNK + BERTH_OS_PAGE, BERTH_OS_PAGE);
}

static void test_a_fork_in_a_handler_does_not_wait_for_its_own_thread(void **state)
{
    (void)state;
    is_interrupted = true;
    assert_int_equal(commit_page_of(1), 0);
    assert_int_equal(interruptions, 1);
    assert_int_equal(decommit_page_of(1), 0);
    assert_int_equal(interruptions, 2);
    assert_int_equal(holds, 0);
    /* Outside of both it has what it wants. */
    raise(SIGUSR1);
    assert_int_equal(holds, 1);
}

static void test_holes_of_the_window_cost_nothing_of_the_backing(void **state)
{
    (void)state;
    for (size_t i = 0; i < BACKING_CHUNKS; i++) {
        assert_int_equal(commit_page_of(3 * i), 0);
        window[3 * i * CHUNK + BERTH_OS_PAGE] = (char)('a' + i);
    }
    assert_int_equal(berth__chunks_free(&chunks), 0);
    assert_int_equal(commit_page_of(1), -ENOSPC);
    /* A page more of a chunk that is there is had all the same. */
    assert_int_equal(berth__chunks_commit(&chunks, window, BERTH_OS_PAGE), 0);
    for (size_t i = 0; i < BACKING_CHUNKS; i++)
        assert_int_equal(window[3 * i * CHUNK + BERTH_OS_PAGE], 'a' + (int)i);
    assert_int_equal(decommit_page_of(3), 0);
    assert_int_equal(berth__chunks_free(&chunks), CHUNK);
    assert_int_equal(commit_page_of(1), 0);
    assert_int_equal(window[CHUNK + BERTH_OS_PAGE], 0);
}

static void test_a_piece_that_does_not_fit_whole_leaves_nothing(void **state)
{
    (void)state;
    assert_int_equal(commit_page_of(7), 0);
    assert_int_equal(berth__chunks_commit(&chunks, window, BACKING_CHUNKS * CHUNK), -ENOSPC);
    assert_int_equal(berth__chunks_free(&chunks), (BACKING_CHUNKS - 1) * CHUNK);
    assert_int_equal(berth__chunks_commit(&chunks, window, (BACKING_CHUNKS - 1) * CHUNK), 0);
    memset(window, 1, (BACKING_CHUNKS - 1) * CHUNK);
    assert_int_equal(berth__chunks_decommit(&chunks, window, (BACKING_CHUNKS - 1) * CHUNK), 0);
    assert_int_equal(berth__chunks_free(&chunks), (BACKING_CHUNKS - 1) * CHUNK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_fork_in_a_handler_does_not_wait_for_its_own_thread,
                                        make_chunks, drop_chunks),
        cmocka_unit_test_setup_teardown(test_holes_of_the_window_cost_nothing_of_the_backing,
                                        make_chunks, drop_chunks),
        cmocka_unit_test_setup_teardown(test_a_piece_that_does_not_fit_whole_leaves_nothing,
                                        make_chunks, drop_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
