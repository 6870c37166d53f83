/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C++'s operator new and delete, every form, under their Itanium ABI names.
 *
 * They are defined here although libstdc++'s would call malloc: in a C program that loads a C++
 * library, the symbols would otherwise bind to whichever allocator library exports them. C cannot
 * throw; when there is no memory, libstdc++'s own operator is called, which tries again, calls the
 * program's new_handler, and throws. Every delete is free() (malloc_entry.c).
 *
 * A program may replace any of them, and mostly replaces two: operator new(size_t) and operator
 * delete(void *). As C++ has it, the other forms then are calls of those. A block that one form
 * gave is given back by another, so that each must ask the process's, as the C++ library's do.
 * A library that the program was started with may replace them as well: see operator.h.
 */
#include "hooks/malloc_path.h"
#include "hooks/operator.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>

struct nothrow; /* std::nothrow_t */

/* malloc_entry.c; and where the library itself has them, whatever the program has by these names.
 */
BERTH_EXPORT void *_Znwm(size_t size);
BERTH_EXPORT void *_Znam(size_t size);
extern void *berth__malloc_own_new(size_t size) __attribute__((visibility("hidden")));
extern void *berth__malloc_own_new_array(size_t size) __attribute__((visibility("hidden")));

BERTH_EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag);
BERTH_EXPORT void *_ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag);
BERTH_EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
BERTH_EXPORT void *_ZnamSt11align_val_t(size_t size, size_t alignment);
BERTH_EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
                                                      const struct nothrow *tag);
BERTH_EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
                                                      const struct nothrow *tag);

