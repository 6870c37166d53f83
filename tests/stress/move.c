/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks that move while threads use them.
 *
 * Threads allocate, fill, check, resize and free blocks of their own, all of which may move, and
 * one thread sends blocks to and fro between ordinary memory, a file on tmpfs and a file on a disk,
 * by jobs as agents order them. Every byte is checked before it is written again or freed. At
 * quiescent steps, for which the threads pause, the blocks on the disk move, too. In the end all
 * memory of the tiers has gone back.
 *
 * usage: move_storm [SEED [ROUNDS]]. The seed is printed; the same one makes the same calls in each
 * thread.
 */
#include "alloc/move_door.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "pmem/arena.h"
#include "pmem/host.h"
#include "pmem/move_fault.h"
#include "pmem/window.h"
#include "tests/unit/pmem/table_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define THREADS 4
#define BLOCKS 24
#define SIZE_MAX_SHIFT 20 /* 1 MiB */

struct worker {
    unsigned seed;
    struct {
        unsigned char *bytes;
        size_t size;
        unsigned seed;
    } block[BLOCKS];
    uint64_t checked;
    bool wrong;
};

static atomic_bool stop;
static atomic_int busy; /* threads that have had a few blocks */
static pthread_rwlock_t quiet = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

/* Each of the thread's bytes is its own: nobody else looks at them. */
#define UNTRACED __attribute__((no_sanitize("thread")))

UNTRACED static void fill(unsigned char *p, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        p[i] = (unsigned char)(i * 11 + (i >> 12) + seed);
}

UNTRACED static bool is_filled(const unsigned char *p, size_t size, unsigned seed)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != (unsigned char)(i * 11 + (i >> 12) + seed))
            return false;
    return true;
}

static size_t random_size(unsigned *seed)
{
    return 4096 + (size_t)rand_r(seed) % ((size_t)1 << (13 + rand_r(seed) % (SIZE_MAX_SHIFT - 12)));
}

static void work_on(struct worker *worker, unsigned i)
{
    struct berth_host_request request = {.size = random_size(&worker->seed), .alignment = 1};
    unsigned char *p = worker->block[i].bytes;
    size_t size = worker->block[i].size;
    unsigned choice = (unsigned)rand_r(&worker->seed) % 4;
    bool placed;

    if (p && !is_filled(p, size, worker->block[i].seed))
        worker->wrong = true;
    worker->checked += size;
    if (p && choice == 0) {
        berth__host_free(p);
        p = NULL;
        size = 0;
    } else if (p && choice == 1) {
        size_t kept = size < request.size ? size : request.size;

        p = berth__host_realloc(p, &request, &placed);
        if (!p || !is_filled(p, kept, worker->block[i].seed))
            worker->wrong = true;
        size = request.size;
    } else if (!p) {
        p = berth__host_alloc(&request, &placed);
        size = request.size;
    }
    worker->block[i].bytes = p;
    worker->block[i].size = size;
    worker->block[i].seed = (unsigned)rand_r(&worker->seed);
    if (p)
        fill(p, size, worker->block[i].seed);
}

static void *work(void *context)
{
    struct worker *worker = context;
    unsigned steps = 0;

    while (!atomic_load(&stop) && !worker->wrong) {
        pthread_rwlock_rdlock(&quiet);
        work_on(worker, (unsigned)rand_r(&worker->seed) % BLOCKS);
        pthread_rwlock_unlock(&quiet);
        if (++steps == BLOCKS)
            atomic_fetch_add(&busy, 1);
    }
    if (steps < BLOCKS)
        atomic_fetch_add(&busy, 1);
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (!worker->block[i].bytes)
            continue;
        if (!is_filled(worker->block[i].bytes, worker->block[i].size, worker->block[i].seed))
            worker->wrong = true;
        berth__host_free(worker->block[i].bytes);
    }
    return NULL;
}

static void install(void)
{
    struct berth_table_draft *draft = berth__draft_new();

    /* What is freed goes back at once. */
    draft_tier(draft,
               TIER(.name = "shm", .kind = BERTH_KIND_FILE, .path = "/dev/shm", .decay_ms = 0));
    draft_tier(draft,
               TIER(.name = "disk", .kind = BERTH_KIND_FILE, .path = "/var/tmp", .decay_ms = 0));
    draft_rule(draft,
               RULE(.name = "small", .side = BERTH_SIDE_HOST, .max_size = 100000, .movable = true),
               "shm", NULL);
    draft_rule(draft, RULE(.name = "rule", .side = BERTH_SIDE_HOST, .movable = true), "dram", NULL);
    draft_install(draft);
}

