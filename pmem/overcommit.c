/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/overcommit.h"

#include "alloc/sandbox.h"
#include "pmem/jemalloc.h"
#include "pmem/plain.h"
#include "pmem/spare.h"
#include "pmem/sysfs.h"
#include "pmem/window.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* Less than this, 1 GiB, is not asked about: any machine has it, in swap if not in memory. */
#define ASKED_MIN ((size_t)1 << 30)
/*
 * When so little cannot be had, there are no addresses left. A larger step may be more than
 * jemalloc needs: it then asks for less, and a large block looks after itself (pmem/host.c).
 */
#define STEP_SMALL ((size_t)8 << 20)

#define OVERCOMMIT_FILE "../proc/sys/vm/overcommit_memory"
#define OVERCOMMIT_NEVER 2

/* What the program maps from now on is locked in memory (mlockall(2), MCL_FUTURE), or was once. */
static atomic_bool locks_future;

void berth__overcommit_see_lock(bool future)
{
    atomic_store_explicit(&locks_future, future, memory_order_relaxed);
}

/*
 * The kernel puts memory behind what is mapped locked, and behind what is locked when it becomes
 * writable: addresses alone are mapped first, and made writable when they are no longer locked.
 */
static void *map_unlocked(size_t size)
{
    void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return MAP_FAILED;
    if (munlock(p, size) == 0 && mprotect(p, size, PROT_READ | PROT_WRITE) == 0)
        return p;
    munmap(p, size);
    return MAP_FAILED;
}

bool berth__overcommit_allows(size_t size)
{
    int saved_errno = errno;
    void *p;

    if (size < ASKED_MIN)
        return true;
    if (atomic_load_explicit(&locks_future, memory_order_relaxed) && !berth__sandbox_is_on())
        p = map_unlocked(size);
    else
        p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED)
        munmap(p, size);
    errno = saved_errno;
    return p != MAP_FAILED;
}

bool berth__overcommit_is_strict(void)
{
    static _Atomic enum { UNKNOWN, NO, YES } known;
    int strict = atomic_load_explicit(&known, memory_order_relaxed);
    int64_t rule;

    if (strict != UNKNOWN)
        return strict == YES;
    if (berth__sandbox_is_on())
        return false;
    strict =
        berth__sysfs_number(OVERCOMMIT_FILE, &rule) == 0 && rule == OVERCOMMIT_NEVER ? YES : NO;
    atomic_store_explicit(&known, strict, memory_order_relaxed);
    return strict == YES;
}

/* Whether there ever was a limit of data. */
static atomic_bool is_data_counted;

bool berth__overcommit_counts_writable(void)
{
    return atomic_load_explicit(&is_data_counted, memory_order_relaxed) ||
           berth__overcommit_is_strict();
}

/* jemalloc's, read whenever it gives memory back; where its archive has it (embed_jemalloc.sh). */
extern bool berth_je_opt_retain __attribute__((weak, visibility("hidden")));

/* What the limits were when they were last looked at: sandboxed programs may not ask. */
static _Atomic size_t data_limit = SIZE_MAX, least_limit = SIZE_MAX;

static size_t limit_of(__rlimit_resource_t resource)
{
    struct rlimit limit;

    return getrlimit(resource, &limit) == 0 && limit.rlim_cur < SIZE_MAX ? limit.rlim_cur
                                                                         : SIZE_MAX;
}

/*
 * Room for jemalloc's metadata in a limited process. Where it has none for the rest of a free
 * extent that it divides, it loses the whole of it for good, and goes on: a block for each page of
 * a program's, as long as there is a page.
 */
static _Atomic uint64_t reserve;

/*
 * Metadata come in multiples of a step, aligned to it, each at least as large as the one before:
 * the next is about a 64th of what there is. Little is kept of little, and of very little nothing.
 */
#define METADATA_STEP ((size_t)2 << 20)
#define RESERVE_MIN (2 * METADATA_STEP)
#define RESERVE_USUAL (3 * METADATA_STEP)
#define RESERVE_USUAL_SHIFT 4
#define RESERVE_SHARE_SHIFT 6
/* What is kept is one word: the address's page, and below it the size in so many bits of steps. */
#define RESERVE_STEP_BITS 28

static size_t reserve_size(size_t limit)
{
    size_t size = limit >> RESERVE_SHARE_SHIFT, most = limit >> RESERVE_USUAL_SHIFT;

    if (size < RESERVE_USUAL)
        size = most < RESERVE_USUAL ? most : RESERVE_USUAL;
    return size & ~(METADATA_STEP - 1);
}

/*
 * Of data only what can be written is counted. Nobody is to put memory behind it: what is locked,
 * or counted by the kernel (pmem/overcommit.h), would have it all at once.
 */
static void *reserve_map(size_t size)
{
    bool is_data = berth__overcommit_data_limit() != SIZE_MAX;
    void *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return p;
    if ((!atomic_load_explicit(&locks_future, memory_order_relaxed) ||
         (!berth__sandbox_is_on() && munlock(p, size) == 0)) &&
        (!is_data || mprotect(p, size, PROT_READ | PROT_WRITE) == 0))
        return p;
    munmap(p, size);
    return MAP_FAILED;
}

