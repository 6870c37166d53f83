/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: in a process with a limit each function that finds no memory has what was freed given back,
 * and asks once more. Method: nothing is given until a block that was freed goes back (refuse.h);
 * whoever does not ask again answers that there is no memory. Its addresses are limited, or its
 * data:
 *
 *     relief_client addresses|data [library]
 *
 * With the last word it is what the C library asks for itself, where a rule speaks of all sizes.
 */
#include "refuse.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB(n) ((size_t)(n) << 20)
/* Far from what there is, as is what the process may have at most: nothing but refuse.h refuses. */
#define LIMIT MIB((size_t)1 << 20)
/*
 * What was freed is kept, and serves none of the requests: where rules or records are for some
 * sizes alone, as these, and where they are not.
 */
static const size_t kept_sizes[] = {MIB(3), (size_t)48 << 10};
#define SIZE MIB(20)

/* operator new, new[], and those with an alignment and that do not throw; of no library here. */
extern void *_Znwm(size_t size) __attribute__((weak));
extern void *_Znam(size_t size) __attribute__((weak));
extern void *_ZnwmSt11align_val_t(size_t size, size_t alignment) __attribute__((weak));
extern void *_ZnwmRKSt9nothrow_t(size_t size, const void *tag) __attribute__((weak));
extern void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment, const void *tag)
    __attribute__((weak));

static void *hide(void *p)
{
    __asm__ volatile("" : "+r"(p) : : "memory");
    return p;
}

static void *small; /* for realloc() */
static __rlimit_resource_t limited;

static void *by_malloc(void)
{
    return malloc(SIZE);
}

static void *by_calloc(void)
{
    return calloc(SIZE / 16, 16);
}

static void *by_realloc(void)
{
    return realloc(small, SIZE);
}

static void *by_realloc_of_nothing(void)
{
    return realloc(NULL, SIZE);
}

static void *by_reallocarray(void)
{
    return reallocarray(small, SIZE / 16, 16);
}

static void *by_memalign(void)
{
    return memalign(256, SIZE);
}

static void *by_aligned_alloc(void)
{
    return aligned_alloc(MIB(1), SIZE);
}

static void *by_posix_memalign(void)
{
    void *p = NULL;

    return posix_memalign(&p, 64, SIZE) == 0 ? p : NULL;
}

static void *by_valloc(void)
{
    return valloc(SIZE);
}

static void *by_pvalloc(void)
{
    return pvalloc(SIZE - 1);
}

static void *by_new(void)
{
    return _Znwm(SIZE);
}

static void *by_new_array(void)
{
    return _Znam(SIZE);
}

static void *by_aligned_new(void)
{
    return _ZnwmSt11align_val_t(SIZE, 64);
}

static void *by_new_nothrow(void)
{
    return _ZnwmRKSt9nothrow_t(SIZE, "");
}

static void *by_aligned_new_nothrow(void)
{
    return _ZnwmSt11align_val_tRKSt9nothrow_t(SIZE, 64, "");
}

/*
 * What the C library asks for itself is plain, whatever a rule says of its size. jemalloc may have
 * room for some: the one that finds none is what is looked at.
 */
static void *by_strdup(void)
{
    static char text[60000];
    void *p;

    memset(text, 'x', sizeof(text) - 1);
    for (unsigned i = 0; i < 1000; i++) {
        p = hide(strdup(text));
        if (!p || refuse_has_come())
            return p;
    }
    return NULL;
}

static void *get_nothing(void *unused)
{
    return unused;
}

static void *by_pthread_create(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, get_nothing, NULL) != 0)
        return NULL;
    pthread_join(thread, NULL);
    return malloc(100);
}

#define WAY(name)                                                                                  \
    {                                                                                              \
#name, by_##name                                                                           \
    }

static const struct way {
    const char *name;
    void *(*get)(void);
} ways[] = {
    WAY(malloc),
    WAY(calloc),
    WAY(realloc),
    WAY(realloc_of_nothing),
    WAY(reallocarray),
    WAY(memalign),
    WAY(aligned_alloc),
    WAY(posix_memalign),
    WAY(valloc),
    WAY(pvalloc),
    WAY(new),
    WAY(new_array),
    WAY(aligned_new),
    WAY(new_nothrow),
    WAY(aligned_new_nothrow),
    WAY(pthread_create),
};
static const struct way librarys_way = WAY(strdup);

enum { RIGHT, WRONG, NOT_SHOWN };

/* Whether memory was had, by what the function has given back first. */
static int ask(const struct way *way, size_t kept_size)
{
    struct refuse_outcome outcome;
    struct rlimit limit;
    char *kept, *p;

    if (getrlimit(limited, &limit) != 0)
        return WRONG;
    limit.rlim_cur = LIMIT < limit.rlim_max ? LIMIT : limit.rlim_max;
    if (setrlimit(limited, &limit) != 0)
        return WRONG;
    small = memset(hide(malloc(100)), 7, 100);
    kept = memset(hide(malloc(kept_size)), 1, kept_size);
    free(kept);
    refuse_until(kept, kept_size);
    p = hide(way->get());
    outcome = refuse_end();
    if (outcome.was_taken)
        return NOT_SHOWN;
    dprintf(STDOUT_FILENO, "%-20s %7zu %s after %u refusals\n", way->name, kept_size,
            !p                 ? "nothing was had"
            : outcome.has_come ? "had"
                               : "had without what was kept",
            outcome.refusals);
    return p && outcome.has_come && outcome.refusals > 0 ? RIGHT : WRONG;
}

/* In a process of its own: what one way has freed another one could have. */
static int ask_apart(const struct way *way, size_t kept_size)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0)
        _exit(ask(way, kept_size));
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
        return WRONG;
    return WEXITSTATUS(status);
}

/* Berth's own thread begins in the same moment, and may be given what was freed. */
static bool is_right(const struct way *way, size_t kept_size)
{
    int answer = NOT_SHOWN;

    for (unsigned i = 0; i < 100 && answer == NOT_SHOWN; i++)
        answer = ask_apart(way, kept_size);
    if (answer == NOT_SHOWN)
        printf("%-20s %7zu was taken by another thread each time\n", way->name, kept_size);
    return answer == RIGHT;
}

int main(int argc, char **argv)
{
    int failed = 0;

    limited = argc > 1 && strcmp(argv[1], "data") == 0 ? RLIMIT_DATA : RLIMIT_AS;
    if (argc > 2) {
        for (size_t j = 0; j < sizeof(kept_sizes) / sizeof(kept_sizes[0]); j++)
            failed += !is_right(&librarys_way, kept_sizes[j]);
        return failed != 0;
    }
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        for (size_t j = 0; j < sizeof(kept_sizes) / sizeof(kept_sizes[0]); j++)
            failed += !is_right(&ways[i], kept_sizes[j]);
    printf("%d failed\n", failed);
    return failed != 0;
}
