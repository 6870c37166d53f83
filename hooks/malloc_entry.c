/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the calls that programs make most enter the malloc family: malloc(), calloc(), realloc(),
 * operator new, and free() under each of its names. malloc_entry_x86_64.S is the same in assembly;
 * this is what any other machine has.
 *
 * Sizes given to delete and to free_sized() are not trusted: the C library never looked at them,
 * and programs get them wrong.
 */
#include "hooks/malloc_path.h"

#include <stdlib.h>

struct nothrow; /* std::nothrow_t */

BERTH_EXPORT void *malloc(size_t size)
{
    if (berth__malloc_is_plain(size))
        return berth_je_malloc(size);
    return berth__malloc_look(size, __builtin_return_address(0));
}

BERTH_EXPORT void *calloc(size_t count, size_t size)
{
    size_t total;

    if (BERTH_LIKELY(!__builtin_mul_overflow(count, size, &total) && berth__malloc_is_plain(total)))
        return berth_je_calloc(count, size);
    return berth__malloc_look_zeroed(count, size, __builtin_return_address(0));
}

BERTH_EXPORT void *realloc(void *p, size_t size)
{
    void *to;

    if (BERTH_UNLIKELY(!berth__malloc_is_plain(size) || berth__gate_owns(p)))
        return berth__malloc_look_again(p, size, __builtin_return_address(0));
    to = berth_je_realloc(p, size);
    return BERTH_LIKELY(to != NULL) ? to : berth__malloc_fail_again();
}

/*
 * The process's realloc(), as in the C library: another allocator may come before this one, without
 * a reallocarray() of its own.
 */
BERTH_EXPORT void *reallocarray(void *p, size_t count, size_t size)
{
    size_t total;

    return __builtin_mul_overflow(count, size, &total) ? berth__malloc_fail_again()
                                                       : realloc(p, total);
}

BERTH_EXPORT void free(void *p)
{
    berth__malloc_free(p);
}

extern void *__libc_malloc(size_t size) BERTH_MALLOC_ALIAS(malloc);
extern void *__libc_calloc(size_t count, size_t size) BERTH_MALLOC_ALIAS(calloc);
extern void *__libc_realloc(void *p, size_t size) BERTH_MALLOC_ALIAS(realloc);
extern void __libc_free(void *p) BERTH_MALLOC_ALIAS(free);

/* The library's own, for malloc_cpp.c: by their names they are the process's. */
extern void *berth__malloc_own_new(size_t size) BERTH_MALLOC_OWN(_Znwm);
extern void *berth__malloc_own_new_array(size_t size) BERTH_MALLOC_OWN(_Znam);

BERTH_EXPORT void *_Znwm(size_t size);
BERTH_EXPORT void *_Znam(size_t size);

void *_Znwm(size_t size)
{
    void *p;

    if (!berth__malloc_is_plain(size))
        return berth__malloc_look_new(size, __builtin_return_address(0));
    p = berth_je_malloc(size);
    return BERTH_LIKELY(p != NULL) ? p : berth__malloc_fail_new(size);
}

void *_Znam(size_t size)
{
    return _Znwm(size);
}

BERTH_EXPORT void *_ZnwmSt11align_val_t(size_t size, size_t alignment);
BERTH_EXPORT void *_ZnamSt11align_val_t(size_t size, size_t alignment);

void *_ZnamSt11align_val_t(size_t size, size_t alignment)
{
    return _ZnwmSt11align_val_t(size, alignment);
}

extern void *berth__malloc_own_aligned_array(size_t size, size_t alignment)
    BERTH_MALLOC_OWN(_ZnamSt11align_val_t);

#define FREE(name, ...)                                                                            \
    BERTH_EXPORT void name(void *p __VA_ARGS__);                                                   \
    void name(void *p __VA_ARGS__)                                                                 \
    {                                                                                              \
        berth__malloc_free(p);                                                                     \
    }

/* Old binaries, and C23. */
FREE(cfree)
FREE(free_sized, , size_t size)
FREE(free_aligned_sized, , size_t alignment, size_t size)
/* operator delete. */
FREE(_ZdlPv)
FREE(_ZdlPvSt11align_val_t, , size_t alignment)

/* The other forms are calls of one that the program may have replaced alone, as in the C++ library.
 */
#define FORM(name, call, ...)                                                                      \
    BERTH_EXPORT void name(void *p __VA_ARGS__);                                                   \
    void name(void *p __VA_ARGS__)                                                                 \
    {                                                                                              \
        call;                                                                                      \
    }

FORM(_ZdaPv, _ZdlPv(p))
FORM(_ZdlPvm, _ZdlPv(p), , size_t size)
FORM(_ZdlPvRKSt9nothrow_t, _ZdlPv(p), , const struct nothrow *tag)
FORM(_ZdaPvm, _ZdaPv(p), , size_t size)
FORM(_ZdaPvRKSt9nothrow_t, _ZdaPv(p), , const struct nothrow *tag)
FORM(_ZdaPvSt11align_val_t, _ZdlPvSt11align_val_t(p, alignment), , size_t alignment)
FORM(_ZdlPvmSt11align_val_t, _ZdlPvSt11align_val_t(p, alignment), , size_t size, size_t alignment)
FORM(_ZdlPvSt11align_val_tRKSt9nothrow_t, _ZdlPvSt11align_val_t(p, alignment), , size_t alignment,
     const struct nothrow *tag)
FORM(_ZdaPvmSt11align_val_t, _ZdaPvSt11align_val_t(p, alignment), , size_t size, size_t alignment)
FORM(_ZdaPvSt11align_val_tRKSt9nothrow_t, _ZdaPvSt11align_val_t(p, alignment), , size_t alignment,
     const struct nothrow *tag)
