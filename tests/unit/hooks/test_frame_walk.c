/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a walk by frame rules says what libunwind says, for the frames that compilers make, and
 * says nothing where it cannot know. Method: the same stack is read both ways, in functions with
 * every kind of frame.
 */
#include "hooks/frame_walk.h"

#include "hooks/unwind.h"

#include <alloca.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <ucontext.h>

#include <cmocka.h>

#define FRAMES 200
#ifdef __clang__ /* which has no such attribute */
#define BY_BASE_POINTER __attribute__((noinline))
#else
#define BY_BASE_POINTER __attribute__((noinline, optimize("no-omit-frame-pointer")))
#endif
#define OPAQUE(p) __asm__ volatile("" ::"r"(p) : "memory")

static struct berth_stack stack;
/* A handler writes it, in a call that a compiler takes for one that does not. */
static volatile unsigned walked;
static unsigned agreed;

/* Both traces have this function in them, at other calls; from its caller on they are the same. */
__attribute__((noinline)) static int check(bool is_fresh)
{
    const void *ours[FRAMES], *trace[FRAMES + 1];
    unsigned count = berth__frame_walk(&stack, ours, FRAMES, is_fresh);
    /* It begins in berth__unwind() itself. */
    unsigned expected = berth__unwind(trace, FRAMES + 1) - 1;
    const void *const *theirs = trace + 1;

    walked = count;
    if (count == 0)
        return 0;
    if (count != expected || memcmp(ours + 1, theirs + 1, (count - 1) * sizeof(*ours)) != 0) {
        for (unsigned i = 0; i < count || i < expected; i++)
            print_message("%u: %p %p\n", i, i < count ? ours[i] : NULL,
                          i < expected ? theirs[i] : NULL);
        fail_msg("%u frames instead of %u", count, expected);
    }
    agreed++;
    return (int)count;
}

static struct berth_stack first_stack(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    return (struct berth_stack){.low = here - ((uintptr_t)1 << 20),
                                .high = (uintptr_t)getauxval(AT_EXECFN) & ~(uintptr_t)7};
}

static int set_up(void **state)
{
    char why[256];

    (void)state;
    stack = first_stack();
    return berth__unwind_load(why, sizeof(why)) < 0 ? -1 : 0;
}

static void a_plain_call(void **state)
{
    (void)state;
    assert_true(check(false) > 2);
    assert_true(check(false) > 2); /* by rules that are kept */
    assert_true(check(true) > 2);
    berth__frame_walk_forget();
    assert_true(check(false) > 2);
}

__attribute__((noinline)) static int recurse(unsigned n)
{
    int r = n == 0 ? check(false) : recurse(n - 1);

    OPAQUE(&r);
    return r;
}

static void deep_calls(void **state)
{
    (void)state;
    for (unsigned n = 0; n < 100; n += 7)
        assert_true(recurse(n) > (int)n);
    /* More than there is room for: the innermost ones. */
    assert_int_equal(recurse(1000), FRAMES);
}

/* A frame whose size is known when it runs: the base pointer finds it. */
__attribute__((noinline)) static int with_room(size_t size)
{
    char *room = alloca(size);
    int r;

    OPAQUE(room);
    r = check(false);
    OPAQUE(room);
    return r;
}

static void frames_of_any_size(void **state)
{
    (void)state;
    for (size_t size = 8; size < 100000; size = size * 3 + 16)
        assert_true(with_room(size) > 2);
}

/* A realigned frame, with arguments that are found through it. */
__attribute__((noinline)) static int realigned(int a, int b, int c, int d, int e, int f, int g,
                                               int h, size_t size)
{
    _Alignas(64) char room[128];
    char *more = alloca(size);
    int r;

    OPAQUE(room);
    OPAQUE(more);
    r = check(false);
    OPAQUE(room);
    return r + (a + b + c + d + e + f + g + h) * 0;
}

static void realigned_frames(void **state)
{
    (void)state;
    for (size_t size = 8; size < 10000; size += 1000)
        assert_true(realigned(1, 2, 3, 4, 5, 6, 7, 8, size) > 2);
}

BY_BASE_POINTER static int with_base_pointer(unsigned n)
{
    int r = n == 0 ? with_room(100) : with_base_pointer(n - 1);

    OPAQUE(&r);
    return r;
}

static void frames_with_and_without_a_base_pointer(void **state)
{
    (void)state;
    assert_true(with_base_pointer(5) > 7);
}

static int compare(const void *a, const void *b)
{
    check(false);
    return *(const int *)a - *(const int *)b;
}

static void calls_from_the_c_library(void **state)
{
    int numbers[] = {3, 1, 2};

    (void)state;
    agreed = 0;
    qsort(numbers, 3, sizeof(numbers[0]), compare);
    assert_true(agreed > 1);
}

static void *in_thread(void *argument)
{
    size_t size = 0;
    void *low = NULL;
    pthread_attr_t attributes;
    struct berth_stack before = stack;

    (void)argument;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstack(&attributes, &low, &size);
    pthread_attr_destroy(&attributes);
    stack = (struct berth_stack){.low = (uintptr_t)low, .high = (uintptr_t)pthread_self()};
    agreed = 0;
    recurse(10);
    stack = before;
    return agreed ? &stack : NULL;
}

