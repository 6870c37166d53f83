/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlopen() and dlmopen() without RTLD_DEEPBIND.
 *
 * A library bound that way would call the C library's malloc and hand its blocks to this free. The
 * flag is taken out of the arguments, and the next dlopen is reached by a jump: a call would make
 * this library the caller, and the program's RUNPATH would then no longer be searched, nor
 * RTLD_NEXT counted from it.
 */
#define RTLD_DEEPBIND 0x8

        .text

        .globl  dlopen
        .type   dlopen, @function
        .p2align 4
dlopen:
        .cfi_startproc
        andl    $~RTLD_DEEPBIND, %esi
        movq    berth__dlopen_next(%rip), %rax
        testq   %rax, %rax
        je      1f
        jmp     *%rax
1:      pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        call    berth__dlopen_resolve
        addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        jmp     *%rax
        .cfi_endproc
        .size   dlopen, . - dlopen

        .globl  dlmopen
        .type   dlmopen, @function
        .p2align 4
dlmopen:
        .cfi_startproc
        andl    $~RTLD_DEEPBIND, %edx
        movq    berth__dlmopen_next(%rip), %rax
        testq   %rax, %rax
        je      1f
        jmp     *%rax
1:      pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        pushq   %rdx
        .cfi_adjust_cfa_offset 8
        call    berth__dlmopen_resolve
        popq    %rdx
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        jmp     *%rax
        .cfi_endproc
        .size   dlmopen, . - dlmopen

        .section .note.GNU-stack, "", @progbits
