/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/unwind.h"

#include "alloc/private_library.h"
#include "alloc/thread_key.h"
#include "alloc/types.h"
#include "hooks/unwind_probe.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

/*
 * The caching policies of libunwind's public interface (unw_caching_policy_t). Its cache of unwind
 * rules is one for all threads, behind a mutex that it takes with all signals blocked: two system
 * calls per look-up, and a mutex that a forked child may find locked. The cache of frames, which
 * makes traces fast, is per thread and does not depend on the policy.
 */
#define CACHE_NONE 0

/* The architecture's prefixes of libunwind's local-only interface, and of what both have. */
#if defined(__x86_64__)
#define LOCAL(name) "_ULx86_64_" name
#define COMMON(name) "_Ux86_64_" name
#elif defined(__aarch64__)
#define LOCAL(name) "_ULaarch64_" name
#define COMMON(name) "_Uaarch64_" name
#else
#define LOCAL(name) "unw_" name
#define COMMON(name) "unw_" name
#endif

static const char *const sonames[] = {"libunwind.so.8", "libunwind.so"};

typedef int (*backtrace_fn)(void **buffer, int size);

/* One unwinder per process, although both preload libraries contain this file. */
extern BERTH_SHARED _Atomic(backtrace_fn) berth__unwind_backtrace;
_Atomic(backtrace_fn) berth__unwind_backtrace;

/*
 * libunwind's walk by steps. A context and a cursor are as large as the interface says; there is
 * room for more. The register of instruction pointers is number 16 on x86_64.
 */
#define CONTEXT_WORDS 160
#define CURSOR_WORDS 160
#define REGISTER_IP 16

struct steps {
    int (*get_context)(void *context);
    int (*begin)(void *cursor, void *context);
    int (*step)(void *cursor);
    int (*get_register)(void *cursor, int number, uintptr_t *ret);
};

/* Written once, before the library is told to be loaded. */
extern BERTH_SHARED struct steps berth__unwind_steps;
struct steps berth__unwind_steps;

static void steps_find(void *library)
{
#if defined(__x86_64__)
    struct steps *steps = &berth__unwind_steps;

    *(void **)&steps->get_context = dlsym(library, COMMON("getcontext"));
    *(void **)&steps->begin = dlsym(library, LOCAL("init_local"));
    *(void **)&steps->step = dlsym(library, LOCAL("step"));
    *(void **)&steps->get_register = dlsym(library, LOCAL("get_reg"));
#else
    (void)library;
#endif
}

/* Makes a library that nobody has used yet fit for a program that does not know of it. */
static int library_prepare(void *library)
{
    int (*set_policy)(void *space, int policy);
    void **(*get_accessors)(void *space);
    void **space;
    /* First of all: setting the policy already opens the pipe. */
    int r = berth__unwind_probe_bind(library);

    if (r < 0)
        return r;
    *(void **)&set_policy = dlsym(library, LOCAL("set_caching_policy"));
    space = dlsym(library, LOCAL("local_addr_space"));
    if (set_policy && space)
        set_policy(*space, CACHE_NONE);
    *(void **)&get_accessors = dlsym(library, COMMON("get_accessors"));
    if (get_accessors && space)
        berth__unwind_probe_bind_reads(get_accessors(*space));
    return 0;
}

/* Opens the library for good; NULL with one sentence in `why`, which is the first name's. */
static void *library_open(char *why, size_t why_size)
{
    for (size_t i = 0; i < sizeof(sonames) / sizeof(sonames[0]); i++) {
        char other[256];
        void *library = berth__private_library_open(
            sonames[i], RTLD_NODELETE, i == 0 ? why : other, i == 0 ? why_size : sizeof(other));

        if (!library)
            continue;
        if (library_prepare(library) == 0)
            return library;
        snprintf(why, why_size, "%s opens descriptors in a way that is not known here", sonames[i]);
        dlclose(library);
        return NULL;
    }
    return NULL;
}

/*
 * ThreadSanitizer's, where the program has it. Not looked up: what is not found leaves a message
 * behind, which the next look-up frees; a program whose own free() looks up the real one when it is
 * first called would never come back from that.
 */
extern void __tsan_init(void) __attribute__((weak));

int berth__unwind_load(char *why, size_t why_size)
{
    struct berth_low_keys low;
    void *frames[8];
    void *library;
    backtrace_fn backtrace;
    int depth = 0;

    if (atomic_load_explicit(&berth__unwind_backtrace, memory_order_acquire))
        return 0;
    /* libunwind locks a mutex as each thread ends, when ThreadSanitizer knows no such thread. */
    if (__tsan_init) {
        snprintf(why, why_size, "libunwind is not for programs under ThreadSanitizer");
        return -ENOENT;
    }
    library = library_open(why, why_size);
    if (!library)
        return -ENOENT;
    *(void **)&backtrace = dlsym(library, "unw_backtrace");
    /* The first one makes a key. */
    berth__thread_keys_take(&low);
    if (backtrace)
        depth = backtrace(frames, 8);
    berth__thread_keys_give_back(&low);
    if (depth <= 0) {
        snprintf(why, why_size, "%s has no unw_backtrace() that works", sonames[0]);
        dlclose(library);
        return -ENOENT;
    }
    steps_find(library);
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

/* Not inlined: its own frame is where the context is. */
__attribute__((noinline)) unsigned berth__unwind_afresh(const void **frames, unsigned count)
{
    const struct steps *steps = &berth__unwind_steps;
    uintptr_t context[CONTEXT_WORDS], cursor[CURSOR_WORDS];
    unsigned n = 0;
    uintptr_t address;

    if (!berth__unwind_is_loaded() || !steps->get_context || !steps->begin || !steps->step ||
        !steps->get_register)
        return 0;
    if (steps->get_context(context) != 0 || steps->begin(cursor, context) != 0)
        return 0;
    while (n < count && steps->step(cursor) > 0) {
        if (steps->get_register(cursor, REGISTER_IP, &address) != 0 || address == 0)
            break;
        frames[n++] = (const void *)address;
    }
    return n;
}