/* Whether the library of the function has a malloc() of its own: whose blocks ours cannot free. */
static bool is_of_allocator(const void *function)
{
    Dl_info owner, other;
    void *library, *its_malloc;

    if (!dladdr(function, &owner))
        return false;
    library = dlopen(owner.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (!library)
        return false;
    its_malloc = dlsym(library, "malloc");
    dlclose(library);
    return its_malloc && dladdr(its_malloc, &other) && other.dli_fbase == owner.dli_fbase;
}

/*
 * The C++ library's function: after us in the global scope, where other allocators may come before
 * it that the program is linked to; or, in a C program that loaded a library in C++ with
 * RTLD_LOCAL, in the C++ library itself.
 */
static void *find_original(const char *name)
{
    static const char *const libraries[] = {"libstdc++.so.6", "libc++abi.so.1", "libc++.so.1"};
    void *function = dlsym(RTLD_NEXT, name);

    if (function && is_of_allocator(function))
        function = NULL;

    for (size_t i = 0; !function && i < sizeof(libraries) / sizeof(libraries[0]); i++) {
        void *library = dlopen(libraries[i], RTLD_LAZY | RTLD_NOLOAD);

        if (library) {
            function = dlsym(library, name);
            dlclose(library); /* its caller is in use, and so is it */
        }
    }
    return function;
}

static __attribute__((noinline, cold)) void *fail(const char *name, size_t size)
{
    void *(*original)(size_t);

    *(void **)&original = find_original(name);
    /* A C++ program without libstdc++ has nobody to throw for it. */
    return original ? original(size) : NULL;
}

static __attribute__((noinline, cold)) void *fail_nothrow(const char *name, size_t size,
                                                          const struct nothrow *tag)
{
    void *(*original)(size_t, const struct nothrow *);

    *(void **)&original = find_original(name);
    return original ? original(size, tag) : NULL;
}

static __attribute__((noinline, cold)) void *fail_aligned(const char *name, size_t size,
                                                          size_t alignment)
{
    void *(*original)(size_t, size_t);

    *(void **)&original = find_original(name);
    return original ? original(size, alignment) : NULL;
}

static __attribute__((noinline, cold)) void *
fail_aligned_nothrow(const char *name, size_t size, size_t alignment, const struct nothrow *tag)
{
    void *(*original)(size_t, size_t, const struct nothrow *);

    *(void **)&original = find_original(name);
    return original ? original(size, alignment, tag) : NULL;
}

static inline void *get(size_t size, const void *return_address)
{
    if (berth__malloc_is_plain(size))
        return berth_je_malloc(size);
    return berth__malloc_look(size, return_address);
}

/* The C++ library refuses what is no alignment, where memalign() takes the next that is one. */
static inline void *get_aligned(size_t size, size_t alignment, const void *return_address)
{
    if (BERTH_UNLIKELY(alignment == 0 || (alignment & (alignment - 1)) != 0))
        return NULL;
    return berth__malloc_aligned(alignment, size, return_address);
}

/* The one that is called most begins in malloc_entry.c or its assembly. */
void *berth__malloc_fail_new(size_t size)
{
    return fail("_Znwm", size);
}

void *berth__malloc_look_new(size_t size, const void *return_address)
{
    void *(*of_library)(size_t);
    void *p;

    *(void **)&of_library = berth__operator_of_library(BERTH_OPERATOR_NEW);
    if (BERTH_UNLIKELY(of_library != NULL))
        return of_library(size);
    p = berth__malloc_look(size, return_address);
    return BERTH_LIKELY(p != NULL) ? p : berth__malloc_fail_new(size);
}

void berth__malloc_drop_new(void *p)
{
    void (*of_library)(void *);

    *(void **)&of_library = berth__operator_of_library(BERTH_OPERATOR_DELETE);
    if (BERTH_UNLIKELY(of_library != NULL))
        of_library(p);
    else
        berth__malloc_drop(p);
}

void berth__malloc_drop_aligned(void *p, size_t alignment)
{
    void (*of_library)(void *, size_t);

    *(void **)&of_library = berth__operator_of_library(BERTH_OPERATOR_DELETE_ALIGNED);
    if (BERTH_UNLIKELY(of_library != NULL))
        of_library(p, alignment);
    else
        berth__malloc_drop(p);
}

void *_ZnwmSt11align_val_t(size_t size, size_t alignment)
{
    void *(*of_library)(size_t, size_t);
    void *p;

    *(void **)&of_library = berth__operator_of_library(BERTH_OPERATOR_NEW_ALIGNED);
    if (BERTH_UNLIKELY(of_library != NULL))
        return of_library(size, alignment);
    p = get_aligned(size, alignment, __builtin_return_address(0));
    return BERTH_LIKELY(p != NULL) ? p : fail_aligned("_ZnwmSt11align_val_t", size, alignment);
}

extern void *berth__malloc_own_aligned(size_t size, size_t alignment)
    BERTH_MALLOC_OWN(_ZnwmSt11align_val_t);
extern void *berth__malloc_own_aligned_array(size_t size, size_t alignment)
    __attribute__((visibility("hidden")));

/* Whether the process's operators are these, and neither the program's nor a library's. */
static inline bool is_new_own(void)
{
    return BERTH_LIKELY(_Znwm == berth__malloc_own_new) && BERTH_LIKELY(berth__operators_are_own());
}

static inline bool is_new_array_own(void)
{
    return is_new_own() && BERTH_LIKELY(_Znam == berth__malloc_own_new_array);
}

static inline bool is_aligned_new_own(void)
{
    return BERTH_LIKELY(_ZnwmSt11align_val_t == berth__malloc_own_aligned) &&
           BERTH_LIKELY(berth__operators_are_own());
}

static inline bool is_aligned_new_array_own(void)
{
    return is_aligned_new_own() &&
           BERTH_LIKELY(_ZnamSt11align_val_t == berth__malloc_own_aligned_array);
}

/* Those that do not throw: the C++ library's call the program's operators, and catch. */
#define NEW_NOTHROW(name, is_own, number)                                                          \
    void *name(size_t size, const struct nothrow *tag)                                             \
    {                                                                                              \
        void *p = is_own() ? get(size, __builtin_return_address(0)) : NULL;                        \
        void *(*of_library)(size_t, const struct nothrow *);                                       \
                                                                                                   \
        *(void **)&of_library = berth__operator_of_library(number);                                \
        if (BERTH_UNLIKELY(of_library != NULL))                                                    \
            return of_library(size, tag);                                                          \
        return BERTH_LIKELY(p != NULL) ? p : fail_nothrow(#name, size, tag);                       \
    }

#define NEW_ALIGNED_NOTHROW(name, is_own, number)                                                  \
    void *name(size_t size, size_t alignment, const struct nothrow *tag)                           \
    {                                                                                              \
        void *p = is_own() ? get_aligned(size, alignment, __builtin_return_address(0)) : NULL;     \
        void *(*of_library)(size_t, size_t, const struct nothrow *);                               \
                                                                                                   \
        *(void **)&of_library = berth__operator_of_library(number);                                \
        if (BERTH_UNLIKELY(of_library != NULL))                                                    \
            return of_library(size, alignment, tag);                                               \
        return BERTH_LIKELY(p != NULL) ? p : fail_aligned_nothrow(#name, size, alignment, tag);    \
    }

NEW_NOTHROW(_ZnwmRKSt9nothrow_t, is_new_own, BERTH_OPERATOR_NEW_NOTHROW)
NEW_NOTHROW(_ZnamRKSt9nothrow_t, is_new_array_own, BERTH_OPERATOR_NEW_ARRAY_NOTHROW)
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t, is_aligned_new_own,
                    BERTH_OPERATOR_NEW_ALIGNED_NOTHROW)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t, is_aligned_new_array_own,
                    BERTH_OPERATOR_NEW_ARRAY_ALIGNED_NOTHROW)
