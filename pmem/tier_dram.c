/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/tier_dram.h"

#include "pmem/arena.h"
#include "pmem/huge_advice.h"
#include "pmem/overcommit.h"
#include "pmem/tier_huge.h"
#include "pmem/window.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * What an arena takes of addresses becomes readable and writable part by part, as it is first
 * needed: whatever can be written is made resident by mlockall(), used or not, and counts against
 * RLIMIT_DATA. A part is 2 MiB at least, and a 16th of all that can be written: few system calls
 * and few kernel mappings for a program that has much.
 */
#define PART_SHIFT 21
#define PART_MAX ((size_t)64 << 20)
#define PART_SHARE_SHIFT 4
#define WORD_BITS 64

/*
 * What is known of each part of a window, by address. OPEN: all of it can be written. PIECES: some
 * of it was opened alone, as it had not been carved whole, or no more could be had. Such a part is
 * never opened as a whole: blocks lie there that may have moved, or whose pages the program has
 * protected. Where whatever can be written is counted (pmem/overcommit.h) no other is made, and
 * what goes back is closed again. GONE: its addresses were given back, and may be somebody else's.
 * In a part of which nothing is known nothing lies.
 *
 * Any thread may read; parts are opened and given back under the lock: a thread that protects a
 * block which it has just been given must not have that undone by another one which is still about
 * to open the block's part.
 */
enum part_state { UNKNOWN = 0, OPEN = 1, PIECES = 2, GONE = 3 };
#define BITS_PER_PART 2

struct parts {
    _Atomic(_Atomic uint64_t *) words; /* NULL before the first step */
    _Atomic size_t open;               /* bytes */
};

/* Each window's own: a policy may have several tiers of this kind. */
static struct parts windows_parts[BERTH_HOME_MAX];

/* The innermost of all locks: only system calls are made under it, and no allocation. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Whoever gives addresses back may be a signal's handler, and does without rather than wait. */
#define LOCK_ATTEMPTS 1000

static struct parts *parts_of(berth_home_id home)
{
    return &windows_parts[home];
}

/* The part of an address, counted from that in which the window begins. */
static size_t part_number(berth_home_id home, uintptr_t address)
{
    return (address >> PART_SHIFT) - (berth__window_base(home) >> PART_SHIFT);
}

/*
 * What `words` is where none could be had at the first step: for good, then, and all steps are
 * opened whole. Of what was opened whole later words would know nothing, and so give it back,
 * blocks and all.
 */
static _Atomic uint64_t no_words;

/* NULL where there are none. */
static _Atomic uint64_t *known_words(const struct parts *parts)
{
    _Atomic uint64_t *words = atomic_load_explicit(&parts->words, memory_order_acquire);

    return words == &no_words ? NULL : words;
}

/* The words of a window, made at its first step; NULL where there are none. */
static _Atomic uint64_t *words_of(berth_home_id home)
{
    struct parts *parts = parts_of(home);
    size_t bits = part_number(home, berth__window_base(home) + berth__window_size(home)) + 1;
    size_t size = (bits * BITS_PER_PART + WORD_BITS - 1) / WORD_BITS * sizeof(uint64_t);
    _Atomic uint64_t *words = NULL;
    void *p;

    if (atomic_load_explicit(&parts->words, memory_order_acquire))
        return known_words(parts);
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
             0);
    if (!atomic_compare_exchange_strong(&parts->words, &words,
                                        p == MAP_FAILED ? &no_words : (_Atomic uint64_t *)p) &&
        p != MAP_FAILED)
        munmap(p, size);
    return known_words(parts);
}

static enum part_state state_of(_Atomic uint64_t *words, size_t part)
{
    size_t bit = part * BITS_PER_PART;

    return (enum part_state)(atomic_load_explicit(&words[bit / WORD_BITS], memory_order_acquire) >>
                                 (bit % WORD_BITS) &
                             GONE);
}

/* Under the lock; from UNKNOWN or GONE, or to PIECES. */
static void become(_Atomic uint64_t *words, size_t first, size_t end, enum part_state state)
{
    for (size_t part = first; part < end; part++) {
        size_t bit = part * BITS_PER_PART;
        uint64_t flip = (uint64_t)(state_of(words, part) ^ state) << bit % WORD_BITS;

        atomic_fetch_xor_explicit(&words[bit / WORD_BITS], flip, memory_order_release);
    }
}

/* Its blocks belong in a core dump. */
static int open_range(const struct berth_tier *tier, uintptr_t address, size_t size)
{
    void *p = (void *)address;

    if (mprotect(p, size, PROT_READ | PROT_WRITE) < 0)
        return -errno;
    madvise(p, size, MADV_DODUMP);
    if (tier->huge_pages != BERTH_HUGE_NEVER)
        berth__huge_advise(p, size);
    return 0;
}

static size_t part_size(const struct parts *parts)
{
    size_t most = atomic_load_explicit(&parts->open, memory_order_relaxed) >> PART_SHARE_SHIFT;
    size_t size = (size_t)1 << PART_SHIFT;

    while (size < PART_MAX && size < most)
        size <<= 1;
    return size;
}

