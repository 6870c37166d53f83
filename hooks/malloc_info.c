/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C library's questions about its heap, answered for this one: without them a program would
 * be told of glibc's heap, which is empty.
 */
#include "hooks/malloc_path.h"

#include "alloc/thread.h"
#include "pmem/arena.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

/* jemalloc's statistics as of now. */
static void refresh(void)
{
    uint64_t epoch = 1;

    berth_je_mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
}

static size_t read_stat(const char *name)
{
    size_t value = 0;
    size_t size = sizeof(value);

    berth_je_mallctl(name, &value, &size, NULL, 0);
    return value;
}

/*
 * Every page that no block uses goes back to the system; 1 if that made a difference. `pad` is
 * about the top of a heap that is not there.
 */
BERTH_EXPORT int malloc_trim(size_t pad)
{
    int saved_errno = errno;
    size_t before, after;

    (void)pad;
    berth__thread.inside++;
    refresh();
    before = read_stat("stats.resident");
    berth_je_mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    berth__arena_trim();
    berth_je_mallctl("arena.4096.purge", NULL, NULL, NULL, 0);
    refresh();
    after = read_stat("stats.resident");
    berth__thread.inside--;
    errno = saved_errno;
    return after < before;
}

/* What glibc takes at most for M_MXFAST, the only parameter whose value it looks at. */
#define MXFAST_MAX ((int)(80 * sizeof(size_t) / 4))

/* glibc's tunables have no meaning here; a program that sets one must not think it failed. */
BERTH_EXPORT int mallopt(int parameter, int value)
{
    return parameter != M_MXFAST || (value >= 0 && value <= MXFAST_MAX);
}

/*
 * Everything is one heap: nothing is counted as mapped by itself (hblkhd), so that what it has got
 * is what is in use and what is free.
 */
BERTH_EXPORT struct mallinfo2 mallinfo2(void)
{
    struct mallinfo2 info = {0};
    size_t active;

    berth__thread.inside++;
    refresh();
    active = read_stat("stats.active");
    info.arena = read_stat("stats.mapped");
    info.uordblks = read_stat("stats.allocated");
    info.fordblks = info.arena > info.uordblks ? info.arena - info.uordblks : 0;
    info.ordblks = info.fordblks > 0;
    info.keepcost = info.arena > active ? info.arena - active : 0;
    berth__thread.inside--;
    return info;
}

/* The most that was ever seen, by those who asked. */
static size_t seen_most(size_t now)
{
    static _Atomic size_t most;
    size_t before = atomic_load(&most);

    while (now > before && !atomic_compare_exchange_weak(&most, &before, now))
        ;
    return now > before ? now : before;
}

static int clamp(size_t value)
{
    return value > INT_MAX ? INT_MAX : (int)value;
}

static struct mallinfo narrow_info(void)
{
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo info = {0};

    info.arena = clamp(wide.arena);
    info.uordblks = clamp(wide.uordblks);
    info.fordblks = clamp(wide.fordblks);
    info.ordblks = clamp(wide.ordblks);
    info.keepcost = clamp(wide.keepcost);
    return info;
}

BERTH_EXPORT struct mallinfo mallinfo(void)
{
    return narrow_info();
}

/* The C library's own names, as in malloc.c. */
BERTH_EXPORT struct mallinfo __libc_mallinfo(void);
extern int __libc_mallopt(int parameter, int value) BERTH_MALLOC_ALIAS(mallopt);

struct mallinfo __libc_mallinfo(void)
{
    return narrow_info();
}

/*
 * glibc's document, for one heap. It counts free blocks by list; here what is free is one number.
 * glibc returns the error and leaves errno alone, whatever malloc_info(3) says.
 */
BERTH_EXPORT int malloc_info(int options, FILE *file)
{
    struct mallinfo2 info;
    size_t most;

    if (options != 0)
        return EINVAL;
    info = mallinfo2();
    most = seen_most(info.arena);
    fprintf(file,
            "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n</sizes>\n"
            "<total type=\"fast\" count=\"0\" size=\"0\"/>\n"
            "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n"
            "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n"
            "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n"
            "</heap>\n",
            info.ordblks, info.fordblks, info.arena, most, info.arena, info.arena);
    fprintf(file,
            "<total type=\"fast\" count=\"0\" size=\"0\"/>\n"
            "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n"
            "<total type=\"mmap\" count=\"0\" size=\"0\"/>\n"
            "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n"
            "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n"
            "</malloc>\n",
            info.ordblks, info.fordblks, info.arena, most, info.arena, info.arena);
    return 0;
}

BERTH_EXPORT void malloc_stats(void)
{
    struct mallinfo2 info = mallinfo2();
    char text[400];
    int saved_errno = errno;
    int n = snprintf(text, sizeof(text),
                     "Arena 0:\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
                     "Total (incl. mmap):\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
                     "max mmap regions = %10u\nmax mmap bytes   = %10lu\n",
                     info.arena, info.uordblks, info.arena, info.uordblks, 0u, 0ul);

    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
        errno = saved_errno;
}
