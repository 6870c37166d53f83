/* SPDX-License-Identifier: Apache-2.0 */
/* How a kernel runs on the simulated driver: a launch of the kernel with the
 * mangled name N calls the host function simk_N, which must be visible to
 * dlsym(RTLD_DEFAULT): in a preloaded or linked shared object, or in a program
 * linked with -rdynamic. It runs on the stream's thread and loops over blocks
 * and threads itself. A __device__ variable V is the host variable simv_V.
 *
 * The driver copies the arguments at the launch. It reads their sizes from
 * the mangled name; for a kernel whose name does not tell them (extern "C",
 * structures by value) SIMK_SIZES states them. Without either the launch
 * waits until the kernel has run. */
#ifndef BERTH_SIMK_H
#define BERTH_SIMK_H

#include <stddef.h>

struct simk_dim {
    unsigned x, y, z;
};

typedef void simk_function(struct simk_dim grid, struct simk_dim block, unsigned shared_bytes,
                           void **args);

/* SIMK_SIZES(_Z3addPfi, 8, 4) */
#define SIMK_SIZES(name, ...)                                                                      \
    extern const size_t simk_sizes_##name[];                                                       \
    const size_t simk_sizes_##name[] = {__VA_ARGS__, 0}

#endif
