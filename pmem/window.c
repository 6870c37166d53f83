/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/window.h"

#include "alloc/log.h"
#include "alloc/sandbox.h"
#include "pmem/gate.h"
#include "pmem/huge_advice.h"

#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* 256 slices of 128 GiB: 32 TiB of a 128 TiB user address space, of which nothing is touched. */
#define SLICE_COUNT_MAX 256
#define SLICE_SHIFT_MAX 37
/* Where addresses are limited: slices of at least 64 MiB, and at least two of them. */
#define SLICE_SHIFT_MIN 26
#define SLICE_COUNT_MIN 2
/* The largest alignment is this part of the window. */
#define ALIGNMENT_SHARE 8
/* One tier takes no more than an eighth of what others may still want, so that they find some. */
#define TIER_SHARE_SHIFT 3
/* The part of a limited address space (RLIMIT_AS) that may be reserved: a quarter. */
#define LIMIT_SHARE_SHIFT 2
/* What may be reserved under an emulator: 18 GiB, 16 of them for blocks. */
#define EMULATED_ROOM ((size_t)18 << 30)

/* The reservation's own description, in its last OS page. Immutable but for the atomics. */
struct space {
    uintptr_t base;
    size_t size; /* of all slices */
    unsigned shift;
    unsigned slice_count;
    struct berth_page *page_map;
    _Atomic unsigned slices_taken;
    _Atomic berth_home_id slice_home[SLICE_COUNT_MAX];
};

/* In `carved`, whose bytes are whole OS pages: what was not given out has been given back. */
#define CLOSED ((size_t)1)

struct window {
    _Atomic uintptr_t base; /* 0 until opened; written once, after `size` */
    _Atomic size_t size;
    _Atomic size_t carved; /* bytes from the base that were given out */
};

static _Atomic(struct space *) the_space;
static _Atomic int refused; /* the reservation failed: it is not tried again */
static struct window windows[BERTH_HOME_MAX];

static size_t space_total(unsigned shift, unsigned count)
{
    size_t size = (size_t)count << shift;

    return size + (size >> BERTH_OS_PAGE_SHIFT) * sizeof(struct berth_page) + BERTH_OS_PAGE;
}

/*
 * How much may be reserved: a quarter of the allowed address space. An emulator of user programs
 * (qemu-user before version 8) keeps a record of every page, mapped or only reserved, and would be
 * busy for minutes; it is known by giving programs no vDSO.
 */
static size_t address_room(void)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    size_t room = getauxval(AT_SYSINFO_EHDR) != 0 ? SIZE_MAX : EMULATED_ROOM;

    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        limit.rlim_cur >> LIMIT_SHARE_SHIFT < room)
        room = (size_t)limit.rlim_cur >> LIMIT_SHARE_SHIFT;
    return room;
}

/* The largest reservation that there is room for; false if there is for none. */
static bool choose_shape(unsigned *ret_shift, unsigned *ret_count)
{
    size_t room = address_room();
    unsigned shift = SLICE_SHIFT_MAX;
    unsigned count = SLICE_COUNT_MAX;

    while (shift > SLICE_SHIFT_MIN && space_total(shift, count) > room)
        shift--;
    while (count >= SLICE_COUNT_MIN && space_total(shift, count) > room)
        count >>= 1;
    *ret_shift = shift;
    *ret_count = count;
    return count >= SLICE_COUNT_MIN;
}

static void *reserve_addresses(unsigned *shift, unsigned *count)
{
    while (*count >= SLICE_COUNT_MIN) {
        void *p = mmap(NULL, space_total(*shift, *count), PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p != MAP_FAILED)
            return p;
        if (*shift > SLICE_SHIFT_MIN)
            --*shift;
        else
            *count >>= 1;
    }
    return NULL;
}

static uint64_t physical_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);

    return pages > 0 ? (uint64_t)pages << BERTH_OS_PAGE_SHIFT : 0;
}

/*
 * Twice what may be alive: an address range that was used for one size may not suit the next.
 * `later` tiers may still come, and each shall find a slice: a filesystem of many terabytes asks
 * for its whole share, and a machine may have a dozen such.
 */
static unsigned slices_for(const struct space *space, uint64_t want, unsigned later)
{
    unsigned taken = atomic_load_explicit(&space->slices_taken, memory_order_relaxed);
    unsigned spare = space->slice_count - taken;
    uint64_t slices = (want >> (space->shift - 1)) + 1;
    unsigned most = spare > later ? (spare - later) >> TIER_SHARE_SHIFT : 0;

    if (most == 0)
        most = 1;
    return slices > most ? most : (unsigned)slices;
}

