/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/callsite.h"

#include "alloc/module_lock.h"
#include "alloc/module_walk.h"
#include "alloc/options.h"
#include "alloc/sandbox.h"
#include "hooks/frame_walk.h"
#include "hooks/side_stack.h"
#include "hooks/unwind.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <unistd.h>

/*
 * Frames of Berth's own between berth__unwind() and the program's call: the capture, the tagging,
 * the hook, and what the hook is built from. A trace reads as many more than the option says.
 */
#define OWN_FRAMES_MAX 24

/* Where one of the preload libraries lies. */
struct range {
    uintptr_t start, end;
};

/* Both libraries, found before the unwinder is loaded: without it nobody asks. */
struct callsite_own {
    struct range range[2];
};
extern BERTH_SHARED struct callsite_own berth__callsite_own;
struct callsite_own berth__callsite_own;

static struct range module_range(const struct dl_phdr_info *info)
{
    struct range range = {UINTPTR_MAX, 0};

    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t at = (uintptr_t)(info->dlpi_addr + p->p_vaddr);

        if (p->p_type != PT_LOAD)
            continue;
        if (at < range.start)
            range.start = at;
        if (at + p->p_memsz > range.end)
            range.end = at + (uintptr_t)p->p_memsz;
    }
    return range;
}

static bool is_preload_library(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    const char *name = slash ? slash + 1 : path;

    return name && (strcmp(name, "libberth.so") == 0 || strcmp(name, "libberth-malloc.so") == 0);
}

/* dl_iterate_phdr()'s callback: `context` counts the libraries found. */
static int find_own(struct dl_phdr_info *info, size_t size, void *context)
{
    unsigned *found = context;

    (void)size;
    if (is_preload_library(info->dlpi_name))
        berth__callsite_own.range[(*found)++] = module_range(info);
    return *found == 2;
}

static bool is_own(const void *address)
{
    for (int i = 0; i < 2; i++)
        if ((uintptr_t)address - 1 >= berth__callsite_own.range[i].start &&
            (uintptr_t)address - 1 < berth__callsite_own.range[i].end)
            return true;
    return false;
}

int berth__callsite_load(char *why, size_t why_size)
{
    unsigned found = 0;
    int saved_errno = errno;
    int r;

    dl_iterate_phdr(find_own, &found);
    r = berth__module_walk_watch_fork();
    if (r < 0)
        snprintf(why, why_size, "there is no memory for a fork handler");
    else
        r = berth__unwind_load(why, why_size);
    errno = saved_errno;
    return r;
}

/*
 * Where the program's path begins in a trace. The hook's return address tells, unless a compiler
 * turned the program's call into a jump; then it begins with that address and what is not Berth's.
 */
static unsigned path_begin(const void **trace, unsigned count, const void *return_address)
{
    unsigned first = 0;

    for (unsigned i = 0; i < count; i++) {
        if (trace[i] != return_address)
            continue;
        /* One of Berth's functions may have called the hook on the program's behalf. */
        while (i + 1 < count && is_own(trace[i]))
            i++;
        return i;
    }
    while (first < count && is_own(trace[first]))
        first++;
    if (first == 0)
        first = count;
    trace[first - 1] = return_address;
    return first - 1;
}

/* What libunwind needs of the stack, its tables of a new module included. */
#define TRACE_STACK ((size_t)16 << 10)
/* What finding a frame's rule needs. */
#define WALK_STACK ((size_t)3 << 10)

/* The thread's own stack; `high` 0 = not asked yet. */
static __thread struct berth_stack own_stack;

/*
 * The first thread's stack: it grows as far as the limit said when the kernel laid the program out.
 * A program that raises the limit may have mapped other stacks where it could grow since.
 */
static struct berth_stack first_stack;

__attribute__((constructor)) static void find_first_stack(void)
{
    /* The kernel puts the program's name above all that is the program's. */
    uintptr_t end = (uintptr_t)getauxval(AT_EXECFN) & ~(sizeof(uintptr_t) - 1);
    const size_t most = (size_t)1 << 30; /* of one without a limit */
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    size_t size = most;

    if (getrlimit(RLIMIT_STACK, &limit) == 0 && limit.rlim_cur < most)
        size = (size_t)limit.rlim_cur;
    first_stack = (struct berth_stack){.low = end > size ? end - size : 1, .high = end};
}

