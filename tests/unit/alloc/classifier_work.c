/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has so many blocks judged of which none has a number below zero, no two of a size; "steps" after
 * some of these, "quiet" without; "folded": of one size, half from before the steps and half from
 * behind them, whose signs are looked for among the first. classifier_work.py counts what the
 * judgements take.
 */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "played.h"

#define JUDGEMENTS 3

/* Numbers as weights are, and others in each. */
static void make_signed(unsigned blocks)
{
    uint64_t(*content)[BERTH_LOOK_WORDS] = malloc(blocks * sizeof(*content));
    static uint64_t number = 1;

    if (!content)
        abort();
    for (unsigned i = 0; i < blocks; i++) {
        born(64 * KIB, TENSORS)->words = content[i];
        for (unsigned j = 0; j < BERTH_LOOK_WORDS; j++) {
            number = number * 6364136223846793005u + 1442695040888963407u;
            content[i][j] = (number & 0x80ffffff80ffffffu) | 0x3c0000003c000000u;
        }
    }
}

static void infer(unsigned steps)
{
    for (unsigned step = 0; step < steps; step++) {
        for (unsigned birth = 0; birth < 40; birth++)
            died(born(192 * KIB, TENSORS));
        berth__classifier_step();
    }
}

static void make(const char *way, unsigned blocks)
{
    if (strcmp(way, "folded") == 0) {
        make_signed(blocks / 2);
        infer(1);
        make_signed(blocks / 2);
        infer(6);
        return;
    }
    for (unsigned i = 0; i < blocks; i++)
        born((64 + i) * KIB, TENSORS)->is_positive = true;
}

int main(int argc, char **argv)
{
    bool has_steps = argc == 3 && strcmp(argv[1], "steps") == 0;
    unsigned blocks = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

    if (blocks == 0 || blocks > BLOCKS_MAX - 64 || begin(NULL) != 0)
        return 1;
    make(argv[1], blocks);
    for (unsigned i = 0; i < JUDGEMENTS; i++) {
        for (unsigned birth = 0; birth < 4; birth++) {
            if (has_steps)
                berth__classifier_step();
            died(born((68 + birth) * KIB, TENSORS));
        }
        berth__classifier_refresh();
    }
    return 0;
}
