/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plug-in whose only function has a frame of ROOM bytes and calls on through code that has no
 * tables, so that libunwind is asked about it. Built twice: all addresses are the same in both.
 */
__asm__(".text\n"
        "\t.type bare, @function\n"
        "bare:\n" /* no tables: libunwind goes by the base pointer */
        "\tpushq %rbp\n"
        "\tmovq %rsp, %rbp\n"
        "\tcallq *%rdi\n"
        "\tpopq %rbp\n"
        "\tretq\n"
        "\t.globl plugin_call\n"
        "\t.type plugin_call, @function\n"
        "plugin_call:\n"
        "\t.cfi_startproc\n"
        "\tsubq $" ROOM ", %rsp\n"
        "\t.cfi_adjust_cfa_offset " ROOM "\n"
        "\tcallq bare\n"
        "\taddq $" ROOM ", %rsp\n"
        "\t.cfi_adjust_cfa_offset -" ROOM "\n"
        "\tretq\n"
        "\t.cfi_endproc\n"
        ".section .note.GNU-stack, \"\", @progbits\n"
        ".text\n");
