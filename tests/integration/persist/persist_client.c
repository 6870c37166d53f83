/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program with persistent blocks. Each way to call it prints what was wrong and exits 1, or 0;
 * 77 where Berth does not serve it.
 *
 *     persist_client put NAME SIZE SEED      makes or replaces the block and commits it
 *     persist_client get NAME SIZE SEED      finds it and compares every byte; ENOENT: exits 2
 *     persist_client rm NAME                 removes it; ENOENT: exits 2
 *     persist_client half NAME SIZE          makes it, fills it, and ends without a commit
 *     persist_client hold NAME               finds it, prints "holding", ends when stdin does
 *     persist_client share COUNT             has blocks s0, s1, ... be there, whoever makes them
 *     persist_client contract TIER           what berth_persist(3) promises, call by call
 *     persist_client threads COUNT ROUNDS    each thread puts, gets and removes blocks of its own,
 *                                            and a common one is read; children are forked
 * meanwhile persist_client absent                  what it promises without Berth persist_client
 * work SEED COUNT SIZE    for ever: puts and removes blocks w0, w1, ...; first it verifies what is
 * there. Each line on stdout is one event: have, none, begin, done; with block and number
 */
#include "alloc/berth.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static int failures;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

static int complain(const char *what, const char *name, int r)
{
    fprintf(stderr, "persist_client: %s %s: %s\n", what, name, strerror(-r));
    return r == -ENOSYS ? 77 : r == -ENOENT ? 2 : 1;
}

static uint64_t word_at(uint64_t seed, uint64_t i)
{
    uint64_t x = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15) + i;

    x ^= x >> 29;
    return x * UINT64_C(0xbf58476d1ce4e5b9);
}

/* The first word is the seed itself. */
static void fill(unsigned char *p, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = i == 0 ? seed : word_at(seed, i);

        memcpy(p + i, &word, size - i < 8 ? size - i : 8);
    }
}

static int holds(const unsigned char *p, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = i == 0 ? seed : word_at(seed, i);

        if (memcmp(p + i, &word, size - i < 8 ? size - i : 8) != 0)
            return 0;
    }
    return 1;
}

static size_t parse_size(const char *text)
{
    return (size_t)strtoull(text, NULL, 0);
}

static int put(const char *name, size_t size, uint64_t seed)
{
    void *p = NULL;
    int r = berth_persist_replace(name, size, &p);

    if (r < 0)
        return complain("replace", name, r);
    fill(p, size, seed);
    r = berth_persist_commit(p);
    if (r < 0)
        return complain("commit", name, r);
    free(p);
    return 0;
}

static int get(const char *name, size_t size, uint64_t seed)
{
    void *p = NULL;
    size_t found = 0;
    int r = berth_persist_find(name, &p, &found);

    if (r < 0)
        return complain("find", name, r);
    if (found != size || !holds(p, size, seed)) {
        fprintf(stderr, "persist_client: %s: other contents, %zu bytes\n", name, found);
        return 1;
    }
    return 0;
}

static int half(const char *name, size_t size)
{
    unsigned state = 9;
    void *p = NULL;
    int r = berth_persist(name, size, &p, &state);

    if (r < 0)
        return complain("persist", name, r);
    if (state != BERTH_PERSIST_CREATED)
        return complain("persist found", name, -EEXIST);
    memset(p, 0x5a, size);
    return 0;
}

/* Several of these race: each block is made by one of them and found by the others. */
static int share(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        unsigned state = 9;
        char name[32];
        void *p = NULL;
        int r;

        snprintf(name, sizeof(name), "s%u", i);
        do
            r = berth_persist(name, 4096, &p, &state);
        while (r == -EBUSY);
        if (r < 0)
            return complain("persist", name, r);
        if (state == BERTH_PERSIST_CREATED) {
            fill(p, 4096, i);
            r = berth_persist_commit(p);
            if (r < 0)
                return complain("commit", name, r);
        }
        CHECK(holds(p, 4096, i));
        free(p);
    }
    return failures ? 1 : 0;
}

