/* SPDX-License-Identifier: Apache-2.0 */
/*
 * malloc_entry.c in assembly, because a compiler makes neither a conditional tail jump nor a
 * comparison with an atomic in memory: what Berth adds to jemalloc's fast path is two instructions
 * of malloc() and four of free(), and of malloc() eight more where the return address has to be
 * looked at, or six more while samples are taken.
 *
 * malloc.c checks the numbers below against the structures.
 */
#include "hooks/operator.h"

#define PLAIN_COUNT berth__plain(%rip)
#define PLAIN_LIMIT 8 + berth__plain(%rip)
#define PLAIN_ENTRY_KEY 16 + berth__plain(%rip)
#define PLAIN_WINDOW_BASE 24 + berth__plain(%rip)
#define PLAIN_WINDOW_SIZE 32 + berth__plain(%rip)
#define PLAIN_SAMPLED 40 + berth__plain(%rip)
#define OPERATORS_LIMIT berth__plain_operators(%rip)
#define OPERATORS_SAMPLED 8 + berth__plain_operators(%rip)
#define OPERATORS_WINDOW_BASE 16 + berth__plain_operators(%rip)
#define OPERATORS_WINDOW_SIZE 24 + berth__plain_operators(%rip)
#define TINY_MAX 8
#define GLANCE_SURE 4095
/* An entry has eight bytes, and its number is the address's bits from the second on. */
#define GLANCE_ADDRESS_MASK 0x1ffe
#define GLANCE_ADDRESS_SCALE 4

    .hidden berth__plain
    .hidden berth__plain_operators
    .hidden berth__operators
    .hidden berth__glances
    .hidden berth__sample
    .hidden berth_je_malloc
    .hidden berth_je_calloc
    .hidden berth_je_realloc
    .hidden berth_je_free

/*
 * Jumps to `pass` where a kept glance says that no small block of this call matches a rule, and
 * falls through otherwise; the return address is on top of the stack. %rdi, %rsi and %rax are left
 * alone. This is berth__glance_peek() and berth__glance_allows() of an address from which no small
 * block matches. Nothing is lost where an entry is replaced meanwhile: it is one word.
 */
    .macro pass_glance pass
    movq (%rsp), %r8
    movl %r8d, %edx
    andl $GLANCE_ADDRESS_MASK, %edx
    leaq berth__glances(%rip), %rcx
    xorq PLAIN_ENTRY_KEY, %r8
    cmpq %r8, (%rcx, %rdx, GLANCE_ADDRESS_SCALE)
    je \pass
    .endm

/*
 * Counts the bytes of the register \size where samples are taken of blocks below \sampled, and
 * jumps to `pass` unless one is due: this is berth__sample_passes(). Falls through where none are
 * taken.
 */
    .macro pass_sample size, pass, sampled=PLAIN_SAMPLED
    cmpq \sampled, \size
    jae 9f
    movq berth__sample@gottpoff(%rip), %rdx
    subq \size, %fs:(%rdx)
    jns \pass
9:
    .endm

/*
 * Jumps to `pass` where no rule can match a block of \size bytes, and no sample is due. A size
 * beyond all that can be had is negative, and passes: jemalloc refuses it. See the limits in
 * plain.h for what overflows.
 */
    .macro pass_plain size, pass, limit=PLAIN_LIMIT, sampled=PLAIN_SAMPLED
    cmpq \limit, \size
    jl \pass
    js 1f
    pass_glance \pass
    jmp 8f
1:  pass_sample \size, \pass, "\sampled"
8:
    .endm

    .macro export name
    .globl \name
    .type \name, @function
    .endm

/*
 * operator new: jemalloc's answer comes back here, because somebody has to throw for it. The size
 * is kept on the stack, which also aligns it.
 */
    .macro new_entry name, look, fail
    .hidden \look
    .hidden \fail
    export \name
    .p2align 4
\name:
    .cfi_startproc
    pass_plain %rdi, 2f, OPERATORS_LIMIT, OPERATORS_SAMPLED
    movq (%rsp), %rsi
    jmp \look
2:  pushq %rdi
    .cfi_adjust_cfa_offset 8
    call berth_je_malloc
    popq %rdi
    .cfi_adjust_cfa_offset -8
    testq %rax, %rax
    jz 3f
    ret
3:  jmp \fail
    .cfi_endproc
    .size \name, .-\name
    .endm

    .text
    export malloc
    export __libc_malloc
    .hidden berth__malloc_look
    .p2align 6
malloc:
__libc_malloc:
    .cfi_startproc
    pass_plain %rdi, berth_je_malloc
    movq (%rsp), %rsi
    jmp berth__malloc_look
    .cfi_endproc
    .size malloc, .-malloc
    .size __libc_malloc, .-__libc_malloc

    export calloc
    export __libc_calloc
    .hidden berth__malloc_look_zeroed
    .p2align 4
calloc:
__libc_calloc:
    .cfi_startproc
    movq %rdi, %rax
    mulq %rsi
    jo 2f
    pass_plain %rax, berth_je_calloc
2:  movq (%rsp), %rdx
    jmp berth__malloc_look_zeroed
    .cfi_endproc
    .size calloc, .-calloc
    .size __libc_calloc, .-__libc_calloc

/*
 * Of the window as in free() below. Sizes of 0 are not plain: a NULL is jemalloc's failure. So the
 * limit does not serve, and tiny sizes are looked at.
 */
    export realloc
    export __libc_realloc
    .hidden berth__malloc_look_again
    .hidden berth__malloc_fail_again
    .p2align 4
