/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/unwind.h"

#include "alloc/types.h"
#include "hooks/unwind_probe.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

/*
 * The caching policies of libunwind's public interface (unw_caching_policy_t). Its cache of unwind
 * rules is one for all threads, behind a mutex that it takes with all signals blocked: two system
 * calls per look-up, and a mutex that a forked child may find locked. The cache of frames, which
 * makes traces fast, is per thread and does not depend on the policy.
 */
#define CACHE_NONE 0

/* The architecture's prefix of libunwind's local-only interface. */
#if defined(__x86_64__)
#define LOCAL(name) "_ULx86_64_" name
#elif defined(__aarch64__)
#define LOCAL(name) "_ULaarch64_" name
#else
#define LOCAL(name) "unw_" name
#endif

static const char *const sonames[] = {"libunwind.so.8", "libunwind.so"};

typedef int (*backtrace_fn)(void **buffer, int size);

/* One unwinder per process, although both preload libraries contain this file. */
extern BERTH_SHARED _Atomic(backtrace_fn) berth__unwind_backtrace;
_Atomic(backtrace_fn) berth__unwind_backtrace;

/* Makes a library that nobody has used yet fit for a program that does not know of it. */
static int library_prepare(void *library)
{
    int (*set_policy)(void *space, int policy);
    void **space;
    /* First of all: setting the policy already opens the pipe. */
    int r = berth__unwind_probe_bind(library);

    if (r < 0)
        return r;
    *(void **)&set_policy = dlsym(library, LOCAL("set_caching_policy"));
    space = dlsym(library, LOCAL("local_addr_space"));
    if (set_policy && space)
        set_policy(*space, CACHE_NONE);
    return 0;
}

/*
 * Opens the library for good; NULL with one sentence in `why`. One that the program has loaded
 * itself stays as it is: the program may be using it on another thread.
 */
static void *library_open(char *why, size_t why_size)
{
    for (size_t i = 0; i < sizeof(sonames) / sizeof(sonames[0]); i++) {
        void *library = dlopen(sonames[i], RTLD_NOLOAD | RTLD_LOCAL | RTLD_NOW);

        if (library)
            return library;
        library = dlopen(sonames[i], RTLD_LOCAL | RTLD_NOW | RTLD_NODELETE);
        if (!library)
            continue;
        if (library_prepare(library) == 0)
            return library;
        snprintf(why, why_size, "%s opens descriptors in a way that is not known here", sonames[i]);
        dlclose(library);
        return NULL;
    }
    snprintf(why, why_size, "%s is not installed", sonames[0]);
    return NULL;
}

int berth__unwind_load(char *why, size_t why_size)
{
    void *frames[8];
    void *library;
    backtrace_fn backtrace;

    if (atomic_load_explicit(&berth__unwind_backtrace, memory_order_acquire))
        return 0;
    /* libunwind locks a mutex as each thread ends, when ThreadSanitizer knows no such thread. */
    if (dlsym(RTLD_DEFAULT, "__tsan_init")) {
        snprintf(why, why_size, "libunwind is not for programs under ThreadSanitizer");
        return -ENOENT;
    }
    library = library_open(why, why_size);
    if (!library)
        return -ENOENT;
    *(void **)&backtrace = dlsym(library, "unw_backtrace");
    if (!backtrace || backtrace(frames, 8) <= 0) {
        snprintf(why, why_size, "%s has no unw_backtrace() that works", sonames[0]);
        dlclose(library);
        return -ENOENT;
    }
    atomic_store_explicit(&berth__unwind_backtrace, backtrace, memory_order_release);
    return 0;
}

bool berth__unwind_is_loaded(void)
{
    return atomic_load_explicit(&berth__unwind_backtrace, memory_order_relaxed) != NULL;
}

/* Not inlined, so that the trace begins with a frame that is the caller's in every build. */
__attribute__((noinline)) unsigned berth__unwind(const void **frames, unsigned count)
{
    backtrace_fn backtrace = atomic_load_explicit(&berth__unwind_backtrace, memory_order_acquire);
    int n = backtrace ? backtrace((void **)frames, (int)count) : 0;

    return n > 0 ? (unsigned)n : 0;
}
