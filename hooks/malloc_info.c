/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C library's questions about its heap, answered for this one: without them a program would
 * be told of glibc's heap, which is empty.
 */
#include "hooks/malloc_path.h"

#include "alloc/thread.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
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

/* Every page that no block uses goes back to the system; 1 if that made a difference. */
BERTH_EXPORT int malloc_trim(size_t pad)
{
    size_t before, after;

    (void)pad;
    refresh();
    before = read_stat("stats.resident");
    berth_je_mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    berth_je_mallctl("arena.4096.purge", NULL, NULL, NULL, 0);
    refresh();
    after = read_stat("stats.resident");
    return after < before;
}

/* glibc's tunables have no meaning here; a program that sets one must not think it failed. */
BERTH_EXPORT int mallopt(int parameter, int value)
{
    (void)parameter;
    (void)value;
    return 1;
}

BERTH_EXPORT struct mallinfo2 mallinfo2(void)
{
    struct mallinfo2 info = {0};
    size_t active;

    refresh();
    active = read_stat("stats.active");
    info.arena = read_stat("stats.mapped");
    info.uordblks = read_stat("stats.allocated");
    info.fordblks = info.arena > info.uordblks ? info.arena - info.uordblks : 0;
    info.keepcost = info.arena > active ? info.arena - active : 0;
    return info;
}

static int clamp(size_t value)
{
    return value > INT_MAX ? INT_MAX : (int)value;
}

BERTH_EXPORT struct mallinfo mallinfo(void)
{
    struct mallinfo2 wide = mallinfo2();
    struct mallinfo info = {0};

    info.arena = clamp(wide.arena);
    info.uordblks = clamp(wide.uordblks);
    info.fordblks = clamp(wide.fordblks);
    info.keepcost = clamp(wide.keepcost);
    return info;
}

BERTH_EXPORT int malloc_info(int options, FILE *file)
{
    struct mallinfo2 info;

    if (options != 0) {
        errno = EINVAL;
        return -1;
    }
    info = mallinfo2();
    fprintf(file,
            "<malloc version=\"1\">\n<total type=\"rest\" count=\"0\" size=\"%zu\"/>\n"
            "<system type=\"current\" size=\"%zu\"/>\n<aspace type=\"total\" size=\"%zu\"/>\n"
            "</malloc>\n",
            info.fordblks, info.arena, info.arena);
    return ferror(file) ? -1 : 0;
}

BERTH_EXPORT void malloc_stats(void)
{
    struct mallinfo2 info = mallinfo2();
    char text[160];
    int n = snprintf(text, sizeof(text),
                     "Arena 0:\nsystem bytes     = %10zu\nin use bytes     = %10zu\n", info.arena,
                     info.uordblks);

    if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
        return;
}