/* How many homes have no window yet. Tiers are made one at a time. */
static unsigned tiers_to_come(void)
{
    unsigned count = 0;

    for (unsigned id = 0; id < BERTH_HOME_MAX; id++)
        count += atomic_load_explicit(&windows[id].base, memory_order_relaxed) == 0;
    return count;
}

static int take_slices(struct space *space, berth_home_id home, unsigned count)
{
    unsigned first = atomic_load_explicit(&space->slices_taken, memory_order_relaxed);
    struct window *window = &windows[home];

    do {
        if (first + count > space->slice_count)
            count = space->slice_count - first;
        if (count == 0)
            return -ENOSPC;
    } while (!atomic_compare_exchange_weak(&space->slices_taken, &first, first + count));
    for (unsigned i = first; i < first + count; i++)
        atomic_store_explicit(&space->slice_home[i], home, memory_order_relaxed);
    atomic_store_explicit(&window->size, (size_t)count << space->shift, memory_order_relaxed);
    atomic_store_explicit(&window->base, space->base + ((uintptr_t)first << space->shift),
                          memory_order_release);
    return 0;
}

static struct space *describe_space(char *start, unsigned shift, unsigned count)
{
    size_t size = (size_t)count << shift;
    size_t total = space_total(shift, count);
    struct space *space = (void *)(start + total - BERTH_OS_PAGE);

    _Static_assert(sizeof(struct space) <= BERTH_OS_PAGE, "the description is one OS page");
    if (mprotect(space, BERTH_OS_PAGE, PROT_READ | PROT_WRITE) < 0)
        return NULL;
    /* An untouched reservation is no news in a core dump; tiers say otherwise for their pieces. */
    madvise(start, total, MADV_DONTDUMP);
    space->base = (uintptr_t)start;
    space->size = size;
    space->shift = shift;
    space->slice_count = count;
    space->page_map = (void *)(start + size);
    memset((void *)space->slice_home, BERTH_TIER_NONE, sizeof(space->slice_home));
    /* dram's slices are the first: known without a store, so that all threads agree on them. */
    space->slices_taken = slices_for(space, physical_memory(), BERTH_HOME_MAX);
    for (unsigned i = 0; i < space->slices_taken; i++)
        space->slice_home[i] = BERTH_TIER_DRAM;
    return space;
}

/* Idempotent: whoever sees the space makes it known, so that no one waits for anyone. */
static void publish_space(const struct space *space)
{
    struct window *dram = &windows[BERTH_TIER_DRAM];
    unsigned slices = 0;

    while (slices < space->slice_count && space->slice_home[slices] == BERTH_TIER_DRAM)
        slices++;
    atomic_store_explicit(&dram->size, (size_t)slices << space->shift, memory_order_relaxed);
    atomic_store_explicit(&dram->base, space->base, memory_order_release);
    berth__plain_set_window(space->base, space->size);
}

static void refuse(void)
{
    static _Atomic int said;

    atomic_store_explicit(&refused, 1, memory_order_relaxed);
    /* Perhaps nobody asked for more than that; each tier that cannot be had is told of itself. */
    berth__log_once(&said, BERTH_LOG_INFO, BERTH_TOPIC_TIER,
                    "no addresses can be reserved (see RLIMIT_AS); "
                    "host memory stays in DRAM and large blocks are counted in total only");
}

static struct space *make_space(void)
{
    struct space *space = NULL;
    struct space *expected = NULL;
    unsigned shift, count;
    void *start = NULL;

    /* What limits there are can no longer be asked for in a sandbox. */
    if (atomic_load_explicit(&refused, memory_order_relaxed) || berth__sandbox_is_on())
        return NULL;
    /* The page map, like the jemalloc in here, counts in OS pages of 4 KiB. */
    if (sysconf(_SC_PAGESIZE) == (long)BERTH_OS_PAGE && choose_shape(&shift, &count))
        start = reserve_addresses(&shift, &count);
    if (start)
        space = describe_space(start, shift, count);
    if (!space) {
        if (start)
            munmap(start, space_total(shift, count));
        refuse();
        return NULL;
    }
    if (!atomic_compare_exchange_strong(&the_space, &expected, space)) {
        munmap(start, space_total(shift, count));
        space = expected;
    }
    return space;
}

static struct space *get_space(void)
{
    struct space *space = atomic_load_explicit(&the_space, memory_order_acquire);

    if (BERTH_UNLIKELY(!space))
        space = make_space();
    if (BERTH_UNLIKELY(space &&
                       !atomic_load_explicit(&berth__plain.window_size, memory_order_acquire)))
        publish_space(space);
    return space;
}

int berth__window_open(berth_home_id home, uint64_t want)
{
    struct space *space = get_space();

    if (!space)
        return -ENOMEM;
    if (atomic_load_explicit(&windows[home].base, memory_order_acquire))
        return 0;
    return take_slices(space, home, slices_for(space, want, tiers_to_come()));
}