static struct berth_stack find_stack(void)
{
    struct berth_stack stack = {.low = 1, .high = 1};
    size_t size = 0, guard = 0;
    void *low = NULL;
    pthread_attr_t attributes;
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    if (here >= first_stack.low && here < first_stack.high)
        return first_stack;
    if (berth__sandbox_is_on())
        return stack;
    if (gettid() == getpid())
        return first_stack.high != 0 ? first_stack : stack;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0)
        return stack;
    pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_getguardsize(&attributes, &guard);
    pthread_attr_destroy(&attributes);
    if (low) {
        stack.low = (uintptr_t)low;
        stack.guard = guard;
        /* What the C library keeps of a thread lies above its frames, on its stack. */
        stack.high = (uintptr_t)pthread_self();
    }
    return stack;
}

/*
 * Whether the thread's stack is known to have so much left. Programs make threads of 16 KiB; of a
 * stack that is not the thread's own, nothing is known.
 */
static bool has_room(size_t need)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    return here >= own_stack.low && here < own_stack.high && here - own_stack.low >= need;
}

static bool is_on_own_stack(void)
{
    return has_room(0);
}

/* dl_iterate_phdr()'s callback: how many libraries were ever closed. */
static int read_closed(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    *(uint64_t *)context = (uint64_t)info->dlpi_subs;
    return 1;
}

/*
 * Whether what libunwind keeps in this thread may be of a library that is gone. Where this thread's
 * calls are, no library is closed meanwhile.
 */
static bool is_stale(void)
{
    static __thread uint64_t closed_then; /* when the thread used it first; plus 1 */
    uint64_t closed = 0;

    dl_iterate_phdr(read_closed, &closed);
    if (closed_then == 0)
        closed_then = closed + 1;
    return closed_then != closed + 1;
}

static unsigned trace_by_libunwind(const void **trace, unsigned count)
{
    unsigned n;

    /*
     * libunwind asks the kernel what it may read, and opens files; and it reads the headers of all
     * libraries, which the one that is being closed may have lost already.
     */
    if (berth__sandbox_is_on() || berth__module_lock_is_mine() || !berth__module_walk_begin())
        return 0;
    n = is_stale() ? berth__unwind_afresh(trace, count) : berth__unwind(trace, count);
    berth__module_walk_end();
    return n;
}

/* No program has code beyond it that did not ask the kernel for such addresses. */
#ifdef __x86_64__
#define CODE_END ((uintptr_t)1 << 47)
#else
#define CODE_END ((uintptr_t)1 << 52)
#endif

/*
 * Behind code without tables libunwind goes by the base pointer, which may be any number of the
 * program's, and takes the words where it points for a path: bytes of a text, or addresses on the
 * stack, which differ from run to run. What cannot be code ends the path.
 */
static unsigned count_code(const void *const *trace, unsigned count)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t high = is_on_own_stack() ? own_stack.high : here;
    unsigned n = 0;

    while (n < count && (uintptr_t)trace[n] < CODE_END &&
           ((uintptr_t)trace[n] < here || (uintptr_t)trace[n] >= high))
        n++;
    return n;
}

/* A trace, and where the program's path begins in it. */
struct capture {
    const void *trace[BERTH_SITE_FRAMES_MAX + OWN_FRAMES_MAX];
    const void *const *path;
    unsigned count; /* of the path's frames; 0 = there is no trace */
};

static void cut_path(struct capture *capture, unsigned count, unsigned depth,
                     const void *return_address)
{
    unsigned begin = count > 0 ? path_begin(capture->trace, count, return_address) : 0;

    capture->path = capture->trace + begin;
    capture->count = count - begin < depth ? count - begin : depth;
}

/* The path by frame rules: false where these say nothing. */
static bool walk(struct capture *capture, unsigned depth, const void *return_address, bool is_fresh)
{
    unsigned count = 0;

    if (BERTH_LIKELY(has_room(WALK_STACK)))
        count = berth__frame_walk(&own_stack, capture->trace, depth + OWN_FRAMES_MAX, is_fresh);

    cut_path(capture, count, depth, return_address);
    return count > 0;
}

