/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dlopen() and dlmopen() without RTLD_DEEPBIND; see dlopen_x86_64.S. The next function is reached
 * by a jump, so that the program stays the caller.
 */
#define RTLD_DEEPBIND 0x8

        .text

        .globl  dlopen
        .type   dlopen, %function
        .p2align 4
dlopen:
        .cfi_startproc
        and     w1, w1, #~RTLD_DEEPBIND
        adrp    x16, berth__dlopen_next
        ldr     x16, [x16, :lo12:berth__dlopen_next]
        cbz     x16, 1f
        br      x16
1:      stp     x29, x30, [sp, #-48]!
        .cfi_adjust_cfa_offset 48
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        stp     x0, x1, [sp, #16]
        bl      berth__dlopen_resolve
        mov     x16, x0
        ldp     x0, x1, [sp, #16]
        ldp     x29, x30, [sp], #48
        .cfi_adjust_cfa_offset -48
        .cfi_restore x29
        .cfi_restore x30
        br      x16
        .cfi_endproc
        .size   dlopen, . - dlopen

        .globl  dlmopen
        .type   dlmopen, %function
        .p2align 4
dlmopen:
        .cfi_startproc
        and     w2, w2, #~RTLD_DEEPBIND
        adrp    x16, berth__dlmopen_next
        ldr     x16, [x16, :lo12:berth__dlmopen_next]
        cbz     x16, 1f
        br      x16
1:      stp     x29, x30, [sp, #-48]!
        .cfi_adjust_cfa_offset 48
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        stp     x0, x1, [sp, #16]
        str     x2, [sp, #32]
        bl      berth__dlmopen_resolve
        mov     x16, x0
        ldp     x0, x1, [sp, #16]
        ldr     x2, [sp, #32]
        ldp     x29, x30, [sp], #48
        .cfi_adjust_cfa_offset -48
        .cfi_restore x29
        .cfi_restore x30
        br      x16
        .cfi_endproc
        .size   dlmopen, . - dlmopen

        .section .note.GNU-stack, "", %progbits
