/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlsym() and dlvsym() as the program sees them; see dlsym_x86_64.S. Here they are those of
 * libberth.so alone. glibc's first version on this machine is 2.17.
 */
        .section .rodata
nobodys_version:
        .asciz  " "
        .text

        /* The arguments, and room for a result behind them, at 40. */
        .macro  SAVE_ARGUMENTS
        stp     x29, x30, [sp, #-64]!
        .cfi_adjust_cfa_offset 64
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        mov     x29, sp
        stp     x0, x1, [sp, #16]
        str     x2, [sp, #32]
        .endm

        .macro  RESTORE_ARGUMENTS
        ldp     x0, x1, [sp, #16]
        ldr     x2, [sp, #32]
        ldp     x29, x30, [sp], #64
        .cfi_adjust_cfa_offset -64
        .cfi_restore x29
        .cfi_restore x30
        .endm

        .macro  SYMBOL_LOOKUP name, next, resolve, version
        .type   \name\()_new, %function
        .type   \name\()_old, %function
        .globl  \name\()_new
        .globl  \name\()_old
        .symver \name\()_new, \name@@GLIBC_2.34, remove
        .symver \name\()_old, \name@GLIBC_2.17, remove
        .p2align 4
\name\()_new:
\name\()_old:
        .cfi_startproc
        .if     \version
        cbz     x2, 4f
        ldrb    w9, [x2]
        cbnz    w9, 4f
        adrp    x2, nobodys_version
        add     x2, x2, :lo12:nobodys_version
        .endif
4:      cbz     x1, 1f
        ldrb    w9, [x1]
        cmp     w9, #'c'
        b.ne    1f
        ldrb    w9, [x1, #1]
        cmp     w9, #'u'
        b.eq    2f
1:      adrp    x16, \next
        ldr     x16, [x16, :lo12:\next]
        cbz     x16, 3f
        br      x16

2:      SAVE_ARGUMENTS
        add     x3, sp, #40
        mov     x4, x30
        .if     \version == 0
        mov     x2, #0
        .endif
        bl      berth__dlsym_answer
        mov     w9, w0
        ldr     x10, [sp, #40]
        RESTORE_ARGUMENTS
        cbz     w9, 1b
        mov     x0, x10
        ret

3:      SAVE_ARGUMENTS
        bl      \resolve
        mov     x16, x0
        RESTORE_ARGUMENTS
        br      x16
        .cfi_endproc
        .size   \name\()_new, . - \name\()_new
        .size   \name\()_old, . - \name\()_old
        .endm

        SYMBOL_LOOKUP dlsym, berth__dlsym_next, berth__dlsym_resolve, 0
        SYMBOL_LOOKUP dlvsym, berth__dlvsym_next, berth__dlvsym_resolve, 1

        .section .note.GNU-stack, "", %progbits
