/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the stress tests of reuse share: blocks have a pattern, and work in a stream looks whether
 * all of its bytes are still there. Any thread, but for the begin and the end.
 */
#ifndef BERTH_TEST_DEVICE_CONTENT_H
#define BERTH_TEST_DEVICE_CONTENT_H

#include "cuda_api.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

extern uint64_t content_seed;                        /* of the run, for what is said of a failure */
extern atomic_ullong content_wrong, content_checked; /* bytes; blocks */

#define CALL(call)                                                                                 \
    do {                                                                                           \
        CUresult result_ = (call);                                                                 \
        if (result_ != CUDA_SUCCESS) {                                                             \
            fprintf(stderr, "%s:%d: %s answered %d (seed %llu)\n", __FILE__, __LINE__, #call,      \
                    (int)result_, (unsigned long long)content_seed);                               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Less than `below`; the state is never 0. */
uint64_t content_draw(uint64_t *state, uint64_t below);

/* Around the checks of a context: pinned memory for blocks of at most `size_most` bytes. */
void content_begin(size_t size_most);
void content_end(void);

/* Queues, in the stream, a look at a block whose bytes are all to be `fill`. */
void content_check(CUdeviceptr address, size_t size, unsigned char fill, CUstream stream);

/* Prints the sums; the program's status. */
int content_report(unsigned long long refused);

#endif
