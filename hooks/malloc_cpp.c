/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C++'s operator new and delete, every form, under their Itanium ABI names.
 *
 * They are defined here although libstdc++'s would call malloc: in a C program that loads a C++
 * library, the symbols would otherwise bind to whichever allocator library exports them. C cannot
 * throw; when there is no memory, libstdc++'s own operator is called, which tries again, calls the
 * program's new_handler, and throws. Sizes given to delete are not trusted: the C library never
 * looked at them, and programs get them wrong.
 */
#include "hooks/malloc_path.h"

#include <dlfcn.h>
#include <stdlib.h>

struct nothrow; /* std::nothrow_t */

BERTH_EXPORT void *_Znwm(size_t size);
BERTH_EXPORT void *_Znam(size_t size);
BERTH_EXPORT void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag);
BERTH_EXPORT void *_ZnamRKSt9nothrow_t(size_t size, const struct nothrow *tag);
BERTH_EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
BERTH_EXPORT void *_ZnamSt11align_val_t(size_t size, size_t alignment);
BERTH_EXPORT void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
                                                      const struct nothrow *tag);
BERTH_EXPORT void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t alignment,
                                                      const struct nothrow *tag);
BERTH_EXPORT void _ZdlPv(void *p);
BERTH_EXPORT void _ZdaPv(void *p);
BERTH_EXPORT void _ZdlPvRKSt9nothrow_t(void *p, const struct nothrow *tag);
BERTH_EXPORT void _ZdaPvRKSt9nothrow_t(void *p, const struct nothrow *tag);
BERTH_EXPORT void _ZdlPvm(void *p, size_t size);
BERTH_EXPORT void _ZdaPvm(void *p, size_t size);
BERTH_EXPORT void _ZdlPvSt11align_val_t(void *p, size_t alignment);
BERTH_EXPORT void _ZdaPvSt11align_val_t(void *p, size_t alignment);
BERTH_EXPORT void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *p, size_t alignment,
                                                      const struct nothrow *tag);
BERTH_EXPORT void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *p, size_t alignment,
                                                      const struct nothrow *tag);
BERTH_EXPORT void _ZdlPvmSt11align_val_t(void *p, size_t size, size_t alignment);
BERTH_EXPORT void _ZdaPvmSt11align_val_t(void *p, size_t size, size_t alignment);

/*
 * The C++ library's function: after us in the global scope, or, in a C program that loaded a
 * library in C++ with RTLD_LOCAL, in the C++ library itself.
 */
static void *find_original(const char *name)
{
    static const char *const libraries[] = {"libstdc++.so.6", "libc++abi.so.1", "libc++.so.1"};
    void *function = dlsym(RTLD_NEXT, name);

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

#define NEW(name)                                                                                  \
    void *name(size_t size)                                                                        \
    {                                                                                              \
        void *p = get(size, __builtin_return_address(0));                                          \
                                                                                                   \
        return BERTH_LIKELY(p != NULL) ? p : fail(#name, size);                                    \
    }

#define NEW_NOTHROW(name)                                                                          \
    void *name(size_t size, const struct nothrow *tag)                                             \
    {                                                                                              \
        void *p = get(size, __builtin_return_address(0));                                          \
                                                                                                   \
        return BERTH_LIKELY(p != NULL) ? p : fail_nothrow(#name, size, tag);                       \
    }

#define NEW_ALIGNED(name)                                                                          \
    void *name(size_t size, size_t alignment)                                                      \
    {                                                                                              \
        void *p = berth__malloc_aligned(alignment, size, __builtin_return_address(0));             \
                                                                                                   \
        return BERTH_LIKELY(p != NULL) ? p : fail_aligned(#name, size, alignment);                 \
    }

#define NEW_ALIGNED_NOTHROW(name)                                                                  \
    void *name(size_t size, size_t alignment, const struct nothrow *tag)                           \
    {                                                                                              \
        void *p = berth__malloc_aligned(alignment, size, __builtin_return_address(0));             \
                                                                                                   \
        return BERTH_LIKELY(p != NULL) ? p : fail_aligned_nothrow(#name, size, alignment, tag);    \
    }

#define DELETE(name, ...)                                                                          \
    void name(void *p __VA_ARGS__)                                                                 \
    {                                                                                              \
        berth__malloc_free(p);                                                                     \
    }

NEW(_Znwm)
NEW(_Znam)
NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
NEW_NOTHROW(_ZnamRKSt9nothrow_t)
NEW_ALIGNED(_ZnwmSt11align_val_t)
NEW_ALIGNED(_ZnamSt11align_val_t)
NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)

DELETE(_ZdlPv)
DELETE(_ZdaPv)
DELETE(_ZdlPvRKSt9nothrow_t, , const struct nothrow *tag)
DELETE(_ZdaPvRKSt9nothrow_t, , const struct nothrow *tag)
DELETE(_ZdlPvm, , size_t size)
DELETE(_ZdaPvm, , size_t size)
DELETE(_ZdlPvSt11align_val_t, , size_t alignment)
DELETE(_ZdaPvSt11align_val_t, , size_t alignment)
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, , size_t alignment, const struct nothrow *tag)
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, , size_t alignment, const struct nothrow *tag)
DELETE(_ZdlPvmSt11align_val_t, , size_t size, size_t alignment)
DELETE(_ZdaPvmSt11align_val_t, , size_t size, size_t alignment)
