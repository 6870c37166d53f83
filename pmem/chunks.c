/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/chunks.h"

#include "pmem/window.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORD_BITS 64
/* Longer than others hold the lock, unless they wait for a processor. */
#define HOLD_TRIES 1000

/* Those whose lock this thread has, or is about to take or has just given up. */
static __thread const struct berth_chunks *volatile locked;

/* A part of the window: chunks [first, end), of which [start, stop) is asked for, in bytes. */
struct span {
    size_t first, end;
    uintptr_t start, stop;
};

static void lock(struct berth_chunks *chunks)
{
    locked = chunks;
    pthread_mutex_lock(&chunks->lock);
}

static void unlock(struct berth_chunks *chunks)
{
    pthread_mutex_unlock(&chunks->lock);
    locked = NULL;
}

static struct span span_of(const struct berth_chunks *chunks, const void *address, size_t size)
{
    uintptr_t start = (uintptr_t)address - chunks->base;

    return (struct span){
        .first = start >> chunks->shift,
        .end = ((start + size - 1) >> chunks->shift) + 1,
        .start = start,
        .stop = start + size,
    };
}

/* The part of the span that lies in chunk `index`. */
static struct span part_in(const struct berth_chunks *chunks, const struct span *span, size_t index)
{
    struct span part = *span;
    uintptr_t start = (uintptr_t)index << chunks->shift;
    uintptr_t stop = start + ((uintptr_t)1 << chunks->shift);

    if (part.start < start)
        part.start = start;
    if (part.stop > stop)
        part.stop = stop;
    return part;
}

static uint32_t page_count(const struct span *part)
{
    return (uint32_t)((part->stop - part->start) >> BERTH_OS_PAGE_SHIFT);
}

int berth__chunks_init(struct berth_chunks *chunks, uintptr_t window, size_t window_size,
                       size_t chunk_size, uint64_t backing_size)
{
    uintptr_t base = (window + chunk_size - 1) & ~(uintptr_t)(chunk_size - 1);
    size_t words, size;
    char *p;

    chunks->base = base;
    chunks->window = window;
    chunks->shift = (unsigned)__builtin_ctzl(chunk_size);
    chunks->count = window_size < base - window + chunk_size
                        ? 0
                        : (window_size - (base - window)) >> chunks->shift;
    chunks->backing_count = backing_size >> chunks->shift;
    if (chunks->backing_count >= UINT32_MAX)
        chunks->backing_count = UINT32_MAX - 1;
    if (chunks->count == 0 || chunks->backing_count == 0)
        return -ENOSPC;
    chunks->backing_free = chunks->backing_count;
    words = chunks->backing_count / WORD_BITS + 1;
    size = words * sizeof(uint64_t) + chunks->count * 2 * sizeof(uint32_t);
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
             0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    chunks->tables_size = size;
    chunks->taken = (void *)p;
    chunks->backing = (void *)(p + words * sizeof(uint64_t));
    chunks->pages = chunks->backing + chunks->count;
    chunks->owner = getpid();
    pthread_mutex_init(&chunks->lock, NULL);
    return 0;
}

void berth__chunks_done(struct berth_chunks *chunks)
{
    munmap(chunks->taken, chunks->tables_size);
    pthread_mutex_destroy(&chunks->lock);
}

static bool is_taken(const struct berth_chunks *chunks, size_t index)
{
    return (chunks->taken[index / WORD_BITS] >> (index % WORD_BITS)) & 1;
}

static void set_taken(struct berth_chunks *chunks, size_t index, size_t count, bool taken)
{
    for (size_t i = index; i < index + count; i++) {
        uint64_t bit = UINT64_C(1) << (i % WORD_BITS);

        if (taken)
            chunks->taken[i / WORD_BITS] |= bit;
        else
            chunks->taken[i / WORD_BITS] &= ~bit;
    }
    if (taken)
        chunks->backing_free -= count;
    else
        chunks->backing_free += count;
}

/* The first free chunk of the backing at or after `from`, or backing_count. */
static size_t next_free(const struct berth_chunks *chunks, size_t from)
{
    while (from < chunks->backing_count) {
        uint64_t free_bits = ~chunks->taken[from / WORD_BITS] >> (from % WORD_BITS);

        if (free_bits != 0) {
            from += (size_t)__builtin_ctzll(free_bits);
            break;
        }
        from = (from / WORD_BITS + 1) * WORD_BITS;
    }
    return from < chunks->backing_count ? from : chunks->backing_count;
}

/*
 * Up to `want` free chunks of the backing in a row: behind the one that the window's chunk before
 * `index` has, if that is free, else the first that are. Returns how many, and -ENOSPC for none.
 */
static int find_run(const struct berth_chunks *chunks, size_t index, size_t want, size_t *ret_first,
                    size_t *ret_count)
{
    size_t first = index > 0 ? chunks->backing[index - 1] : 0;
    size_t count = 0;

    if (first >= chunks->backing_count || is_taken(chunks, first))
        first = next_free(chunks, 0);
    while (count < want && first + count < chunks->backing_count &&
           !is_taken(chunks, first + count))
        count++;
    *ret_first = first;
    *ret_count = count;
    return count > 0 ? 0 : -ENOSPC;
}

static void *address_of(const struct berth_chunks *chunks, size_t index)
{
    return (void *)(chunks->base + ((uintptr_t)index << chunks->shift));
}

