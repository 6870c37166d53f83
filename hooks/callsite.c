/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/callsite.h"

#include "alloc/module_walk.h"
#include "alloc/options.h"
#include "hooks/unwind.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
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

/* What a trace needs of the stack, the unwinder's tables of a new module included. */
#define TRACE_STACK ((size_t)12 << 10)

/* The lowest address of the thread's own stack; 0 = not asked yet. */
static __thread uintptr_t stack_low;

/* The first thread's stack grows, and its size would have to be read from a file. */
static uintptr_t find_stack_low(void)
{
    size_t size = 0, guard = 0;
    void *low = NULL;
    pthread_attr_t attributes;

    if (gettid() == getpid() || pthread_getattr_np(pthread_self(), &attributes) != 0)
        return 1;
    pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_getguardsize(&attributes, &guard);
    pthread_attr_destroy(&attributes);
    return low ? (uintptr_t)low + guard : 1;
}

/* Programs make threads of 16 KiB. Where the thread runs on another stack, nothing is known. */
static bool has_stack(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    if (BERTH_UNLIKELY(stack_low == 0))
        stack_low = find_stack_low();
    return here < stack_low || here - stack_low >= TRACE_STACK;
}

berth_site_id berth__callsite_capture(const void *return_address)
{
    const void *trace[BERTH_SITE_FRAMES_MAX + OWN_FRAMES_MAX];
    unsigned depth = (unsigned)berth__option(BERTH_OPTION_SITE_DEPTH);
    unsigned count = 0;
    unsigned begin;
    int saved_errno = errno;

    /* A path of one frame needs no trace. */
    if (depth > 1 && has_stack() && berth__module_walk_begin()) {
        count = berth__unwind(trace, depth + OWN_FRAMES_MAX);
        berth__module_walk_end();
    }
    errno = saved_errno;
    if (count == 0)
        return berth__site_intern(&return_address, 1);
    begin = path_begin(trace, count, return_address);
    count -= begin;
    return berth__site_intern(trace + begin, count < depth ? count : depth);
}
