/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The originals of what libberth.so replaces: the driver's own functions.
 *
 * The driver is looked for only once the program itself has loaded it. Its own symbol table says
 * where its functions are. A program that opened it, and may close it, asks dlsym for them: then
 * Berth opens it too (RTLD_NOLOAD), because it keeps the addresses.
 */
#ifndef BERTH_HOOKS_REAL_H
#define BERTH_HOOKS_REAL_H

#include "alloc/device.h"

#include <stdbool.h>

/*
 * Binds the driver's functions if the program has loaded the driver, without the loader's lock: the
 * caller may be a thread for which a constructor waits. True once they are bound. Cheap then.
 */
bool berth__real_bind(void);

/*
 * Keeps the driver loaded, and binds one under an unusual file name. `address` is what the loader
 * gave for a driver's name. Takes the loader's lock, as the look-up did that it follows.
 */
void berth__real_keep(const void *address);

/* Raised, with release order, once berth__driver is complete. */
extern _Atomic bool berth__real_is_bound;

static inline bool berth__real_ready(void)
{
    return BERTH_LIKELY(atomic_load_explicit(&berth__real_is_bound, memory_order_acquire)) ||
           berth__real_bind();
}

#endif
