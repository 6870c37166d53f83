/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entries of the wrappers whose calls are counted (alloc/entry_path.h): one for each path and
 * function. An entry adds one to the thread's counter and jumps to the wrapper with all arguments
 * as they were, so that the wrapper's caller is the program. The entries of the first path are what
 * the library exports under the driver's names; berth__cuda_entries lists all of them in the order
 * of enum berth_entry_path and of BERTH_ENTRY_NAMES.
 */
#include "alloc/entry_path_names.h"

#define PATHS 6

        .macro  COUNT_NAME name
        .set    .Lnames, .Lnames + 1
        .endm

        .set    .Lnames, 0
#define X(name) COUNT_NAME name ;
BERTH_ENTRY_NAMES(X)
#undef X

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

        .set    .Lindex, 0
#define X(name) ENTRY 0, name ;
BERTH_ENTRY_NAMES(X)
#undef X
#define X(name) ENTRY 1, name ;
BERTH_ENTRY_NAMES(X)
#undef X
#define X(name) ENTRY 2, name ;
BERTH_ENTRY_NAMES(X)
#undef X
#define X(name) ENTRY 3, name ;
BERTH_ENTRY_NAMES(X)
#undef X
#define X(name) ENTRY 4, name ;
BERTH_ENTRY_NAMES(X)
#undef X
#define X(name) ENTRY 5, name ;
BERTH_ENTRY_NAMES(X)
#undef X

#define X(name) EXPORTED name ;
BERTH_ENTRY_NAMES(X)
#undef X

        .section .note.GNU-stack, "", @progbits
