/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The C library's questions about its heap, answered for this one: without them a program would
 * be told of glibc's heap, which is empty.
 */
#include "hooks/malloc_path.h"

#include "alloc/thread.h"
#include "pmem/owed.h"
#include "pmem/relief.h"
#include "pmem/residency.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

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
    berth__relief_trim();
    refresh();
    after = read_stat("stats.resident");
    berth__thread.inside--;
    errno = saved_errno;
    return after < before;
}

/* What glibc takes at most for M_MXFAST, the only parameter whose value it looks at. */
#define MXFAST_MAX ((int)(80 * sizeof(size_t) / 4))

/*
 * glibc's tunables have no meaning here; a program that sets one must not think it failed. But
 * blocks are not filled as they come and go for those who ask for that: they look at contents.
 */
BERTH_EXPORT int mallopt(int parameter, int value)
{
    if (parameter == M_PERTURB)
        return value == 0;
    return parameter != M_MXFAST || (value >= 0 && value <= MXFAST_MAX);
}

/* From this size on the C library gives a block a mapping of its own (M_MMAP_THRESHOLD). */
#define MAPPED_MIN ((size_t)128 << 10)
/* Where jemalloc's names have the number of a size class, and how many parts they have at most. */
#define CLASS_PART 2
#define COUNT_PART 4
#define PARTS_MAX 6

/* Blocks of at least MAPPED_MIN that are in use, in all tiers. */
struct large_blocks {
    size_t count, bytes;
};

static size_t read_class(const size_t *mib, size_t length)
{
    size_t value = 0;
    size_t size = sizeof(value);

    berth_je_mallctlbymib(mib, length, &value, &size, NULL, 0);
    return value;
}

static void read_large(struct large_blocks *ret)
{
    size_t class_mib[PARTS_MAX], count_mib[PARTS_MAX];
    size_t class_length = PARTS_MAX, count_length = PARTS_MAX;
    unsigned classes = 0;
    size_t size = sizeof(classes);

    *ret = (struct large_blocks){0};
    if (berth_je_mallctl("arenas.nlextents", &classes, &size, NULL, 0) != 0 ||
        berth_je_mallctlnametomib("arenas.lextent.0.size", class_mib, &class_length) != 0 ||
        berth_je_mallctlnametomib("stats.arenas.4096.lextents.0.curlextents", count_mib,
                                  &count_length) != 0)
        return;
    for (unsigned i = 0; i < classes; i++) {
        size_t count;

        class_mib[CLASS_PART] = count_mib[COUNT_PART] = i;
        size = read_class(class_mib, class_length);
        count = size >= MAPPED_MIN ? read_class(count_mib, count_length) : 0;
        ret->count += count;
        ret->bytes += count * size;
    }
}

static size_t less(size_t from, size_t what)
{
    return from > what ? from - what : 0;
}

/*
 * As the C library counts: large blocks, wherever they are, as mapped by themselves (hblkhd), the
 * rest as one heap, whose bytes are what is in use and what is free. A block that lives away from
 * its home is two of jemalloc's, and one of the program's; what is owed is nobody's.
 */
BERTH_EXPORT struct mallinfo2 mallinfo2(void)
{
    struct mallinfo2 info = {0};
    struct large_blocks large;
    size_t active, twins, used;

    berth__thread.inside++;
    refresh();
    read_large(&large);
    twins = berth__residency_twin_bytes() + berth__owed_bytes();
    used = less(read_stat("stats.allocated"), twins);
    active = less(read_stat("stats.active"), twins + large.bytes);
    info.hblkhd = less(large.bytes, twins);
    info.hblks = info.hblkhd > 0 ? less(large.count, berth__residency_twin_count()) : 0;
    info.arena = less(less(read_stat("stats.mapped"), twins), info.hblkhd);
    info.uordblks = less(used, info.hblkhd);
    info.fordblks = less(info.arena, info.uordblks);
    info.ordblks = info.fordblks > 0;
    info.keepcost = less(info.arena, active);
    berth__thread.inside--;
    return info;
}

/* The most that was ever seen, by those who asked. */
static size_t seen_most(_Atomic size_t *most, size_t now)
{
    size_t before = atomic_load(most);

    while (now > before && !atomic_compare_exchange_weak(most, &before, now))
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
    info.hblks = clamp(wide.hblks);
    info.hblkhd = clamp(wide.hblkhd);
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
    static _Atomic size_t largest;
    struct mallinfo2 info;
    size_t most;

    if (options != 0)
        return EINVAL;
    info = mallinfo2();
    most = seen_most(&largest, info.arena);
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
            "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n"
            "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n"
            "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n"
            "</malloc>\n",
            info.ordblks, info.fordblks, info.hblks, info.hblkhd, info.arena, most, info.arena,
            info.arena);
    return 0;
}

/* By the stream and whole, as glibc does: no cancellation point, for all that it writes. */
BERTH_EXPORT void malloc_stats(void)
{
    static _Atomic size_t most_regions, most_bytes;
    struct mallinfo2 info = mallinfo2();
    int saved_errno = errno;
    int cancel_state;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    fprintf(stderr,
            "Arena 0:\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
            "Total (incl. mmap):\nsystem bytes     = %10zu\nin use bytes     = %10zu\n"
            "max mmap regions = %10zu\nmax mmap bytes   = %10zu\n",
            info.arena, info.uordblks, info.arena + info.hblkhd, info.uordblks + info.hblkhd,
            seen_most(&most_regions, info.hblks), seen_most(&most_bytes, info.hblkhd));
    pthread_setcancelstate(cancel_state, NULL);
    errno = saved_errno;
}