void berth__window_begin_huge(berth_home_id home)
{
    struct window *window = &windows[home];
    uintptr_t base = atomic_load_explicit(&window->base, memory_order_acquire);
    size_t size = atomic_load_explicit(&window->size, memory_order_relaxed);
    size_t before = -base & (BERTH_HUGE_PAGE - 1);

    if (before >= size || atomic_load_explicit(&window->carved, memory_order_relaxed) > 0)
        return;
    atomic_store_explicit(&window->size, size - before, memory_order_relaxed);
    atomic_store_explicit(&window->base, base + before, memory_order_release);
}

bool berth__window_ready(berth_home_id home)
{
    if (BERTH_LIKELY(atomic_load_explicit(&windows[home].base, memory_order_acquire) != 0))
        return true;
    return home == BERTH_TIER_DRAM && get_space() != NULL;
}

/* Makes the page map's entries for [p, p + size) usable. */
static int open_page_map(const struct space *space, uintptr_t p, size_t size)
{
    uintptr_t first = (uintptr_t)&space->page_map[(p - space->base) >> BERTH_OS_PAGE_SHIFT];
    uintptr_t end = (uintptr_t)&space->page_map[(p + size - space->base) >> BERTH_OS_PAGE_SHIFT];

    first &= ~(uintptr_t)(BERTH_OS_PAGE - 1);
    end = (end + BERTH_OS_PAGE - 1) & ~(uintptr_t)(BERTH_OS_PAGE - 1);
    return mprotect((void *)first, end - first, PROT_READ | PROT_WRITE) < 0 ? -errno : 0;
}

/* Said when a tier would grow: a shell that sets a limit for others needs no tier any more. */
static void say_closed(berth_home_id home)
{
    static _Atomic int said;

    if (home != BERTH_TIER_DRAM)
        berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_TIER,
                        "the program has limited its addresses (RLIMIT_AS); "
                        "its host tiers grow no more");
}

void *berth__window_carve(berth_home_id home, size_t size, size_t alignment)
{
    struct window *window = &windows[home];
    uintptr_t base = atomic_load_explicit(&window->base, memory_order_acquire);
    size_t limit = atomic_load_explicit(&window->size, memory_order_relaxed);
    size_t carved = atomic_load_explicit(&window->carved, memory_order_relaxed);
    size_t start, end;

    /* What is skipped for the sake of one block is lost to all others. */
    if (base == 0 || alignment > limit / ALIGNMENT_SHARE)
        return NULL;
    do {
        uintptr_t p = (base + carved + alignment - 1) & ~(uintptr_t)(alignment - 1);

        if (carved & CLOSED) {
            say_closed(home);
            return NULL;
        }
        if (p < base || p - base > limit || size > limit - (p - base))
            return NULL;
        start = p - base;
        end = start + size;
    } while (!atomic_compare_exchange_weak_explicit(&window->carved, &carved, end,
                                                    memory_order_acq_rel, memory_order_relaxed));
    if (open_page_map(atomic_load_explicit(&the_space, memory_order_acquire), base + start, size) <
        0) {
        berth__window_uncarve(home, (void *)(base + start), size);
        return NULL;
    }
    return (void *)(base + start);
}

void berth__window_uncarve(berth_home_id home, const void *p, size_t size)
{
    struct window *window = &windows[home];
    size_t start = (uintptr_t)p - atomic_load_explicit(&window->base, memory_order_acquire);
    size_t end = start + size;

    atomic_compare_exchange_strong_explicit(&window->carved, &end, start, memory_order_acq_rel,
                                            memory_order_relaxed);
}

berth_home_id berth__window_home(const void *p)
{
    struct space *space = atomic_load_explicit(&the_space, memory_order_acquire);

    return atomic_load_explicit(&space->slice_home[((uintptr_t)p - space->base) >> space->shift],
                                memory_order_relaxed);
}

berth_tier_id berth__window_tier(const void *p)
{
    return berth__home_tier(berth__window_home(p));
}

uintptr_t berth__window_base(berth_home_id home)
{
    return atomic_load_explicit(&windows[home].base, memory_order_acquire);
}

size_t berth__window_size(berth_home_id home)
{
    return atomic_load_explicit(&windows[home].size, memory_order_relaxed);
}

size_t berth__window_used(berth_home_id home)
{
    return atomic_load_explicit(&windows[home].carved, memory_order_acquire) & ~CLOSED;
}

static _Atomic(bool (*)(berth_home_id home, const void *p)) has_carved;

void berth__window_ask_carved(bool (*has)(berth_home_id home, const void *p))
{
    atomic_store(&has_carved, has);
}

