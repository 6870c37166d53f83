/* SPDX-License-Identifier: Apache-2.0 */
/*
 * C++'s operators that a library replaces.
 *
 * A program's own come before this library's wherever the loader looks; those of a library that the
 * program was started with come after. What they give may be other than what malloc() does (zeroed,
 * counted, known to a collector), and what they take may have a header: so each of this library's
 * operators is the one of such a library, where there is one between this library and the C++
 * library. An allocator's, which has a malloc() too, is replaced with the rest of it. A library
 * that is loaded later has no say, as natively its operators have none for what was loaded before.
 *
 * Found while the preload library is relocated, before there is any block; constant from then on.
 * On machines other than x86-64 none is found.
 */
#ifndef BERTH_HOOKS_OPERATOR_H
#define BERTH_HOOKS_OPERATOR_H

/* The numbers of the operators: malloc_entry_x86_64.S includes them. */
#define BERTH_OPERATOR_NEW 0
#define BERTH_OPERATOR_DELETE 1
#define BERTH_OPERATOR_NEW_ALIGNED 2
#define BERTH_OPERATOR_DELETE_ALIGNED 3
#define BERTH_OPERATOR_NEW_NOTHROW 4
#define BERTH_OPERATOR_NEW_ARRAY_NOTHROW 5
#define BERTH_OPERATOR_NEW_ALIGNED_NOTHROW 6
#define BERTH_OPERATOR_NEW_ARRAY_ALIGNED_NOTHROW 7
#define BERTH_OPERATOR_NEW_ARRAY 8
#define BERTH_OPERATOR_NEW_ARRAY_ALIGNED 9
#define BERTH_OPERATOR_DELETE_ARRAY 10
#define BERTH_OPERATOR_DELETE_SIZED 11
#define BERTH_OPERATOR_DELETE_NOTHROW 12
#define BERTH_OPERATOR_DELETE_ARRAY_SIZED 13
#define BERTH_OPERATOR_DELETE_ARRAY_NOTHROW 14
#define BERTH_OPERATOR_DELETE_ARRAY_ALIGNED 15
#define BERTH_OPERATOR_DELETE_SIZED_ALIGNED 16
#define BERTH_OPERATOR_DELETE_ALIGNED_NOTHROW 17
#define BERTH_OPERATOR_DELETE_ARRAY_SIZED_ALIGNED 18
#define BERTH_OPERATOR_DELETE_ARRAY_ALIGNED_NOTHROW 19
#define BERTH_OPERATORS 20

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>

/*
 * A library's operator, or NULL: it is this library's. From BERTH_OPERATOR_NEW_ARRAY on an operator
 * is a call of another, and this is what it jumps to: the library's, or the process's other one.
 */
extern void *berth__operators[BERTH_OPERATORS] __attribute__((visibility("hidden")));
/* Whether any is a library's. */
extern bool berth__operators_are_replaced __attribute__((visibility("hidden")));

/* The library's, or NULL; of those before BERTH_OPERATOR_NEW_ARRAY. */
static inline void *berth__operator_of_library(unsigned number)
{
#ifdef __x86_64__
    return berth__operators[number];
#else
    (void)number;
    return NULL;
#endif
}

static inline bool berth__operators_are_own(void)
{
#ifdef __x86_64__
    return !berth__operators_are_replaced;
#else
    return true;
#endif
}
#endif

#endif
