/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A step: one call of the driver, made again when it fails. What it answered is printed, so that
 * two runs can be compared line by line.
 */
#ifndef BERTH_TEST_FAULT_STEP_H
#define BERTH_TEST_FAULT_STEP_H

#include "cuda_api.h"

#include <stdbool.h>
#include <stdio.h>

/* At most two failures are planned for one run; each is met once. */
#define STEP_TRIES 3

/* Makes the call of `expression`, prints "what: code code"; whether it worked in the end. */
#define STEP(what, expression)                                                                     \
    __extension__({                                                                                \
        CUresult step_result = CUDA_ERROR_UNKNOWN;                                                 \
                                                                                                   \
        printf("%s:", what);                                                                       \
        for (int step_try = 0; step_try < STEP_TRIES; step_try++) {                                \
            step_result = (expression);                                                            \
            printf(" %d", (int)step_result);                                                       \
            if (step_result == CUDA_SUCCESS)                                                       \
                break;                                                                             \
        }                                                                                          \
        putchar('\n');                                                                             \
        step_result == CUDA_SUCCESS;                                                               \
    })

#endif