/* In every other job, system calls of the mover's fail now and then. */
static unsigned fault_seed;

static int fail_sometimes(enum berth_move_call call)
{
    (void)call;
    return rand_r(&fault_seed) % 100 == 0 ? -ENOMEM : 0;
}

/* One job, and the quiescent step that some of it may wait for. How many blocks moved. */
static uint64_t run_job(berth_tier_id to)
{
    struct berth_move_order order = {.from = BERTH_TIER_NONE, .to = to};
    struct berth_move_state state;
    uint64_t number, moved;

    assert_int_equal(berth__move_door->start(&order, &number), 0);
    berth__move_door->run(NULL);
    berth__move_door->read(&state);
    moved = state.result[BERTH_MOVE_MOVED].blocks;
    if (!state.waits_for_quiet)
        return moved;
    pthread_rwlock_wrlock(&quiet);
    moved += (uint64_t)berth__move_door->quiet();
    pthread_rwlock_unlock(&quiet);
    return moved;
}

static uint64_t live_bytes(berth_tier_id tier)
{
    uint64_t sum = 0;

    for (int tag = 0; tag < BERTH_TAG_COUNT; tag++) {
        struct berth_cell_reading reading;

        berth__stats_read(tier, (enum berth_tag)tag, &reading);
        sum += reading.held;
    }
    return sum;
}

/* Bytes of the addresses of blocks that move behind which there is a file. */
static size_t away_from_home(void)
{
    uintptr_t start = berth__window_base(BERTH_HOME_MOVABLE);
    uintptr_t end = start + berth__window_used(BERTH_HOME_MOVABLE);
    FILE *maps = fopen("/proc/self/maps", "r");
    size_t sum = 0;
    char line[512];

    assert_non_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        unsigned long from, to;
        char flags[8];

        if (sscanf(line, "%lx-%lx %7s", &from, &to, flags) == 3 && from < end && to > start &&
            flags[3] == 's')
            sum += to - from;
    }
    fclose(maps);
    return sum;
}

/* Whether all that was taken of a tier has gone back, where no block is left. */
static bool all_is_back(berth_tier_id tier)
{
    uint64_t reserved = atomic_load(&berth__tier_stats[tier].reserved);

    if (live_bytes(tier) == 0 && reserved == 0)
        return true;
    printf("tier %s: %llu bytes are live, %llu reserved\n", berth__tier(tier)->name,
           (unsigned long long)live_bytes(tier), (unsigned long long)reserved);
    return false;
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS];
    unsigned seed = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : (unsigned)time(NULL);
    unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 60;
    uint64_t moved = 0, checked = 0, before;
    pthread_t threads[THREADS];
    berth_tier_id tiers[3];
    bool wrong = false;

    printf("seed %u\n", seed);
    if (access("/dev/shm", W_OK) != 0 || access("/var/tmp", W_OK) != 0) {
        puts("skipped: /dev/shm and /var/tmp cannot both be written to");
        return 77;
    }
    berth__host_register();
    install();
    tiers[0] = BERTH_TIER_DRAM;
    tiers[1] = berth__tier_find("shm");
    tiers[2] = berth__tier_find("disk");
    before = live_bytes(BERTH_TIER_DRAM);
    for (int i = 0; i < THREADS; i++) {
        workers[i].seed = seed + (unsigned)i * 7919;
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    /* Else all jobs are done before there is a block. */
    while (atomic_load(&busy) < THREADS)
        sched_yield();
    fault_seed = seed;
    for (unsigned i = 0; i < rounds; i++) {
        berth__move_inject = i % 2 ? fail_sometimes : NULL;
        moved += run_job(tiers[(unsigned)rand_r(&seed) % 3]);
    }
    berth__move_inject = NULL;
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        wrong |= workers[i].wrong;
        checked += workers[i].checked;
    }
    printf("%llu moves, %llu MiB checked: %s\n", (unsigned long long)moved,
           (unsigned long long)(checked >> 20), wrong ? "WRONG" : "right");
    /* Of two threads that free at once, jemalloc has one give back, and the other leave it. */
    berth__arena_trim();
    if (!all_is_back(tiers[1]) || !all_is_back(tiers[2]) || away_from_home() != 0) {
        printf("%zu bytes are not home\n", away_from_home());
        wrong = true;
    }
    if (live_bytes(BERTH_TIER_DRAM) != before) {
        puts("the account does not end where it began");
        wrong = true;
    }
    if (moved == 0)
        puts("nothing has moved");
    return wrong || moved == 0 ? 1 : 0;
}
