/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The composition root: connects the rooms when a preload library is loaded.
 *
 * bootstrap.c is compiled once into each preload library, for the side that it serves. What both
 * sides need (log, options) is set up by whichever comes first; the policy is installed by the
 * malloc side when it is there, because it brings the host tiers that a policy may name.
 */
#ifndef BERTH_HOOKS_BOOTSTRAP_H
#define BERTH_HOOKS_BOOTSTRAP_H

#include "alloc/types.h"

/*
 * Starts the malloc side; exported so that libberth.so, whose constructor may run first, can have
 * it done before its own. Idempotent. Runs before threads exist.
 */
BERTH_EXPORT void berth__bootstrap_malloc(void);

/*
 * Makes tiers of kind device known; exported by libberth.so, so that the malloc side can have it
 * done before it installs a policy that names them.
 */
BERTH_EXPORT void berth__bootstrap_device(void);

#endif