static int hold(const char *name)
{
    void *p = NULL;
    size_t size = 0;
    int r = berth_persist_find(name, &p, &size);

    if (r < 0)
        return complain("find", name, r);
    puts("holding");
    fflush(stdout);
    return getchar() == EOF ? 0 : 1;
}

static void check_new_block(const char *name, const char *tier, unsigned char **ret_p)
{
    static const unsigned char zeros[4096];
    struct berth_block_info info;
    unsigned state = 9;
    void *p = NULL, *again = NULL;

    CHECK(berth_persist(name, 3 * MIB + 1, &p, &state) == 0);
    CHECK(state == BERTH_PERSIST_CREATED);
    CHECK(p && memcmp(p, zeros, sizeof(zeros)) == 0);
    CHECK(berth_persist(name, 3 * MIB + 1, &again, &state) == -EBUSY && !again);
    CHECK(malloc_usable_size(p) == 3 * MIB + 1);
    CHECK(berth_describe((char *)p + MIB, &info, sizeof(info)) == 0);
    CHECK(info.base == p && info.requested == 3 * MIB + 1 && info.tag == BERTH_TAG_WEIGHT);
    CHECK(strcmp(info.tier, tier) == 0);
    *ret_p = p;
}

static void check_committed_block(const char *name, unsigned char *p)
{
    void *again = NULL, *other = NULL;
    size_t size = 0;
    unsigned state = 9;

    fill(p, 3 * MIB + 1, 7);
    CHECK(berth_persist_commit(p + 4096) == -EINVAL);
    CHECK(berth_persist_commit(p) == 0);
    CHECK(berth_persist_commit(p) == 0);
    CHECK(berth_persist(name, 3 * MIB + 1, &again, &state) == 0);
    CHECK(state == BERTH_PERSIST_FOUND && again == p);
    CHECK(berth_persist(name, MIB, &other, &state) == -EEXIST && !other);
    CHECK(berth_persist_find(name, &other, &size) == 0 && other == p && size == 3 * MIB + 1);
    CHECK(berth_persist_remove(name) == -EBUSY);
    CHECK(berth_persist_detach(other) == 0);
    free(again);
    CHECK(holds(p, 3 * MIB + 1, 7));
}

/* A child reads what its parent has, changes nothing of it, and ends without harm. */
static void check_child(const char *name, unsigned char *p)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        void *volatile same = p; /* what free() leaves alone here */
        void *q = NULL;
        unsigned state = 9;
        int good = holds(p, 3 * MIB + 1, 7) && berth_persist(name, 1, &q, &state) == -EPERM &&
                   berth_persist_remove(name) == -EPERM && berth_persist_detach(p) == -EPERM &&
                   malloc_usable_size(p) == 3 * MIB + 1;

        free(same);
        q = realloc(same, 64);
        good = good && q && q != (void *)p && memcmp(q, p, 64) == 0;
        free(q);
        _exit(good ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    CHECK(holds(p, 3 * MIB + 1, 7));
}

/* free() and realloc() of such a block, as C programs have them. */
static void check_heap_calls(const char *name, unsigned char *p)
{
    void *volatile gone = p;
    unsigned char *copy, *again;
    unsigned state = 9;
    void *q = NULL;

    copy = realloc(p, 4 * MIB);
    CHECK(copy && copy != p && holds(copy, 3 * MIB, 7));
    memset(copy, 1, 4 * MIB);
    again = realloc(copy, 100);
    CHECK(again && again[99] == 1);
    free(again);
    CHECK(berth_persist_detach(gone) == -EINVAL);
    CHECK(berth_persist(name, 3 * MIB + 1, &q, &state) == 0 && state == BERTH_PERSIST_FOUND);
    CHECK(q && holds(q, 3 * MIB + 1, 7));
    free(q);
    CHECK(berth_persist_replace(name, 100, &q) == 0);
    free(q); /* not committed: the old one stays */
    CHECK(berth_persist(name, 3 * MIB + 1, &q, &state) == 0 && state == BERTH_PERSIST_FOUND);
    q = realloc(q, 64);
    CHECK(q && *(uint64_t *)q == 7);
    free(q);
    CHECK(berth_persist_remove(name) == 0);
    CHECK(berth_persist_remove(name) == -ENOENT);
    CHECK(berth_persist_find(name, &q, (size_t[]){0}) == -ENOENT);
}