/* Where a part begins; the window's begin, if that lies within. */
static uintptr_t part_start(berth_home_id home, size_t part)
{
    uintptr_t base = berth__window_base(home);
    uintptr_t start = ((base >> PART_SHIFT) + part) << PART_SHIFT;

    return start < base ? base : start;
}

/* Opens the parts [first, end), in which nothing lies. Under the lock, like the next four. */
static int open_parts(const struct berth_tier *tier, berth_home_id home, size_t first, size_t end)
{
    struct parts *parts = parts_of(home);
    uintptr_t low = part_start(home, first);
    int r = open_range(tier, low, part_start(home, end) - low);

    if (r < 0)
        return r;
    become(known_words(parts), first, end, OPEN);
    atomic_fetch_add_explicit(&parts->open, (end - first) << PART_SHIFT, memory_order_relaxed);
    return 0;
}

/*
 * Opens the parts around a range as far as nothing lies in them and the window is carved: beyond,
 * addresses may be given back and become somebody else's. As many as can be had.
 */
static void open_around(const struct berth_tier *tier, berth_home_id home, uintptr_t address,
                        size_t size)
{
    const struct parts *parts = parts_of(home);
    _Atomic uint64_t *words = known_words(parts);
    size_t several = part_size(parts) >> PART_SHIFT;
    size_t part = part_number(home, address) & ~(several - 1);
    size_t end = (part_number(home, address + size - 1) | (several - 1)) + 1;
    size_t whole = part_number(home, berth__window_base(home) + berth__window_used(home));
    int r = 0;

    if (end > whole)
        end = whole;
    while (part < end && r == 0) {
        size_t first = part;

        while (part < end && state_of(words, part) == UNKNOWN)
            part++;
        if (part > first)
            r = open_parts(tier, home, first, part);
        while (part < end && state_of(words, part) != UNKNOWN)
            part++;
    }
}

/* The end of what a part has that was carved off. */
static uintptr_t part_end(berth_home_id home, size_t part)
{
    uintptr_t used = berth__window_base(home) + berth__window_used(home);
    uintptr_t end = part_start(home, part + 1);

    return end < used ? end : used;
}

static int open_gone(const struct berth_tier *tier, uintptr_t address, size_t size)
{
    int r;

    if (!berth__window_mend((void *)address, size))
        return -ENOMEM;
    r = open_range(tier, address, size);
    if (r < 0)
        munmap((void *)address, size);
    return r;
}

/* Gets back the addresses of those of a range's parts that are GONE, where nobody has them now. */
static int get_back(const struct berth_tier *tier, berth_home_id home, uintptr_t address,
                    size_t size)
{
    _Atomic uint64_t *words = known_words(parts_of(home));
    size_t end = part_number(home, address + size - 1) + 1;
    int r = 0;

    for (size_t part = part_number(home, address); part < end && r == 0; part++) {
        uintptr_t low = part_start(home, part);

        if (state_of(words, part) != GONE)
            continue;
        if (berth__overcommit_counts_writable()) {
            r = berth__window_mend((void *)low, part_end(home, part) - low) ? 0 : -ENOMEM;
            if (r == 0)
                become(words, part, part + 1, PIECES);
            continue;
        }
        r = open_gone(tier, low, part_end(home, part) - low);
        if (r == 0)
            become(words, part, part + 1, OPEN);
    }
    return r;
}

/* Opens a range itself, where its parts are not open. */
static int open_pieces(const struct berth_tier *tier, berth_home_id home, uintptr_t address,
                       size_t size)
{
    _Atomic uint64_t *words = known_words(parts_of(home));
    size_t part = part_number(home, address);
    size_t end = part_number(home, address + size - 1) + 1;
    int r = 0;

    while (part < end && r == 0) {
        size_t first = part;
        uintptr_t low, high;

        while (part < end && state_of(words, part) != OPEN)
            part++;
        low = first == part_number(home, address) ? address : part_start(home, first);
        high = part == end ? address + size : part_start(home, part);
        become(words, first, part, PIECES);
        if (part > first)
            r = open_range(tier, low, high - low);
        while (part < end && state_of(words, part) == OPEN)
            part++;
    }
    return r;
}

static int open_all(const struct berth_tier *tier, berth_home_id home, uintptr_t address,
                    size_t size)
{
    int r;

    pthread_mutex_lock(&lock);
    r = get_back(tier, home, address, size);
    if (r == 0) {
        if (!berth__overcommit_counts_writable())
            open_around(tier, home, address, size);
        /* Near a limit there may be room for this, and not for all of a part. */
        r = open_pieces(tier, home, address, size);
    }
    pthread_mutex_unlock(&lock);
    return r;
}

static bool has_address(berth_home_id home, const void *p)
{
    _Atomic uint64_t *words = known_words(parts_of(home));

    return !words || state_of(words, part_number(home, (uintptr_t)p)) != GONE;
}

