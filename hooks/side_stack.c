/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/side_stack.h"

#if defined(__x86_64__)

#include "alloc/types.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>

#define STACK_SIZE ((size_t)64 << 10)
#define GUARD_SIZE ((size_t)4 << 10)
/* As many are kept as are ever in use at once, up to this number. */
#define KEPT_MAX 8

/* The caller's frame stays where %rbp points: that is what the tables say of it. */
__asm__(".pushsection .text\n"
        "\t.globl berth__side_stack_enter\n"
        "\t.hidden berth__side_stack_enter\n"
        "\t.type berth__side_stack_enter, @function\n"
        "berth__side_stack_enter:\n"
        "\t.cfi_startproc\n"
        "\tpushq %rbp\n"
        "\t.cfi_def_cfa_offset 16\n"
        "\t.cfi_offset %rbp, -16\n"
        "\tmovq %rsp, %rbp\n"
        "\t.cfi_def_cfa_register %rbp\n"
        "\tmovq %rdx, %rsp\n"
        "\tmovq %rdi, %rax\n"
        "\tmovq %rsi, %rdi\n"
        "\tcallq *%rax\n"
        "\tmovq %rbp, %rsp\n"
        "\tpopq %rbp\n"
        "\t.cfi_def_cfa %rsp, 8\n"
        "\tretq\n"
        "\t.cfi_endproc\n"
        "\t.size berth__side_stack_enter, .-berth__side_stack_enter\n"
        ".popsection\n");

/* The lowest addresses of stacks that nobody uses now. */
static _Atomic(char *) kept[KEPT_MAX];

static char *stack_take(void)
{
    char *low;

    for (int i = 0; i < KEPT_MAX; i++) {
        low = atomic_exchange_explicit(&kept[i], NULL, memory_order_acquire);
        if (low)
            return low;
    }
    low = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (low == MAP_FAILED)
        return NULL;
    mprotect(low, GUARD_SIZE, PROT_NONE);
    return low;
}

static void stack_give_back(char *low)
{
    for (int i = 0; i < KEPT_MAX; i++) {
        char *none = NULL;

        if (atomic_compare_exchange_strong_explicit(&kept[i], &none, low, memory_order_release,
                                                    memory_order_relaxed))
            return;
    }
    munmap(low, STACK_SIZE);
}

bool berth__side_stack_run(void (*work)(void *context), void *context)
{
    int saved_errno = errno;
    char *low = stack_take();

    errno = saved_errno;
    if (BERTH_UNLIKELY(!low))
        return false;
    berth__side_stack_enter(work, context, low + STACK_SIZE);
    saved_errno = errno;
    stack_give_back(low);
    errno = saved_errno;
    return true;
}

#else

void berth__side_stack_enter(void (*work)(void *context), void *context, void *top)
{
    (void)work;
    (void)context;
    (void)top;
}

bool berth__side_stack_run(void (*work)(void *context), void *context)
{
    (void)work;
    (void)context;
    return false;
}

#endif
