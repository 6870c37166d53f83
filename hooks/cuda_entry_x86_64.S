/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entries of the wrappers whose calls are counted (alloc/entry_path.h): one for each path and
 * function. An entry adds one to the thread's counter and jumps to the wrapper with all arguments
 * as they were, so that the wrapper's caller is the program. The entries of the first path are what
 * the library exports under the driver's names; berth__cuda_entries lists all of them in the order
 * of enum berth_entry_path and of BERTH_ENTRY_NAMES.
 */
#include "hooks/cuda_entry_list.h"

        COUNT_NAMES

        .macro  ENTRY path, name
        .p2align 4
        .hidden berth__hook_\name
        .type   berth__entry_\path\()_\name, @function
berth__entry_\path\()_\name\():
        .cfi_startproc
        endbr64
        movq    berth__entry_counts@gottpoff(%rip), %rax
        movq    %fs:(%rax), %rax
        testq   %rax, %rax
        je      1f
2:      incq    8 * .Lindex(%rax)
        jmp     berth__hook_\name
1:      call    .Lacquire
        jmp     2b
        .cfi_endproc
        .size   berth__entry_\path\()_\name, . - berth__entry_\path\()_\name
        .pushsection .data.rel.ro, "aw"
        .quad   berth__entry_\path\()_\name
        .popsection
        .set    .Lindex, .Lindex + 1
        .endm

        .macro  EXPORTED name
        .globl  \name
        .type   \name, @function
        .set    \name, berth__entry_0_\name
        .endm

        .hidden berth__entry_counts
        .hidden berth__entry_counts_acquire
        .hidden berth__cuda_entries
        .globl  berth__cuda_entries

        .pushsection .data.rel.ro, "aw"
        .p2align 3
        .type   berth__cuda_entries, @object
        .size   berth__cuda_entries, 8 * PATHS * .Lnames
berth__cuda_entries:
        .popsection

        .text
        /* Returns the thread's new record in rax; keeps the six registers that have arguments. */
        .p2align 4
        .type   .Lacquire, @function
.Lacquire:
        .cfi_startproc
        .irp    register, rdi, rsi, rdx, rcx, r8, r9
        pushq   %\register
        .cfi_adjust_cfa_offset 8
        .endr
        call    berth__entry_counts_acquire
        .irp    register, r9, r8, rcx, rdx, rsi, rdi
        popq    %\register
        .cfi_adjust_cfa_offset -8
        .endr
        ret
        .cfi_endproc

        ALL_ENTRIES

        .section .note.GNU-stack, "", @progbits
