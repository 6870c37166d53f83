/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the definitions of wrappers have in common. A wrapper that the program reached by linking,
 * while no driver is loaded, answers as an uninitialised one would.
 */
#ifndef BERTH_HOOKS_CUDA_DRIVER_EXPORT_H
#define BERTH_HOOKS_CUDA_DRIVER_EXPORT_H

#include "hooks/cuda_driver.h"
#include "hooks/real.h"

/*
 * Exports berth__hook_<name>, defined in this file, under the driver's name. Weak, because where
 * its calls are counted (alloc/entry_path.h) the entry that counts has that name.
 */
#define EXPORT(name)                                                                               \
    BERTH_EXPORT extern __typeof__(berth__hook_##name) name                                        \
        __attribute__((weak, alias("berth__hook_" #name)))

/*
 * No allocation of any kind lies in the first OS page: what the driver answers about this address
 * is its answer about memory that it does not know.
 */
#define BERTH_NO_ADDRESS ((berth_cu_address)1)

/* Leaves a wrapper when the driver, or this function of it, is not there. */
#define NEED(name)                                                                                 \
    do {                                                                                           \
        if (!berth__real_ready())                                                                  \
            return BERTH_CU_NOT_INITIALIZED;                                                       \
        if (BERTH_UNLIKELY(!berth__driver.name))                                                   \
            return BERTH_CU_NOT_FOUND;                                                             \
    } while (0)

#endif