static int contract(const char *tier)
{
    unsigned char *p = NULL;
    char name[256];
    unsigned state = 9;
    void *q = NULL;

    CHECK(berth_persist("", 1, &q, &state) == -EINVAL && !q && state == 9);
    CHECK(berth_persist("a\tb", 1, &q, &state) == -EINVAL);
    CHECK(berth_persist("huge", SIZE_MAX / 2, &q, &state) < 0 && !q);
    CHECK(berth_persist_commit(&state) == -EINVAL);
    CHECK(berth_persist_detach(NULL) == -EINVAL);
    CHECK(berth_persist(NULL, 1, &q, &state) == -EINVAL);
    CHECK(berth_persist("null", 1, NULL, &state) == -EINVAL);
    CHECK(berth_persist_replace(NULL, 1, &q) == -EINVAL);
    CHECK(berth_persist_find(NULL, &q, (size_t[]){0}) == -EINVAL);
    CHECK(berth_persist_remove(NULL) == -EINVAL);
    for (int i = 0; i < 2 && failures == 0; i++) {
        snprintf(name, sizeof(name), "%s%scontract", i ? tier : "", i ? ":" : "");
        errno = 33;
        check_new_block(name, tier, &p);
        check_committed_block(name, p);
        check_child(name, p);
        check_heap_calls(name, p);
        CHECK(errno == 33 || failures);
        errno = 0;
    }
    return failures ? 1 : 0;
}

struct worker {
    unsigned number, rounds;
    int status;
};

static void fork_once(void)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        unsigned state;
        void *p;

        _exit(berth_persist("common", 1, &p, &state) == -EPERM ? 0 : 1);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void *work_alone(void *context)
{
    struct worker *worker = context;
    char name[32];

    snprintf(name, sizeof(name), "thread-%u", worker->number);
    for (unsigned i = 0; i < worker->rounds && worker->status == 0; i++) {
        size_t size = 100 + (size_t)i * 7919 % 200000;
        int r;

        worker->status = put(name, size, i);
        if (worker->status == 0)
            worker->status = get(name, size, i);
        if (worker->status == 0)
            worker->status = get("common", 300000, 42);
        if (i % 8 == worker->number % 8)
            fork_once();
        /* get() has kept it. */
        r = berth_persist_remove(name);
        CHECK(r == -EBUSY);
    }
    return NULL;
}

