/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sanitizers in shared libraries (libasan, libtsan, liblsan, libhwasan). Each is an allocator that
 * must come before any other: behind Berth's malloc the program crashes while it is loaded, and
 * AddressSanitizer ends it behind any preloaded library.
 */
#ifndef BERTH_HOOKS_SANITIZER_H
#define BERTH_HOOKS_SANITIZER_H

#include "hooks/anew.h"

/*
 * Starts the program anew where a sanitizer in it cannot have `least` or more of what is preloaded;
 * comes back otherwise. For early.c.
 */
void berth__sanitizer_evade(enum berth_anew_without least);

#endif
