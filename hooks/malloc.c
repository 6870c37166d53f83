/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exported malloc family: what the C library documents, answer for answer. What is called most,
 * malloc(), calloc(), realloc() and free(), begins in malloc_entry.c or its assembly.
 */
#include "hooks/malloc_path.h"

#include "alloc/options.h"
#include "alloc/sandbox.h"
#include "alloc/thread.h"
#include "hooks/callsite.h"
#include "hooks/libc_state.h"
#include "ipc/control.h"
#include "pmem/host.h"
#include "pmem/relief.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

/* The kernel refuses such sizes anyway, and pointer differences would overflow. */
#define REQUEST_MAX ((size_t)PTRDIFF_MAX)

/* What malloc_entry_x86_64.S knows. */
_Static_assert(offsetof(struct berth_plain, count) == 0, "PLAIN_COUNT");
_Static_assert(offsetof(struct berth_plain, limit) == 8, "PLAIN_LIMIT");
_Static_assert(offsetof(struct berth_plain, entry_key) == 16, "PLAIN_ENTRY_KEY");
_Static_assert(offsetof(struct berth_plain, window_base) == 24, "PLAIN_WINDOW_BASE");
_Static_assert(offsetof(struct berth_plain, window_size) == 32, "PLAIN_WINDOW_SIZE");
_Static_assert(offsetof(struct berth_plain, sampled) == 40, "PLAIN_SAMPLED");
_Static_assert(offsetof(struct berth_plain_operators, limit) == 0, "OPERATORS_LIMIT");
_Static_assert(offsetof(struct berth_plain_operators, sampled) == 8, "OPERATORS_SAMPLED");
_Static_assert(offsetof(struct berth_plain_operators, window_base) == 16, "OPERATORS_WINDOW_BASE");
_Static_assert(offsetof(struct berth_plain_operators, window_size) == 24, "OPERATORS_WINDOW_SIZE");
_Static_assert(offsetof(struct berth_sample, until) == 0, "SAMPLE_UNTIL");
_Static_assert(BERTH_TINY_MAX == 8, "TINY_MAX");
_Static_assert(BERTH_GLANCE_SURE == 4095, "GLANCE_SURE");
_Static_assert(BERTH_PLAIN_LIMIT_GLANCE - INT64_MIN == BERTH_GLANCE_SURE + 1, "its last size");
_Static_assert((BERTH_GLANCE_COUNT - 1) << 1 == 0x1ffe, "GLANCE_ADDRESS_MASK");
_Static_assert(sizeof(berth__glances[0]) == 4 << 1, "GLANCE_ADDRESS_SCALE");

/* libberth.so's, when that is preloaded too. */
#pragma weak berth__control_wanted

/*
 * Whether the thread is finding out where its stack is. The C library asks for a few small blocks
 * for that: from jemalloc's caches, the first one would fetch a hundred, and short threads give
 * them all back. While samples are taken, such requests come here as if one were due.
 */
static __thread bool is_finding_stack;

/* A thread's first path. */
static __attribute__((noinline)) berth_site_id capture_first(const void *return_address)
{
    int64_t until = berth__sample.until;
    berth_site_id site;

    is_finding_stack = true;
    berth__sample.until = INT64_MIN / 2;
    site = berth__callsite_capture(return_address);
    is_finding_stack = false;
    berth__sample.until = until;
    return site;
}

/* Of a small block that a rule may place, the path is the return address alone. */
static berth_site_id capture(size_t size, const void *return_address)
{
    size_t threshold = atomic_load_explicit(&berth__gate.site_threshold, memory_order_relaxed);

    if (size >= threshold)
        return BERTH_LIKELY(berth__callsite_knows_stack()) ? berth__callsite_capture(return_address)
                                                           : capture_first(return_address);
    return threshold == SIZE_MAX ? 0 : berth__site_intern(&return_address, 1);
}

/* Nothing of ours is held here any more. */
static void say_placed(void)
{
    if (!&berth__control_wanted || !berth__control_wanted || berth__sandbox_is_on())
        return;
    berth__thread.inside++;
    berth__control_wanted();
    berth__thread.inside--;
}

