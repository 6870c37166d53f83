/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlsym() and dlvsym() as the program sees them.
 *
 * Most go on to the original by a jump with all registers as they were: RTLD_NEXT and RTLD_DEFAULT
 * depend on the return address, so a C function in between would give callers their own symbols
 * back. Some are first offered to berth__dlsym_answer(handle, name, version, &result, return
 * address), which returns 0 to decline: by libberth.so, names that begin with "cu", as the driver's
 * do; by libberth-malloc.so, what is asked of a library's handle. Compiled once for each of them.
 *
 * Both have the versions under which glibc exports them (libberth_x86_64.map): programs are bound without,
 * but another wrapper that comes first looks for dlsym by dlvsym, which insists on a version.
 *
 * glibc (2.36) takes an empty version for that of any symbol which has none, in a library that has
 * some, and crashes when it compares their names; the preload libraries are such. A version that
 * nobody has is refused, as an empty one is without them.
 */
        .section .rodata
nobodys_version:
        .asciz  " "
        .text

        .macro  SYMBOL_LOOKUP name, next, resolve, version
        .type   \name\()_new, @function
        .type   \name\()_old, @function
        .globl  \name\()_new
        .globl  \name\()_old
        .symver \name\()_new, \name@@GLIBC_2.34, remove
        .symver \name\()_old, \name@GLIBC_2.2.5, remove
        .p2align 4
\name\()_new:
\name\()_old:
        .cfi_startproc
        endbr64
        .if     \version
        testq   %rdx, %rdx
        je      4f
        cmpb    $0, (%rdx)
        jne     4f
        leaq    nobodys_version(%rip), %rdx
        .endif
4:      testq   %rsi, %rsi
        je      1f
#ifdef BERTH_MALLOC_SIDE
        leaq    1(%rdi), %rax           /* RTLD_NEXT is -1, RTLD_DEFAULT 0 */
        cmpq    $1, %rax
        ja      2f
#else
        cmpb    $'c', (%rsi)
        jne     1f
        cmpb    $'u', 1(%rsi)
        je      2f
#endif
1:      movq    \next(%rip), %rax
        testq   %rax, %rax
        je      3f
        jmp     *%rax

        /* Three arguments and a slot for the result; the stack is aligned again by the fifth. */
2:      movq    (%rsp), %r8
        pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        pushq   %rdx
        .cfi_adjust_cfa_offset 8
        subq    $16, %rsp
        .cfi_adjust_cfa_offset 16
        movq    %rsp, %rcx
        .if     \version == 0
        xorl    %edx, %edx
        .endif
        call    berth__dlsym_answer
        movq    (%rsp), %rcx
        addq    $16, %rsp
        .cfi_adjust_cfa_offset -16
        popq    %rdx
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        testl   %eax, %eax
        je      1b
        movq    %rcx, %rax
        ret

3:      pushq   %rdi
        .cfi_adjust_cfa_offset 8
        pushq   %rsi
        .cfi_adjust_cfa_offset 8
        pushq   %rdx
        .cfi_adjust_cfa_offset 8
        call    \resolve
        popq    %rdx
        .cfi_adjust_cfa_offset -8
        popq    %rsi
        .cfi_adjust_cfa_offset -8
        popq    %rdi
        .cfi_adjust_cfa_offset -8
        jmp     *%rax
        .cfi_endproc
        .size   \name\()_new, . - \name\()_new
        .size   \name\()_old, . - \name\()_old
        .endm

        SYMBOL_LOOKUP dlsym, berth__dlsym_next, berth__dlsym_resolve, 0
        SYMBOL_LOOKUP dlvsym, berth__dlvsym_next, berth__dlvsym_resolve, 1

        .section .note.GNU-stack, "", @progbits
