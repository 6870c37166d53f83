/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frame rules: how a frame's caller is found, for one return address in the frame, as the module's
 * unwind tables (.eh_frame) have it.
 *
 * Only what compilers make is understood: the canonical frame address is a constant from the stack
 * or base pointer, or what the base pointer points near to (realigned stacks), and the return
 * address lies just below it. All else is for libunwind. Nothing is read outside the module's
 * mapping; no lock is taken, and nothing is allocated.
 */
#ifndef BERTH_HOOKS_FRAME_RULE_H
#define BERTH_HOOKS_FRAME_RULE_H

#include <stdbool.h>
#include <stdint.h>

enum berth_frame_kind {
    BERTH_FRAME_UNKNOWN = 0, /* no tables, or nothing that is understood here */
    BERTH_FRAME_OUTERMOST,   /* nobody called it */
    BERTH_FRAME_BY_SP,       /* cfa = sp + offset */
    BERTH_FRAME_BY_BP,       /* cfa = bp + offset */
    BERTH_FRAME_AT_BP,       /* cfa = *(bp - offset) */
};

enum berth_frame_bp {
    BERTH_FRAME_BP_SAME = 0, /* the caller's base pointer is this frame's */
    BERTH_FRAME_BP_AT_BP = 1 /* it is what this frame's points to; else it lies so many words */
                             /* below the cfa */
};

#define BERTH_FRAME_BP_MAX 15
#define BERTH_FRAME_OFFSET_MAX 0xffff

struct berth_frame_rule {
    uint8_t kind, bp;
    uint16_t offset; /* in words of 8 bytes */
};

/* The rule of the frame that a call in it returns to `address`. */
void berth__frame_rule_find(uintptr_t address, struct berth_frame_rule *ret);

#endif