static berth_site_id capture_short(const void *return_address)
{
    return berth__site_intern(&return_address, 1);
}

static berth_site_id capture_by_libunwind(struct capture *capture, unsigned depth,
                                          const void *return_address)
{
    unsigned count = trace_by_libunwind(capture->trace, depth + OWN_FRAMES_MAX);

    cut_path(capture, count_code(capture->trace, count), depth, return_address);
    if (capture->count == 0)
        return capture_short(return_address);
    return berth__site_intern(capture->path, capture->count);
}

/* A capture on a side stack. */
struct detour {
    unsigned depth;
    const void *return_address;
    berth_site_id site;
};

static void take_detour(void *context)
{
    struct detour *detour = context;
    struct capture capture;

    detour->site = capture_by_libunwind(&capture, detour->depth, detour->return_address);
}

static berth_site_id capture_aside(unsigned depth, const void *return_address)
{
    struct detour detour = {depth, return_address, 0};

    if (!berth__side_stack_run(take_detour, &detour))
        return capture_short(return_address);
    return detour.site;
}

/* One number for a path, to compare what there was with what there is. */
static uint64_t mix_path(const struct capture *capture)
{
    uint64_t mixed = capture->count;

    for (unsigned i = 0; i < capture->count; i++)
        mixed = (mixed ^ (uintptr_t)capture->path[i]) * 0x9e3779b97f4a7c15u;
    return mixed;
}

/*
 * A path that was never seen is looked at again: its rules may be those of a closed library. In the
 * same memory: small threads have little.
 */
static berth_site_id intern_new(struct capture *capture, unsigned depth, const void *return_address,
                                bool may_unwind)
{
    uint64_t before = mix_path(capture);
    bool is_walked = walk(capture, depth, return_address, true);

    if (!is_walked || mix_path(capture) != before)
        berth__frame_walk_forget();
    if (is_walked)
        return berth__site_intern(capture->path, capture->count);
    return may_unwind ? capture_aside(depth, return_address) : capture_short(return_address);
}

/* Not inlined: whoever has no room for it must not have it in the frame. */
static __attribute__((noinline)) berth_site_id
capture_here(unsigned depth, const void *return_address, bool may_unwind)
{
    struct capture capture;
    berth_site_id site;

    if (walk(&capture, depth, return_address, false)) {
        site = berth__site_find(capture.path, capture.count);
        return BERTH_LIKELY(site != 0) ? site
                                       : intern_new(&capture, depth, return_address, may_unwind);
    }
    /* The rules may be those of a closed library. */
    if (walk(&capture, depth, return_address, true))
        return berth__site_intern(capture.path, capture.count);
    if (!may_unwind)
        return capture_short(return_address);
    if (has_room(own_stack.guard + TRACE_STACK))
        return capture_by_libunwind(&capture, depth, return_address);
    return capture_aside(depth, return_address);
}

bool berth__callsite_knows_stack(void)
{
    return own_stack.high != 0;
}

static berth_site_id capture_path(const void *return_address, bool may_unwind)
{
    unsigned depth = (unsigned)berth__option(BERTH_OPTION_SITE_DEPTH);
    int saved_errno = errno;
    berth_site_id site;

    /* A path of one frame needs no trace; and before the unwinder is there, that is all. */
    if (depth == 1 || !berth__unwind_is_loaded())
        return capture_short(return_address);
    if (BERTH_UNLIKELY(own_stack.high == 0))
        own_stack = find_stack();
    if (BERTH_LIKELY(is_on_own_stack()))
        site = capture_here(depth, return_address, may_unwind);
    else
        site = may_unwind ? capture_aside(depth, return_address) : capture_short(return_address);
    errno = saved_errno;
    return site;
}

berth_site_id berth__callsite_capture(const void *return_address)
{
    return capture_path(return_address, true);
}

berth_site_id berth__callsite_capture_sample(const void *return_address)
{
    static __thread bool is_second;
    bool may_unwind = is_second;

    is_second = true;
    return capture_path(return_address, may_unwind);
}