/*
 * Whose sample it is. A path through the C library is not read on a thread whose stack is not known
 * yet: pthread_getattr_np(), which tells it, may be what asks for the block, and holds a lock.
 */
static berth_site_id capture_sample(const void *return_address)
{
    if (berth__libc_state_is(0, return_address) && !berth__callsite_knows_stack())
        return berth__site_intern(&return_address, 1);
    return berth__callsite_capture_sample(return_address);
}

/* Sees whether the block that is asked for is a sample. */
static void weigh(struct berth_host_request *request)
{
    if (request->size >= berth__option(BERTH_OPTION_RECORD_THRESHOLD))
        return;
    request->sample = berth__sample_weigh(request->size);
    if (BERTH_LIKELY(request->sample == 0))
        return;
    berth__thread.inside++;
    request->sample_site = capture_sample(request->caller);
    berth__thread.inside--;
}

static void *finish(void *p, bool placed, int saved_errno)
{
    if (placed)
        say_placed();
    errno = p ? saved_errno : ENOMEM;
    return p;
}

/* Berth's own code does without: what it holds, jemalloc may need to give memory back. */
static __attribute__((noinline, cold)) void *ask_again(const struct berth_host_request *request,
                                                       int saved_errno)
{
    void *p = NULL;

    if (berth__thread.inside++ == 0)
        p = berth__host_plain_again(request);
    berth__thread.inside--;
    errno = p ? saved_errno : ENOMEM;
    return p;
}

/*
 * Where the entries pass nothing, which is so in a limited process, or a glance has passed.
 * jemalloc, which goes on where a part of its memory cannot be had, does not keep errno.
 */
static __attribute__((noinline)) void *malloc_watched(size_t size)
{
    int saved_errno = errno;
    void *p = berth_je_malloc(berth__malloc_at_least(size));

    if (BERTH_UNLIKELY(!p))
        return ask_again(&(struct berth_host_request){.size = size, .alignment = 1}, saved_errno);
    errno = saved_errno;
    return p;
}

static __attribute__((noinline)) void *calloc_watched(size_t size)
{
    int saved_errno = errno;
    void *p = berth_je_calloc(1, berth__malloc_at_least(size));

    if (BERTH_UNLIKELY(!p))
        return ask_again(&(struct berth_host_request){.size = size, .alignment = 1, .zero = true},
                         saved_errno);
    errno = saved_errno;
    return p;
}

static __attribute__((noinline)) void *memalign_watched(size_t alignment, size_t size)
{
    int saved_errno = errno;
    void *p = berth_je_memalign(alignment, size);

    if (BERTH_UNLIKELY(!p))
        return ask_again(&(struct berth_host_request){.size = size, .alignment = alignment},
                         saved_errno);
    errno = saved_errno;
    return p;
}

static void *plain_uncached(size_t size, bool zero)
{
    return berth_je_mallocx(berth__malloc_at_least(size),
                            MALLOCX_TCACHE_NONE | (zero ? MALLOCX_ZERO : 0));
}

