/* SPDX-License-Identifier: Apache-2.0 */
/*
 * malloc_entry.c in assembly, because a compiler makes neither a conditional tail jump nor a
 * comparison with an atomic in memory: what Berth adds to jemalloc's fast path is three
 * instructions of malloc() and four of free(), five more of malloc() while samples are taken, and
 * thirteen more of it where the return address has to be looked at.
 *
 * malloc.c checks the numbers below against the structures.
 */
#define PLAIN_COUNT berth__plain(%rip)
#define PLAIN_GLANCE_KEY 8 + berth__plain(%rip)
#define PLAIN_WINDOW_BASE 16 + berth__plain(%rip)
#define PLAIN_WINDOW_SIZE 24 + berth__plain(%rip)
#define PLAIN_SAMPLED 32 + berth__plain(%rip)
#define TINY_MAX 8
#define GLANCE_SURE 4095
/* An entry has eight bytes, and its number is the address's bits from the second on. */
#define GLANCE_ADDRESS_MASK 0x1ffe
#define GLANCE_ADDRESS_SCALE 4
#define THREAD_TAG_DEPTH 4

    .hidden berth__plain
    .hidden berth__glances
    .hidden berth__sample
    .hidden berth_je_malloc
    .hidden berth_je_calloc
    .hidden berth_je_realloc
    .hidden berth_je_free

/*
 * Jumps to `pass` where no rule can match a block of %rax + TINY_MAX + 1 bytes, and falls through
 * otherwise; the return address is on top of the stack. `size` is the register that has the size, if
 * one has. %rdi and %rsi are left alone.
 *
 * The second part is berth__sample_passes() while samples are taken. The third is berth__glance_peek() and berth__glance_allows() of an address from which no
 * small block matches. Nothing is lost where an entry is replaced meanwhile: it is one word.
 */
    .macro pass_plain pass, size
    cmpq PLAIN_COUNT, %rax
    jb \pass
    cmpq PLAIN_SAMPLED, %rax
    jae 0f
    movq berth__sample@gottpoff(%rip), %rdx
    .ifb \size
    leaq (TINY_MAX + 1)(%rax), %rcx
    subq %rcx, %fs:(%rdx)
    .else
    subq \size, %fs:(%rdx)
    .endif
    jns \pass
    jmp 1f
0:  cmpq $(GLANCE_SURE - TINY_MAX), %rax
    jae 1f
    movq (%rsp), %r8
    movl %r8d, %edx
    andl $GLANCE_ADDRESS_MASK, %edx
    leaq berth__glances(%rip), %rcx
    xorq PLAIN_GLANCE_KEY, %r8
    cmpq %r8, (%rcx, %rdx, GLANCE_ADDRESS_SCALE)
    jne 1f
    movq berth__thread@gottpoff(%rip), %rdx
    cmpl $0, %fs:THREAD_TAG_DEPTH(%rdx)
    je \pass
1:
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
    leaq -(TINY_MAX + 1)(%rdi), %rax
    pass_plain 2f, %rdi
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
    .p2align 4
malloc:
__libc_malloc:
    .cfi_startproc
    leaq -(TINY_MAX + 1)(%rdi), %rax
    pass_plain berth_je_malloc, %rdi
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
    subq $(TINY_MAX + 1), %rax
    pass_plain berth_je_calloc
2:  movq (%rsp), %rdx
    jmp berth__malloc_look_zeroed
    .cfi_endproc
    .size calloc, .-calloc
    .size __libc_calloc, .-__libc_calloc

/* Of the window as in free() below. Sizes of 0 are not plain: a NULL is jemalloc's failure. */
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
    pass_plain 3f, %rsi
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
    new_entry _Znam, berth__malloc_look_new_array, berth__malloc_fail_new_array

/*
 * The base is read before the size, which was written after it. A thread that sees only the size
 * finds an address of low memory to be ours, and berth__malloc_drop() looks again; one that was
 * handed a block of a window has seen both.
 */
    .macro free_entry names:vararg
    .p2align 4
    .irp name, \names
    export \name
\name:
    .endr
    .cfi_startproc
    movq %rdi, %rax
    subq PLAIN_WINDOW_BASE, %rax
    cmpq PLAIN_WINDOW_SIZE, %rax
    jae berth_je_free
    jmp berth__malloc_drop
    .cfi_endproc
    .irp name, \names
    .size \name, . - \name
    .endr
    .endm

    .hidden berth__malloc_drop
/* One for each way to allocate: valgrind, which knows functions by their addresses, tells new from
 * malloc. */
    free_entry free, __libc_free, cfree, free_sized, free_aligned_sized
    free_entry _ZdlPv, _ZdlPvRKSt9nothrow_t, _ZdlPvm, _ZdlPvSt11align_val_t, _ZdlPvSt11align_val_tRKSt9nothrow_t, _ZdlPvmSt11align_val_t
    free_entry _ZdaPv, _ZdaPvRKSt9nothrow_t, _ZdaPvm, _ZdaPvSt11align_val_t, _ZdaPvSt11align_val_tRKSt9nothrow_t, _ZdaPvmSt11align_val_t

    .section .note.GNU-stack, "", @progbits
