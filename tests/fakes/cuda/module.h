/* SPDX-License-Identifier: Apache-2.0 */
/* A module or library: a loaded image. Images are not looked into; their
 * kernels and variables are host symbols (simk.h). Synchronization: the state
 * lock. */
#ifndef BERTH_FAKE_MODULE_H
#define BERTH_FAKE_MODULE_H

#include "cuda_abi.h"
#include "simk.h"

#include <stdbool.h>

struct kernel {
    struct kernel *next; /* in its module's list */
    struct module *module;
    char *name;
    simk_function *function;
    size_t *sizes; /* of the arguments; NULL: not known */
    size_t sizes_count;
    int shared_max; /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
};

/* CUfunction and CUkernel are the same thing here, as the driver allows for a
 * launch. NULL for a value that is neither. */
struct kernel *kernel_get(const void *handle);

/* The sizes of a function's arguments, from its mangled name. False where the
 * name does not tell them all. The caller frees *ret_sizes. */
bool kernel_name_sizes(const char *name, size_t **ret_sizes, size_t *ret_count);

#endif