/* Gives back the addresses of the parts in which nothing lies. The window is closed. */
static void give_back_parts(berth_home_id home)
{
    _Atomic uint64_t *words = known_words(parts_of(home));
    size_t used = berth__window_used(home);
    size_t end = used ? part_number(home, berth__window_base(home) + used - 1) + 1 : 0;

    for (size_t part = 0; words && part < end; part++) {
        uintptr_t low = part_start(home, part);

        if (state_of(words, part) != UNKNOWN)
            continue;
        become(words, part, part + 1, GONE);
        munmap((void *)low, part_end(home, part) - low);
    }
}

static void give_back_all(void)
{
    unsigned attempts = 0;

    while (pthread_mutex_trylock(&lock) != 0) {
        if (++attempts == LOCK_ATTEMPTS)
            return;
        sched_yield();
    }
    berth__window_ask_carved(has_address);
    for (unsigned home = 0; home < BERTH_HOME_MAX; home++)
        give_back_parts((berth_home_id)home);
    pthread_mutex_unlock(&lock);
}

void berth__tier_dram_in_child(void)
{
    pthread_mutex_init(&lock, NULL);
}

/* A huge page is had where all its addresses can be written. */
static bool opens_parts(const struct berth_tier *tier)
{
    return tier->huge_pages == BERTH_HUGE_NEVER || berth__overcommit_is_strict();
}

/*
 * Where no parts are known, steps are opened whole; or, once what can be written is counted, each
 * range when it is needed.
 */
static int dram_map(struct berth_tier *tier, void *address, size_t size)
{
    if (!berth__overcommit_allows(size))
        return -ENOMEM;
    if (opens_parts(tier) && words_of(berth__window_home(address)))
        return 0;
    return berth__overcommit_counts_writable() ? 0 : open_range(tier, (uintptr_t)address, size);
}

static int dram_commit(struct berth_tier *tier, void *address, size_t size)
{
    berth_home_id home = berth__window_home(address);
    _Atomic uint64_t *words = known_words(parts_of(home));
    size_t part = part_number(home, (uintptr_t)address);
    size_t end = part_number(home, (uintptr_t)address + size - 1) + 1;

    if (!words || !opens_parts(tier))
        return berth__overcommit_counts_writable() ? open_range(tier, (uintptr_t)address, size) : 0;
    while (part < end && state_of(words, part) == OPEN)
        part++;
    return part == end ? 0 : open_all(tier, home, (uintptr_t)address, size);
}

/* Nothing is behind the range any more, and none of it is counted. */
static int close_range_of(berth_home_id home, void *address, size_t size)
{
    _Atomic uint64_t *words = known_words(parts_of(home));
    size_t part = part_number(home, (uintptr_t)address);
    size_t end = part_number(home, (uintptr_t)address + size - 1) + 1;
    int r;

    pthread_mutex_lock(&lock);
    if (words)
        become(words, part, end, PIECES);
    r = berth__window_clear(address, size);
    pthread_mutex_unlock(&lock);
    return r;
}

static int dram_decommit(struct berth_tier *tier, void *address, size_t size)
{
    int saved_errno = errno;
    int r = 0;

    (void)tier;
    if (berth__overcommit_counts_writable() &&
        close_range_of(berth__window_home(address), address, size) == 0)
        return 0;
    if (madvise(address, size, MADV_DONTNEED) < 0) {
        r = -errno;
        errno = saved_errno;
    }
    return r;
}

static void dram_describe(const struct berth_tier *tier, char *text, size_t text_size)
{
    snprintf(text, text_size, "ordinary memory%s%s",
             tier->huge_pages == BERTH_HUGE_NEVER ? "" : "; ",
             tier->huge_pages == BERTH_HUGE_NEVER ? "" : berth__huge_advice_text());
}

static const struct berth_tier_ops dram_ops = {
    .map = dram_map,
    .commit = dram_commit,
    .decommit = dram_decommit,
    .describe = dram_describe,
};

static int make_dram(struct berth_tier *tier, berth_tier_id id,
                     const struct berth_tier_config *config, char *why, size_t why_size)
{
    uint64_t want = config->capacity;
    int r;

    if (config->huge_pages == BERTH_HUGE_ALWAYS) {
        if (berth__tier_huge_make(tier, id, config, NULL, why, why_size) == 0)
            return 0;
        berth__tier_huge_say_without(tier, why);
    }
    if (want == 0)
        want = (uint64_t)sysconf(_SC_PHYS_PAGES) << BERTH_OS_PAGE_SHIFT;
    r = berth__window_open(id, want);
    if (r < 0) {
        snprintf(why, why_size, "no addresses are left for it in this process");
        return r;
    }
    berth__arena_set_decay(id, config->decay_ms);
    tier->sides = BERTH_SIDE_HOST;
    tier->ops = &dram_ops;
    return 0;
}

void berth__tier_dram_register(void)
{
    berth__tier(BERTH_TIER_DRAM)->ops = &dram_ops;
    berth__tier_set_maker(BERTH_KIND_DRAM, make_dram);
    berth__window_when_closed(give_back_all);
}
