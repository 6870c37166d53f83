/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syscall(), for programs that fork by it: SYS_fork, and SYS_clone and SYS_clone3 of a new address
 * space on the same stack, go to berth__fork_syscall() in fork.c; SYS_prctl and SYS_seccomp, by which
 * programs limit themselves, and SYS_unshare and SYS_setns, which they make alone, to
 * berth__seccomp_syscall() in seccomp.c. All else is done here as the C library does it, without a
 * frame: the child of a clone may return on another stack.
 */
#define SYS_CLONE 56
#define SYS_FORK 57
#define SYS_PRCTL 157
#define SYS_UNSHARE 272
#define SYS_SETNS 308
#define SYS_SECCOMP 317
#define SYS_CLONE3 435
#define CLONE_VM 0x100
/* In struct clone_args. */
#define ARGS_FLAGS 0
#define ARGS_STACK 40
#define ERROR_MIN -4095

    .text
    .globl syscall
    .type syscall, @function
    .p2align 4
syscall:
    .cfi_startproc
    cmpq $SYS_CLONE, %rdi
    jb 2f
    je 3f
    cmpq $SYS_FORK, %rdi
    je 1f
    cmpq $SYS_PRCTL, %rdi
    je berth__seccomp_syscall
    cmpq $SYS_SECCOMP, %rdi
    je berth__seccomp_syscall
    cmpq $SYS_UNSHARE, %rdi
    je berth__seccomp_syscall
    cmpq $SYS_SETNS, %rdi
    je berth__seccomp_syscall
    cmpq $SYS_CLONE3, %rdi
    jne 2f
    testq %rsi, %rsi
    jz 2f
    testl $CLONE_VM, ARGS_FLAGS(%rsi)
    jnz 2f
    cmpq $0, ARGS_STACK(%rsi)
    jne 2f
1:  jmp berth__fork_syscall
3:  testl $CLONE_VM, %esi
    jnz 2f
    testq %rdx, %rdx
    jz 1b
2:  movq %rdi, %rax
    movq %rsi, %rdi
    movq %rdx, %rsi
    movq %rcx, %rdx
    movq %r8, %r10
    movq %r9, %r8
    movq 8(%rsp), %r9
    syscall
    cmpq $ERROR_MIN, %rax
    jae 4f
    ret
4:  pushq %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_rel_offset %rbx, 0
    movl %eax, %ebx
    negl %ebx
    call __errno_location@PLT
    movl %ebx, (%rax)
    popq %rbx
    .cfi_adjust_cfa_offset -8
    .cfi_restore %rbx
    movq $-1, %rax
    ret
    .cfi_endproc
    .size syscall, .-syscall

    .section .note.GNU-stack, "", @progbits