void berth__overcommit_release(void)
{
    uint64_t kept = atomic_exchange(&reserve, 0);

    if (kept != 0)
        munmap((void *)(kept >> RESERVE_STEP_BITS << BERTH_OS_PAGE_SHIFT),
               (kept & (((uint64_t)1 << RESERVE_STEP_BITS) - 1)) * METADATA_STEP);
}

void berth__overcommit_reserve(void)
{
    size_t least = atomic_load(&least_limit);
    size_t size = reserve_size(least);
    uint64_t none = 0, word;
    void *kept;

    if (least == SIZE_MAX || size < RESERVE_MIN || atomic_load(&reserve) != 0)
        return;
    kept = reserve_map(size);
    if (kept == MAP_FAILED)
        return;
    word = (uintptr_t)kept >> BERTH_OS_PAGE_SHIFT << RESERVE_STEP_BITS | size / METADATA_STEP;
    if (!atomic_compare_exchange_strong(&reserve, &none, word))
        munmap(kept, size);
}

/* Whether a step of metadata may be had now that could not: by its size, or with what is cut off
 * where it is to be aligned. */
static bool reserve_serves(size_t size)
{
    if ((size + BERTH_OS_PAGE) % METADATA_STEP > BERTH_OS_PAGE || atomic_load(&reserve) == 0)
        return false;
    berth__overcommit_release();
    return true;
}

/*
 * The process that this memory is of; 0 before the first question. Another one that sees it borrows
 * the memory of a parent, which waits for its exec (vfork(2)): its limits are its own. A child that
 * was forked, however, has the number wiped, and puts its own there.
 */
static _Atomic(_Atomic pid_t *) owner;
/* Where the kernel wipes no page (before Linux 4.14): of children that are forked past the C
 * library no limits are seen. */
static _Atomic pid_t unwiped;

static _Atomic pid_t *map_owner(void)
{
    _Atomic pid_t *there = NULL;
    void *page =
        mmap(NULL, BERTH_OS_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    _Atomic pid_t *made = page;

    if (page == MAP_FAILED || madvise(page, BERTH_OS_PAGE, MADV_WIPEONFORK) < 0)
        made = &unwiped;
    if (!atomic_compare_exchange_strong(&owner, &there, made))
        made = there;
    if (page != MAP_FAILED && made != page)
        munmap(page, BERTH_OS_PAGE);
    return made;
}

bool berth__overcommit_is_owner(void)
{
    _Atomic pid_t *of;
    pid_t self, none = 0;

    if (berth__sandbox_is_on())
        return true;
    of = atomic_load(&owner);
    if (!of)
        of = map_owner();
    self = getpid();
    return atomic_compare_exchange_strong(of, &none, self) || none == self;
}

/* Before a child of its own, that borrows its memory, is the first to ask. */
void berth__overcommit_in_child(void)
{
    atomic_store(&unwiped, 0);
    (void)berth__overcommit_is_owner();
}

void berth__overcommit_see_limits(void)
{
    size_t data = limit_of(RLIMIT_DATA), addresses = limit_of(RLIMIT_AS);
    size_t least = data < addresses ? data : addresses;

    if (!berth__overcommit_is_owner())
        return;
    atomic_store_explicit(&data_limit, data, memory_order_relaxed);
    if (data != SIZE_MAX)
        atomic_store_explicit(&is_data_counted, true, memory_order_relaxed);
    if (atomic_exchange(&least_limit, least) != least)
        berth__plain_renew_limits();
    if (&berth_je_opt_retain && berth_je_opt_retain && least != SIZE_MAX)
        berth_je_opt_retain = false;
    if (least == SIZE_MAX)
        berth__overcommit_release();
    else
        berth__overcommit_reserve();
}

size_t berth__overcommit_least_limit(void)
{
    return atomic_load(&least_limit);
}

size_t berth__overcommit_data_limit(void)
{
    return atomic_load_explicit(&data_limit, memory_order_relaxed);
}

/* What jemalloc calls as mmap (embed_jemalloc.sh). */
BERTH_HIDDEN void *berth_je_mmap(void *address, size_t size, int protection, int flags, int fd,
                                 off_t offset);

/*
 * With MAP_NORESERVE as jemalloc asks, once the kernel has said that it would give so much:
 * without, a fork would have to be given all that lies together again, and jemalloc keeps what was
 * freed.
 */
static void *map(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    if ((flags & MAP_NORESERVE) && !berth__overcommit_allows(size)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return mmap(address, size, protection, flags, fd, offset);
}

void *berth_je_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *p;

    p = map(address, size, protection, flags, fd, offset);
    if (p == MAP_FAILED && size <= STEP_SMALL && !(flags & MAP_FIXED) && berth__window_shed(size))
        p = map(address, size, protection, flags, fd, offset);
    if (p == MAP_FAILED && !berth__sandbox_is_on())
        berth__overcommit_see_limits();
    if (p == MAP_FAILED && !address && reserve_serves(size))
        p = map(address, size, protection, flags, fd, offset);
    if (p != MAP_FAILED && !address && berth__spare_is_better(p, size)) {
        munmap(p, size);
        p = MAP_FAILED;
    }
    if (p == MAP_FAILED && !address) {
        void *cut = berth__spare_cut(size);

        p = cut ? cut : MAP_FAILED;
    }
    return p;
}
