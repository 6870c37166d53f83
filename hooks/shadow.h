/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadows: a program's own functions and variables that have the names of functions which a
 * library calls. The loader looks in the program first, so that a preloaded library gets a
 * program's stat(), which may be an array. The C library itself calls its own by other names.
 *
 * The preload libraries' imports are bound again while they are relocated: to what they would be
 * had the program no such symbol. Other libraries keep their turn (wrappers that were preloaded on
 * purpose), except for locks and clocks, which are the C library's: a wrapper that allocates would
 * wait for the very heap that called it. A program that contains a sanitizer's runtime has its turn,
 * too: it must see all calls. malloc() and its like are the program's where it has them, as for the
 * C library, whose strdup() calls them, too.
 */
#ifndef BERTH_HOOKS_SHADOW_H
#define BERTH_HOOKS_SHADOW_H

/* The same for a library that dlopen() has given for Berth's own use, before its first call. */
void berth__shadow_lift(void *library);

#endif
