/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has so many blocks judged of which none has a number below zero, no two of a size; "steps" after
 * some of these, "quiet" without. classifier_work.py counts what the judgements take.
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

int main(int argc, char **argv)
{
    bool has_steps = argc == 3 && strcmp(argv[1], "steps") == 0;
    unsigned blocks = argc == 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

    if (blocks == 0 || blocks > BLOCKS_MAX / 2 || begin(NULL) != 0)
        return 1;
    for (unsigned i = 0; i < blocks; i++)
        born((64 + i) * KIB, TENSORS)->is_positive = true;
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