realloc:
__libc_realloc:
    .cfi_startproc
    movq %rdi, %rax
    subq PLAIN_WINDOW_BASE, %rax
    cmpq PLAIN_WINDOW_SIZE, %rax
    jb 2f
    leaq -(TINY_MAX + 1)(%rsi), %rax
    cmpq PLAIN_COUNT, %rax
    jb 3f
    cmpq $(GLANCE_SURE - TINY_MAX), %rax
    jae 2f
    pass_glance 3f
    pass_sample %rsi, 3f
2:  movq (%rsp), %rdx
    jmp berth__malloc_look_again
3:  pushq %rsi
    .cfi_adjust_cfa_offset 8
    call berth_je_realloc
    popq %rsi
    .cfi_adjust_cfa_offset -8
    testq %rax, %rax
    jz 4f
    ret
4:  jmp berth__malloc_fail_again
    .cfi_endproc
    .size realloc, .-realloc
    .size __libc_realloc, .-__libc_realloc

/*
 * The process's realloc(), as in the C library: another allocator may come before this one (one that
 * was preloaded, or valgrind, which takes functions over by name), without a reallocarray() of its
 * own. A jump, so that the return address stays the program's.
 */
    export reallocarray
    .p2align 4
reallocarray:
    .cfi_startproc
    movq %rsi, %rax
    mulq %rdx
    jo 1f
    movq %rax, %rsi
    jmp *realloc@GOTPCREL(%rip)
1:  jmp berth__malloc_fail_again
    .cfi_endproc
    .size reallocarray, .-reallocarray

    new_entry _Znwm, berth__malloc_look_new, berth__malloc_fail_new
    .globl berth__malloc_own_new
    .hidden berth__malloc_own_new
    .set berth__malloc_own_new, _Znwm

/*
 * As in the C++ library, the other forms of an operator are calls of one that the program may have
 * replaced alone; or are a library's: see operator.h. A jump, as in reallocarray().
 */
    .macro form_entry name, number
    export \name
    .p2align 4
\name:
    .cfi_startproc
    jmp *berth__operators + 8 * \number(%rip)
    .cfi_endproc
    .size \name, .-\name
    .endm

    form_entry _Znam, BERTH_OPERATOR_NEW_ARRAY
    .globl berth__malloc_own_new_array
    .hidden berth__malloc_own_new_array
    .set berth__malloc_own_new_array, _Znam
    form_entry _ZnamSt11align_val_t, BERTH_OPERATOR_NEW_ARRAY_ALIGNED
    .globl berth__malloc_own_aligned_array
    .hidden berth__malloc_own_aligned_array
    .set berth__malloc_own_aligned_array, _ZnamSt11align_val_t

/*
 * The base is read before the size, which was written after it. A thread that sees only the size
 * finds an address of low memory to be ours, and berth__malloc_drop() looks again; one that was
 * handed a block of a window has seen both.
 */
    .macro free_entry base, size, drop, names:vararg
    .hidden \drop
    .p2align 6
    .irp name, \names
    export \name
\name:
    .endr
    .cfi_startproc
    movq %rdi, %rax
    subq \base, %rax
    cmpq \size, %rax
    jae berth_je_free
    jmp \drop
    .cfi_endproc
    .irp name, \names
    .size \name, . - \name
    .endr
    .endm

/* One for each way to allocate: valgrind, which knows functions by their addresses, tells new from
 * malloc. */
    free_entry PLAIN_WINDOW_BASE, PLAIN_WINDOW_SIZE, berth__malloc_drop, \
               free, __libc_free, cfree, free_sized, free_aligned_sized
    free_entry OPERATORS_WINDOW_BASE, OPERATORS_WINDOW_SIZE, berth__malloc_drop_new, _ZdlPv
    form_entry _ZdaPv, BERTH_OPERATOR_DELETE_ARRAY
    form_entry _ZdlPvm, BERTH_OPERATOR_DELETE_SIZED
    form_entry _ZdlPvRKSt9nothrow_t, BERTH_OPERATOR_DELETE_NOTHROW
    form_entry _ZdaPvm, BERTH_OPERATOR_DELETE_ARRAY_SIZED
    form_entry _ZdaPvRKSt9nothrow_t, BERTH_OPERATOR_DELETE_ARRAY_NOTHROW
    free_entry OPERATORS_WINDOW_BASE, OPERATORS_WINDOW_SIZE, berth__malloc_drop_aligned, \
               _ZdlPvSt11align_val_t
    form_entry _ZdaPvSt11align_val_t, BERTH_OPERATOR_DELETE_ARRAY_ALIGNED
    form_entry _ZdlPvmSt11align_val_t, BERTH_OPERATOR_DELETE_SIZED_ALIGNED
    form_entry _ZdlPvSt11align_val_tRKSt9nothrow_t, BERTH_OPERATOR_DELETE_ALIGNED_NOTHROW
    form_entry _ZdaPvmSt11align_val_t, BERTH_OPERATOR_DELETE_ARRAY_SIZED_ALIGNED
    form_entry _ZdaPvSt11align_val_tRKSt9nothrow_t, BERTH_OPERATOR_DELETE_ARRAY_ALIGNED_NOTHROW

    .section .note.GNU-stack, "", @progbits
