/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that limits its own addresses or data while it runs, uses them up in blocks of one size
 * and frees these, can have much of that again in blocks of any other size, by any function, and
 * for a thread's stack.
 */
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)
#define LIMIT (128 * MIB)
/* Small, and none of the sizes that lie in a block of a power of two without loss. */
#define SMALL ((size_t)12000)

struct piece {
    struct piece *next;
};

/* The kernel's word for a size of this process's, in KiB. */
static size_t size_of(const char *name)
{
    FILE *file = fopen("/proc/self/status", "re");
    size_t length = strlen(name), size = 0;
    char line[256];

    CHECK(file);
    while (size == 0 && fgets(line, sizeof(line), file))
        if (strncmp(line, name, length) == 0 && line[length] == ':')
            size = (size_t)strtoull(line + length + 1, NULL, 10);
    fclose(file);
    CHECK(size > 0);
    return size;
}

static __rlimit_resource_t limited;

/* False where an emulated processor would take many seconds for so many pages. */
static bool limit(__rlimit_resource_t resource)
{
    struct rlimit limit = {LIMIT, LIMIT};

    if (getenv("CHECK_EMULATED"))
        return false;
    /* Who runs tests may have the C library fill all blocks, which takes as long. */
    CHECK(mallopt(M_PERTURB, 0) == 1 && setrlimit(resource, &limit) == 0);
    limited = resource;
    return true;
}

/*
 * Takes blocks until there are no more, and gives them all back. How many bytes they were; 0 where
 * they are not limited: where rules have blocks of files, which are no data, as the kernel says,
 * too.
 */
static size_t use_up(void *(*get)(size_t size), size_t size)
{
    struct piece *pieces = NULL, *piece = NULL;
    size_t total = 0;

    errno = 0;
    while (total < LIMIT && (piece = get(size))) {
        check_fill(piece, 100, 1);
        piece->next = pieces;
        pieces = piece;
        total += size;
    }
    CHECK(piece || errno == ENOMEM);
    CHECK(!piece || size_of(limited == RLIMIT_AS ? "VmSize" : "VmData") <= LIMIT >> 10);
    while (pieces) {
        struct piece *next = pieces->next;

        free(pieces);
        pieces = next;
    }
    return piece ? 0 : total;
}

static void *get_block(size_t size)
{
    return check_hide(malloc(size));
}

static void *get_zeroed(size_t size)
{
    return check_hide(calloc(size / 100, 100));
}

static void *get_grown(size_t size)
{
    void *p = check_hide(malloc(100));
    void *to = p ? check_hide(realloc(p, size)) : NULL;

    if (!to)
        free(p);
    return to;
}

static void *get_new_by_realloc(size_t size)
{
    return check_hide(realloc(NULL, size));
}

static void *get_aligned(size_t size)
{
    return check_hide(memalign(256, size));
}

static void *get_by_posix(size_t size)
{
    void *p = NULL;
    int r = posix_memalign(&p, 64, size);

    CHECK(r == 0 || r == ENOMEM);
    errno = r;
    return check_hide(p);
}

static void *allocate(void *size)
{
    void *p = check_hide(malloc((size_t)size));

    CHECK(p);
    free(p);
    return p;
}

static void a_thread_may_begin(void)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, allocate, (void *)(uintptr_t)100) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
}

/* Natively the C library's heap comes to be in pieces, too: so it is half of what there was. */
static void each_size_may_follow(__rlimit_resource_t resource)
{
    static const size_t sizes[] = {8 << 20, 1 << 20, SMALL, 100 << 10, 1000, 8 << 20};
    size_t most;

    if (!limit(resource))
        return;
    most = use_up(get_block, SMALL);
    CHECK(most == 0 || most >= LIMIT / 2);
    a_thread_may_begin();
    for (size_t i = 0; most > 0 && i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t total = use_up(get_block, sizes[i]);

        CHECK(total == 0 || total >= most / 2);
        a_thread_may_begin();
    }
}

static void each_function_may_follow(__rlimit_resource_t resource)
{
    static void *(*const get[])(size_t) = {get_zeroed, get_grown, get_aligned, get_new_by_realloc,
                                           get_by_posix};
    /* What is mostly plain, and what is mostly recorded. */
    static const size_t sizes[] = {50 << 10, 4 << 20};
    size_t most;

    if (!limit(resource))
        return;
    most = use_up(get_block, SMALL);
    for (size_t i = 0; most > 0 && i < sizeof(get) / sizeof(get[0]); i++) {
        size_t total = use_up(get[i], sizes[i % 2]);

        CHECK(total == 0 || total >= most / 2);
        most = use_up(get_block, SMALL);
    }
}

static void addresses_that_were_freed_can_be_had_in_other_sizes(void)
{
    each_size_may_follow(RLIMIT_AS);
}

static void addresses_that_were_freed_can_be_had_by_any_function(void)
{
    each_function_may_follow(RLIMIT_AS);
}

static void data_that_were_freed_can_be_had_in_other_sizes(void)
{
    each_size_may_follow(RLIMIT_DATA);
}

static void data_that_were_freed_can_be_had_by_any_function(void)
{
    each_function_may_follow(RLIMIT_DATA);
}

/* As shells do with ulimit: between vfork() and exec. */
static void limit_child(__rlimit_resource_t resource)
{
    struct rlimit limit = {LIMIT, LIMIT};
    pid_t pid = vfork();
    int status;

    if (pid == 0)
        _exit(setrlimit(resource, &limit) == 0 ? 0 : 1);
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
}

/* Its addresses are what the parent has, whose limits are others. */
static void a_child_that_borrows_memory_limits_itself_alone(void)
{
    const char *emulated = getenv("CHECK_EMULATED");
    size_t before = size_of("VmSize");
    char *p;

    /* An emulator of a processor alone forks where it is asked to lend memory, and has addresses of
     * its own. */
    if (emulated && strcmp(emulated, "machine") != 0)
        return;
    limit_child(RLIMIT_AS);
    limit_child(RLIMIT_DATA);
    CHECK(size_of("VmSize") >= before);
    p = check_hide(malloc(2 * LIMIT));
    CHECK(p);
    check_fill(p, 100, 1);
    free(p);
    CHECK(size_of("VmSize") >= before);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check limit_checks[] = {
    ENTRY(addresses_that_were_freed_can_be_had_in_other_sizes),
    ENTRY(addresses_that_were_freed_can_be_had_by_any_function),
    ENTRY(data_that_were_freed_can_be_had_in_other_sizes),
    ENTRY(data_that_were_freed_can_be_had_by_any_function),
    ENTRY(a_child_that_borrows_memory_limits_itself_alone),
    {NULL, NULL},
};