static int threads(unsigned count, unsigned rounds)
{
    struct worker *workers = calloc(count, sizeof(*workers));
    pthread_t *ids = calloc(count, sizeof(*ids));
    int status = put("common", 300000, 42);

    for (unsigned i = 0; i < count; i++) {
        workers[i] = (struct worker){i, rounds, 0};
        pthread_create(&ids[i], NULL, work_alone, &workers[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(ids[i], NULL);
        status |= workers[i].status;
    }
    free(ids);
    free(workers);
    return status || failures ? 1 : 0;
}

static int absent(void)
{
    unsigned state = 9;
    size_t size = 9;
    int here;
    void *p = &here;

    CHECK(berth_persist("a", 1, &p, &state) == -ENOSYS);
    CHECK(berth_persist_replace("a", 1, &p) == -ENOSYS);
    CHECK(berth_persist_find("a", &p, &size) == -ENOSYS);
    CHECK(berth_persist_commit(&here) == -ENOSYS);
    CHECK(berth_persist_detach(&here) == -ENOSYS);
    CHECK(berth_persist_remove("a") == -ENOSYS);
    CHECK(p == &here && state == 9 && size == 9);
    return failures ? 1 : 0;
}

static void tell(const char *event, unsigned block, uint64_t number)
{
    char line[64];
    int n = snprintf(line, sizeof(line), "%s %u %" PRIu64 "\n", event, block, number);

    /* In one piece, and gone when a kill comes. */
    if (write(STDOUT_FILENO, line, (size_t)n) != n)
        _exit(1);
}

/* Which number the block has; contents and all. */
static int look(unsigned block, uint64_t *ret_number)
{
    char name[16];
    size_t size = 0;
    void *p = NULL;
    int r;

    snprintf(name, sizeof(name), "w%u", block);
    r = berth_persist_find(name, &p, &size);
    if (r == -ENOENT) {
        tell("none", block, 0);
        *ret_number = 0;
        return 0;
    }
    if (r < 0)
        return complain("find", name, r);
    *ret_number = size >= 8 ? *(uint64_t *)p : 0;
    if (!holds(p, size, *ret_number)) {
        fprintf(stderr, "persist_client: %s: torn contents, %zu bytes\n", name, size);
        return 1;
    }
    free(p);
    tell("have", block, *ret_number);
    return 0;
}

static int work(uint64_t seed, unsigned count, size_t size_max)
{
    uint64_t number = 0, n = 0;
    int r = 0;

    for (unsigned block = 0; r == 0 && block < count; block++) {
        r = look(block, &n);
        number = n > number ? n : number;
    }
    tell("ready", 0, 0);
    while (r == 0) {
        char name[16];
        unsigned block;

        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        block = (unsigned)(seed >> 33) % count;
        snprintf(name, sizeof(name), "w%u", block);
        if (seed >> 60 == 0) {
            tell("begin", block, 0);
            r = berth_persist_remove(name);
            r = r == 0 || r == -ENOENT ? 0 : complain("remove", name, r);
            n = 0;
        } else {
            n = ++number;
            tell("begin", block, n);
            r = put(name, 8 + (size_t)(seed >> 20) % size_max, n);
        }
        if (r == 0)
            tell("done", block, n);
    }
    return r;
}

static int run(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    if (strcmp(verb, "put") == 0 && argc == 5)
        return put(argv[2], parse_size(argv[3]), strtoull(argv[4], NULL, 0));
    if (strcmp(verb, "get") == 0 && argc == 5)
        return get(argv[2], parse_size(argv[3]), strtoull(argv[4], NULL, 0));
    if (strcmp(verb, "rm") == 0 && argc == 3) {
        int r = berth_persist_remove(argv[2]);

        return r < 0 ? complain("remove", argv[2], r) : 0;
    }
    if (strcmp(verb, "half") == 0 && argc == 4)
        return half(argv[2], parse_size(argv[3]));
    if (strcmp(verb, "share") == 0 && argc == 3)
        return share((unsigned)strtoul(argv[2], NULL, 0));
    if (strcmp(verb, "hold") == 0 && argc == 3)
        return hold(argv[2]);
    if (strcmp(verb, "contract") == 0 && argc == 3)
        return contract(argv[2]);
    if (strcmp(verb, "threads") == 0 && argc == 4)
        return threads((unsigned)strtoul(argv[2], NULL, 0), (unsigned)strtoul(argv[3], NULL, 0));
    if (strcmp(verb, "absent") == 0)
        return absent();
    if (strcmp(verb, "work") == 0 && argc == 5)
        return work(strtoull(argv[2], NULL, 0), (unsigned)strtoul(argv[3], NULL, 0),
                    parse_size(argv[4]));
    fprintf(stderr, "persist_client: see the head of persist_client.c\n");
    return 1;
}

int main(int argc, char **argv)
{
    return run(argc, argv);
}