bool berth__window_carved(const void *p)
{
    berth_home_id home = berth__window_home(p);
    bool (*has)(berth_home_id home, const void *p) = atomic_load(&has_carved);

    if (home == BERTH_TIER_NONE ||
        (uintptr_t)p - berth__window_base(home) >= berth__window_used(home))
        return false;
    return !has || has(home, p);
}

struct berth_page *berth__window_page(const void *p)
{
    struct space *space = atomic_load_explicit(&the_space, memory_order_acquire);

    return &space->page_map[((uintptr_t)p - space->base) >> BERTH_OS_PAGE_SHIFT];
}

/* The slices' part [start, end), which nobody uses, and as much of the page map as is its alone. */
static void give_back(const struct space *space, uintptr_t start, uintptr_t end)
{
    uintptr_t map_start = (uintptr_t)&space->page_map[(start - space->base) >> BERTH_OS_PAGE_SHIFT];
    uintptr_t map_end = (uintptr_t)&space->page_map[(end - space->base) >> BERTH_OS_PAGE_SHIFT];

    map_start = (map_start + BERTH_OS_PAGE - 1) & ~(uintptr_t)(BERTH_OS_PAGE - 1);
    map_end &= ~(uintptr_t)(BERTH_OS_PAGE - 1);
    if (end > start)
        munmap((void *)start, end - start);
    if (map_end > map_start)
        munmap((void *)map_start, map_end - map_start);
}

/* Two mappings more than there are: as many as one in the middle of another makes. */
int berth__window_try_mapping(size_t size, int map_flags, int fd, uint64_t offset)
{
    char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, map_flags, fd, (off_t)offset);
    void *q;
    int r;

    if (p == MAP_FAILED)
        return -errno;
    q = mmap(NULL, size, PROT_NONE, map_flags, fd, (off_t)offset);
    r = q == MAP_FAILED ? -errno : 0;
    if (r == 0)
        munmap(q, size);
    munmap(p, size);
    return r;
}

#define NOTHING (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

int berth__window_clear(void *p, size_t size)
{
    return mmap(p, size, PROT_NONE, NOTHING | MAP_FIXED, -1, 0) == MAP_FAILED ? -errno : 0;
}

bool berth__window_mend(void *p, size_t size)
{
    void *found = mmap(p, size, PROT_NONE, NOTHING | MAP_FIXED_NOREPLACE, -1, 0);

    /* Kernels before 4.17 do not know the flag, and map elsewhere what cannot be had here. */
    if (found != p && found != MAP_FAILED)
        munmap(found, size);
    return found == p;
}

static void close_window(const struct space *space, berth_home_id home)
{
    struct window *window = &windows[home];
    uintptr_t base = atomic_load_explicit(&window->base, memory_order_acquire);
    size_t carved;

    if (base == 0)
        return;
    carved = atomic_fetch_or(&window->carved, CLOSED);
    if (!(carved & CLOSED))
        give_back(space, base + carved, base + berth__window_size(home));
}

static _Atomic(void (*)(void)) watchers[BERTH_WINDOW_WATCHERS];

void berth__window_when_closed(void (*run)(void))
{
    for (unsigned i = 0; i < BERTH_WINDOW_WATCHERS; i++) {
        void (*known)(void) = NULL;

        if (atomic_compare_exchange_strong(&watchers[i], &known, run) || known == run)
            return;
    }
}

static void close_space(struct space *space)
{
    unsigned spare;

    /* Known before the first address can become somebody else's. */
    atomic_store(&berth__plain.is_kept, berth__window_carved);
    spare = atomic_exchange(&space->slices_taken, space->slice_count);
    give_back(space, space->base + ((uintptr_t)spare << space->shift), space->base + space->size);
    for (unsigned id = 0; id < BERTH_HOME_MAX; id++)
        close_window(space, (berth_home_id)id);
    for (unsigned i = 0; i < BERTH_WINDOW_WATCHERS; i++) {
        void (*run)(void) = atomic_load(&watchers[i]);

        if (run)
            run();
    }
}

void berth__window_limit(uint64_t limit)
{
    struct space *space = atomic_load_explicit(&the_space, memory_order_acquire);

    if (space && space_total(space->shift, space->slice_count) > limit >> LIMIT_SHARE_SHIFT)
        close_space(space);
}

bool berth__window_shed(size_t size)
{
    struct space *space = atomic_load_explicit(&the_space, memory_order_acquire);
    struct rlimit limit;

    if (!space || getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY ||
        size > limit.rlim_cur)
        return false;
    /* Another thread may have done so since `size` could not be had. */
    if (!atomic_load_explicit(&berth__plain.is_kept, memory_order_relaxed))
        close_space(space);
    return true;
}
