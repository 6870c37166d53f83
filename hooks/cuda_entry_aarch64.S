/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entries of the wrappers whose calls are counted; see cuda_entry_x86_64.S. An entry may change
 * x16 and x17 alone, as any code between a call and its function may.
 */
#include "hooks/cuda_entry_list.h"

        COUNT_NAMES

        .macro  ENTRY path, name
        .p2align 4
        .hidden berth__hook_\name
        .type   berth__entry_\path\()_\name, %function
berth__entry_\path\()_\name\():
        .cfi_startproc
        adrp    x16, :gottprel:berth__entry_counts
        ldr     x16, [x16, :gottprel_lo12:berth__entry_counts]
        mrs     x17, tpidr_el0
        ldr     x16, [x17, x16]
        cbz     x16, 1f
2:      ldr     x17, [x16, #(8 * .Lindex)]
        add     x17, x17, #1
        str     x17, [x16, #(8 * .Lindex)]
        b       berth__hook_\name
1:      adr     x17, 2b
        b       .Lacquire
        .cfi_endproc
        .size   berth__entry_\path\()_\name, . - berth__entry_\path\()_\name
        .pushsection .data.rel.ro, "aw"
        .xword  berth__entry_\path\()_\name
        .popsection
        .set    .Lindex, .Lindex + 1
        .endm

        .macro  EXPORTED name
        .globl  \name
        .type   \name, %function
        .set    \name, berth__entry_0_\name
        .endm

        .hidden berth__entry_counts
        .hidden berth__entry_counts_acquire
        .hidden berth__cuda_entries
        .globl  berth__cuda_entries

        .pushsection .data.rel.ro, "aw"
        .p2align 3
        .type   berth__cuda_entries, %object
        .size   berth__cuda_entries, 8 * PATHS * .Lnames
berth__cuda_entries:
        .popsection

        .text
        /* Goes on at x17 with the thread's new record in x16; keeps what has arguments. */
        .p2align 4
        .type   .Lacquire, %function
.Lacquire:
        .cfi_startproc
        stp     x29, x30, [sp, #-96]!
        .cfi_adjust_cfa_offset 96
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        mov     x29, sp
        stp     x0, x1, [sp, #16]
        stp     x2, x3, [sp, #32]
        stp     x4, x5, [sp, #48]
        stp     x6, x7, [sp, #64]
        str     x17, [sp, #80]
        bl      berth__entry_counts_acquire
        mov     x16, x0
        ldr     x17, [sp, #80]
        ldp     x6, x7, [sp, #64]
        ldp     x4, x5, [sp, #48]
        ldp     x2, x3, [sp, #32]
        ldp     x0, x1, [sp, #16]
        ldp     x29, x30, [sp], #96
        .cfi_adjust_cfa_offset -96
        .cfi_restore x29
        .cfi_restore x30
        br      x17
        .cfi_endproc

        ALL_ENTRIES

        .section .note.GNU-stack, "", %progbits