void *berth__malloc_place(size_t size, size_t alignment, bool zero, const void *return_address)
{
    struct berth_host_request request = {
        .size = size, .alignment = alignment, .zero = zero, .caller = return_address};
    struct berth_thread *thread = &berth__thread;
    int saved_errno = errno;
    bool placed = false, is_below;
    void *p;

    if (size > REQUEST_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    is_below = berth__malloc_is_below(size);
    if (thread->inside || (!is_below && berth__libc_state_is(size, return_address))) {
        p = is_finding_stack && alignment == 1 ? plain_uncached(size, zero)
                                               : berth__host_plain(&request);
        if (BERTH_UNLIKELY(!p))
            return ask_again(&request, saved_errno);
        return finish(p, placed, saved_errno);
    }
    weigh(&request);
    if (request.sample == 0 &&
        (is_below || (size - 1 < BERTH_TINY_MAX && berth__glance_is_plain(size, return_address)))) {
        p = berth__host_plain(&request);
    } else {
        thread->inside++;
        request.site = is_below ? request.sample_site : capture(size, return_address);
        p = berth__host_alloc(&request, &placed);
        thread->inside--;
    }
    if (BERTH_UNLIKELY(!p))
        return ask_again(&request, saved_errno);
    return finish(p, placed, saved_errno);
}

/* The same for a block that lives; `*ret_placed` as berth__host_realloc() has it. */
static __attribute__((noinline, cold)) void *
replace_again(void *p, const struct berth_host_request *request, bool *ret_placed)
{
    void *to = NULL;

    if (berth__thread.inside++ == 0 && berth__relief_try(request->size))
        to = berth__host_realloc(p, request, ret_placed);
    berth__thread.inside--;
    return to;
}

/* jemalloc's realloc, with the errno that it forgets for sizes beyond its largest class. */
static inline void *realloc_plain(void *p, size_t size)
{
    struct berth_host_request request = {.size = size, .alignment = 1};
    int saved_errno = errno;
    void *to = berth_je_realloc(p, size);
    bool placed = false;

    if (BERTH_UNLIKELY(!to && size != 0)) {
        if (!p)
            return ask_again(&request, saved_errno);
        to = replace_again(p, &request, &placed);
    }
    if (!to && size == 0)
        return NULL;
    return finish(to, placed, saved_errno);
}

/* Berth's own code resizes on the plain path, wherever the block came from. */
static void *replace_inside(void *p, size_t size)
{
    struct berth_host_request request = {.size = size, .alignment = 1};
    bool placed;

    return berth__gate_owns(p) ? berth__host_realloc(p, &request, &placed)
                               : berth_je_rallocx(p, size, 0);
}

void *berth__malloc_replace(void *p, size_t size, const void *return_address)
{
    struct berth_thread *thread = &berth__thread;
    struct berth_host_request request = {.size = size, .alignment = 1, .caller = return_address};
    int saved_errno = errno;
    bool placed = false;
    void *to;

    if (size == 0) {
        berth__malloc_free(p);
        return NULL;
    }
    if (size <= BERTH_TINY_MAX && berth__malloc_is_below(size)) {
        size = BERTH_BLOCK_MIN;
        if (!berth__gate_owns(p) && berth__sample_passes(size))
            return realloc_plain(p, size);
    }
    if (size > REQUEST_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    if (thread->inside) {
        to = replace_inside(p, size);
    } else if (berth__libc_state_is(size, return_address) && !berth__gate_owns(p)) {
        to = berth_je_rallocx(p, size, 0);
    } else {
        weigh(&request);
        thread->inside++;
        request.site =
            berth__malloc_is_below(size) ? request.sample_site : capture(size, return_address);
        to = berth__host_realloc(p, &request, &placed);
        thread->inside--;
    }
    if (BERTH_UNLIKELY(!to))
        to = replace_again(p, &request, &placed);
    return finish(to, placed, saved_errno);
}

void berth__malloc_release(void *p)
{
    int saved_errno = errno;

    berth__thread.inside++;
    berth__host_free(p);
    berth__thread.inside--;
    errno = saved_errno;
}

void berth__malloc_drop(void *p)
{
    berth__malloc_free(p);
}

/* Where no rule can match one byte, none can match no byte. */
static bool is_plain_by_glance(size_t size, const void *return_address)
{
    return berth__glance_is_plain(size ? size : 1, return_address);
}

/* The same for a return address that was never met. */
static __attribute__((noinline)) void *look_closely(size_t size, const void *return_address)
{
    if (is_plain_by_glance(size, return_address) && berth__sample_passes(size))
        return malloc_watched(size);
    return berth__malloc_place(size, 1, false, return_address);
}

/* Every call in here is its last, so that it has no frame. */
__attribute__((noinline)) void *berth__malloc_look(size_t size, const void *return_address)
{
    uint64_t word;

    if (berth__malloc_is_below(size) && berth__sample_passes(size))
        return malloc_watched(size);
    if (BERTH_UNLIKELY(berth__malloc_is_below(size)))
        return berth__malloc_place(size, 1, false, return_address);
    word = berth__glance_peek(return_address);
    if (BERTH_UNLIKELY(word == 0 || size == 0))
        return look_closely(size, return_address);
    if (BERTH_LIKELY(berth__glance_allows(word, size) && berth__sample_passes(size)))
        return malloc_watched(size);
    return berth__malloc_place(size, 1, false, return_address);
}

void *berth__malloc_look_zeroed(size_t count, size_t size, const void *return_address)
{
    size_t total;

    if (BERTH_UNLIKELY(__builtin_mul_overflow(count, size, &total))) {
        errno = ENOMEM;
        return NULL;
    }
    if ((berth__malloc_is_below(total) || is_plain_by_glance(total, return_address)) &&
        berth__sample_passes(total))
        return calloc_watched(total);
    return berth__malloc_place(total, 1, true, return_address);
}

void *berth__malloc_fail_again(void)
{
    errno = ENOMEM;
    return NULL;
}

__attribute__((noinline)) void *berth__malloc_look_again(void *p, size_t size,
                                                         const void *return_address)
{
    if (!berth__gate_owns(p) &&
        (berth__malloc_is_plain(size) || berth__malloc_is_plain_at(size, return_address)))
        return realloc_plain(p, size);
    if (!p)
        return berth__malloc_place(size, 1, false, return_address);
    return berth__malloc_replace(p, size, return_address);
}

void *berth__malloc_look_aligned(size_t alignment, size_t size, const void *return_address)
{
    if (berth__malloc_is_plain_at(size, return_address))
        return memalign_watched(alignment, size);
    return berth__malloc_place(size, alignment, false, return_address);
}

/* As the C library rounds: up to a power of two; 0 for one that no address can have. */
static size_t usable_alignment(size_t alignment)
{
    if (alignment <= BERTH_BLOCK_MIN)
        return BERTH_BLOCK_MIN;
    if (alignment > SIZE_MAX / 2 + 1)
        return 0;
    return (size_t)1 << (64 - __builtin_clzl(alignment - 1));
}

static void *align(size_t alignment, size_t size, const void *return_address)
{
    void *p;

    alignment = usable_alignment(alignment);
    if (alignment == 0) {
        errno = EINVAL;
        return NULL;
    }
    p = berth__malloc_aligned(alignment, size, return_address);
    if (!p)
        errno = ENOMEM;
    return p;
}

/* POSIX leaves it open whether errno is set; glibc's is where there is no memory, and only there.
 */
BERTH_EXPORT int posix_memalign(void **ret, size_t alignment, size_t size)
{
    int saved_errno = errno;
    void *p;

    if (alignment % sizeof(void *) != 0 || alignment == 0 || (alignment & (alignment - 1)) != 0)
        return EINVAL;
    p = berth__malloc_aligned(alignment, size, __builtin_return_address(0));
    errno = p ? saved_errno : ENOMEM;
    if (!p)
        return ENOMEM;
    *ret = p;
    return 0;
}

BERTH_EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    return align(alignment, size, __builtin_return_address(0));
}

BERTH_EXPORT void *memalign(size_t alignment, size_t size)
{
    return align(alignment, size, __builtin_return_address(0));
}

BERTH_EXPORT void *valloc(size_t size)
{
    return align((size_t)getpagesize(), size, __builtin_return_address(0));
}

BERTH_EXPORT void *pvalloc(size_t size)
{
    size_t page = (size_t)getpagesize();
    size_t rounded;

    if (__builtin_add_overflow(size, page - 1, &rounded)) {
        errno = ENOMEM;
        return NULL;
    }
    rounded &= ~(page - 1);
    return align(page, rounded ? rounded : page, __builtin_return_address(0));
}

BERTH_EXPORT size_t malloc_usable_size(void *p)
{
    return berth__host_usable(p);
}

/*
 * The C library's own names, which it exports: for programs that wrap malloc() and call the
 * original by these. Such a block may come to our free(), and ours to theirs.
 */
extern void *__libc_memalign(size_t alignment, size_t size) BERTH_MALLOC_ALIAS(memalign);
extern void *__libc_valloc(size_t size) BERTH_MALLOC_ALIAS(valloc);
extern void *__libc_pvalloc(size_t size) BERTH_MALLOC_ALIAS(pvalloc);