/* Gives the chunks [index, index + ...) of the window a backing, as many as lie in one run. */
static int attach_run(struct berth_chunks *chunks, size_t index, size_t want, size_t *ret_count)
{
    size_t first, count;
    int r = find_run(chunks, index, want, &first, &count);

    if (r < 0)
        return r;
    r = chunks->attach(chunks->context, address_of(chunks, index), (uint64_t)first << chunks->shift,
                       count << chunks->shift);
    if (r < 0)
        return r;
    set_taken(chunks, first, count, true);
    for (size_t i = 0; i < count; i++)
        chunks->backing[index + i] = (uint32_t)(first + i + 1);
    *ret_count = count;
    return 0;
}

/*
 * Takes the backing of a chunk of which no page is committed. Where that fails (a process can have
 * so many mappings and no more), the chunk keeps it until its pages are committed again.
 */
static void detach_one(struct berth_chunks *chunks, size_t index)
{
    size_t backing = chunks->backing[index] - 1;

    if (chunks->detach(chunks->context, address_of(chunks, index),
                       (uint64_t)backing << chunks->shift, (size_t)1 << chunks->shift) < 0)
        return;
    set_taken(chunks, backing, 1, false);
    chunks->backing[index] = 0;
}

/* What is attached already holds what was there before; one that could not be detached may have no
 * memory any more. */
static int renew_attached(struct berth_chunks *chunks, const struct span *span, size_t index)
{
    struct span part = part_in(chunks, span, index);
    size_t backing = chunks->backing[index] - 1;
    int r = 0;

    if (chunks->pages[index] == 0) {
        r = chunks->attach(chunks->context, address_of(chunks, index),
                           (uint64_t)backing << chunks->shift, (size_t)1 << chunks->shift);
        if (r < 0) {
            set_taken(chunks, backing, 1, false);
            chunks->backing[index] = 0;
        }
    }
    if (r == 0)
        memset((void *)(chunks->base + part.start), 0, part.stop - part.start);
    return r;
}

/* A backing for each chunk of the span that has none. `*ret_end` is where it stopped. */
static int attach_span(struct berth_chunks *chunks, const struct span *span, size_t *ret_end)
{
    size_t index = span->first;
    int r = 0;

    while (r == 0 && index < span->end) {
        size_t count = 1;

        if (chunks->backing[index] == 0) {
            while (index + count < span->end && chunks->backing[index + count] == 0)
                count++;
            r = attach_run(chunks, index, count, &count);
        } else if (chunks->zero) {
            r = renew_attached(chunks, span, index);
        }
        if (r == 0)
            index += count;
    }
    *ret_end = index;
    return r;
}

static void count_pages(struct berth_chunks *chunks, const struct span *span)
{
    for (size_t i = span->first; i < span->end; i++) {
        struct span part = part_in(chunks, span, i);

        chunks->pages[i] += page_count(&part);
    }
}

int berth__chunks_commit(struct berth_chunks *chunks, void *address, size_t size)
{
    struct span span = span_of(chunks, address, size);
    size_t end;
    int r;

    if (getpid() != chunks->owner)
        return -EPERM;
    /* A window that had to be small (RLIMIT_AS) may end in a part of a chunk, which is never used.
     */
    if (span.end > chunks->count)
        return -ENOSPC;
    r = berth__page_set_reach(chunks->committed, (uintptr_t)address - chunks->window, size);
    if (r < 0)
        return r;
    lock(chunks);
    r = attach_span(chunks, &span, &end);
    if (r == 0) {
        count_pages(chunks, &span);
        berth__page_set_add(chunks->committed, (uintptr_t)address - chunks->window, size);
    } else {
        for (size_t i = span.first; i < end; i++)
            if (chunks->pages[i] == 0)
                detach_one(chunks, i);
    }
    unlock(chunks);
    /* Nobody else has these pages: what takes time is done without the lock. */
    if (r == 0 && !chunks->zero)
        memset(address, 0, size);
    return r;
}

int berth__chunks_decommit(struct berth_chunks *chunks, void *address, size_t size)
{
    struct span span = span_of(chunks, address, size);

    if (getpid() != chunks->owner)
        return -EPERM;
    lock(chunks);
    berth__page_set_remove(chunks->committed, (uintptr_t)address - chunks->window, size);
    for (size_t i = span.first; i < span.end; i++) {
        struct span part = part_in(chunks, &span, i);

        chunks->pages[i] -= page_count(&part);
        if (chunks->pages[i] == 0)
            detach_one(chunks, i);
    }
    unlock(chunks);
    return 0;
}

/*
 * A signal's handler may fork where it has interrupted this thread with the lock. That is no harm:
 * what is committed is mapped at each instant, as it is added last and removed first.
 */
bool berth__chunks_hold(struct berth_chunks *chunks)
{
    if (locked != chunks) {
        pthread_mutex_lock(&chunks->lock);
        return true;
    }
    for (unsigned i = 0; i < HOLD_TRIES; i++) {
        if (pthread_mutex_trylock(&chunks->lock) == 0)
            return true;
        sched_yield();
    }
    return false;
}

void berth__chunks_let_go(struct berth_chunks *chunks)
{
    pthread_mutex_unlock(&chunks->lock);
}

uint64_t berth__chunks_free(const struct berth_chunks *chunks)
{
    return (uint64_t)chunks->backing_free << chunks->shift;
}