static void a_threads_stack(void **state)
{
    pthread_t thread;
    void *good = NULL;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, in_thread, NULL), 0);
    pthread_join(thread, &good);
    assert_non_null(good);
}

static void on_signal(int number)
{
    (void)number;
    check(false);
}

/* What a signal interrupted is not known by calls. */
static void a_signals_frame_is_libunwinds(void **state)
{
    (void)state;
    signal(SIGUSR1, on_signal);
    walked = 99;
    raise(SIGUSR1);
    assert_int_equal(walked, 0);
    signal(SIGUSR1, SIG_DFL);
}

static ucontext_t back, away;

static void elsewhere(void)
{
    check(false);
}

static void another_stack_is_left_alone(void **state)
{
    static char room[256 << 10];

    (void)state;
    walked = 99;
    assert_int_equal(getcontext(&away), 0);
    away.uc_stack.ss_sp = room;
    away.uc_stack.ss_size = sizeof(room);
    away.uc_link = &back;
    makecontext(&away, elsewhere, 0);
    assert_int_equal(swapcontext(&back, &away), 0);
    assert_int_equal(walked, 0);
}

/* Code without tables, as a just-in-time compiler makes it. */
__asm__(".text\n"
        ".type walk_tableless, @function\n"
        "walk_tableless:\n"
        "    push %rbx\n"
        "    call *%rdi\n"
        "    pop %rbx\n"
        "    ret\n"
        ".size walk_tableless, . - walk_tableless\n");
extern int walk_tableless(int (*call)(unsigned), unsigned n);

__attribute__((noinline)) static int from_nowhere(unsigned n)
{
    const void *frames[FRAMES];

    (void)n;
    return (int)berth__frame_walk(&stack, frames, FRAMES, false);
}

static void code_without_tables_is_libunwinds(void **state)
{
    (void)state;
    assert_int_equal(walk_tableless(from_nowhere, 0), 0);
    assert_true(from_nowhere(0) > 2);
}

/*
 * A caller whose stack pointer is not where the frame ends; one that nobody has called; and one
 * that had other rules for a while, two deep.
 */
__asm__(".text\n"
        ".type walk_from_lent, @function\n"
        "walk_from_lent:\n"
        "    .cfi_startproc\n"
        "    .cfi_escape 0x15, 0x07, 0x7e\n" /* DW_CFA_val_offset_sf: sp is cfa + 16 */
        "    push %rbx\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    call *%rdi\n"
        "    pop %rbx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size walk_from_lent, . - walk_from_lent\n"
        ".type walk_from_outermost, @function\n"
        "walk_from_outermost:\n"
        "    .cfi_startproc\n"
        "    .cfi_undefined %rip\n"
        "    push %rbx\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    call *%rdi\n"
        "    pop %rbx\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size walk_from_outermost, . - walk_from_outermost\n"
        ".type walk_from_nested, @function\n"
        "walk_from_nested:\n"
        "    .cfi_startproc\n"
        "    push %rbp\n"
        "    .cfi_adjust_cfa_offset 8\n"
        "    .cfi_rel_offset %rbp, 0\n"
        "    .cfi_remember_state\n"
        "    sub $16, %rsp\n"
        "    .cfi_adjust_cfa_offset 16\n"
        "    .cfi_remember_state\n"
        "    sub $32, %rsp\n"
        "    .cfi_adjust_cfa_offset 32\n"
        "    add $32, %rsp\n"
        "    .cfi_restore_state\n"
        "    add $16, %rsp\n"
        "    .cfi_restore_state\n"
        "    call *%rdi\n"
        "    pop %rbp\n"
        "    .cfi_adjust_cfa_offset -8\n"
        "    ret\n"
        "    .cfi_endproc\n"
        ".size walk_from_nested, . - walk_from_nested\n");
extern int walk_from_lent(int (*call)(unsigned), unsigned n);
extern int walk_from_outermost(int (*call)(bool), bool is_fresh);
extern int walk_from_nested(int (*call)(bool), bool is_fresh);

static void rules_of_hand_written_code(void **state)
{
    (void)state;
    assert_int_equal(walk_from_lent(from_nowhere, 0), 0);
    assert_int_equal(walk_from_outermost(check, true), 2);
    assert_true(walk_from_nested(check, true) > 2);
}

int main(void)
{
#ifndef __x86_64__
    puts("skipped: frame rules are for x86-64");
    return 77;
#else
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plain_call),
        cmocka_unit_test(deep_calls),
        cmocka_unit_test(frames_of_any_size),
        cmocka_unit_test(realigned_frames),
        cmocka_unit_test(frames_with_and_without_a_base_pointer),
        cmocka_unit_test(calls_from_the_c_library),
        cmocka_unit_test(a_threads_stack),
        cmocka_unit_test(a_signals_frame_is_libunwinds),
        cmocka_unit_test(another_stack_is_left_alone),
        cmocka_unit_test(code_without_tables_is_libunwinds),
        cmocka_unit_test(rules_of_hand_written_code),
    };

#ifdef __SANITIZE_THREAD__
    puts("skipped: libunwind, which it is compared with, is not for programs under TSan");
    return 77;
#endif
    return cmocka_run_group_tests(tests, set_up, NULL);
#endif
}
