/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control of an arena: what jemalloc can be told to do with one of its arenas, and asked of it.
 *
 * `arena` is jemalloc's number. jemalloc takes locks of its own in each of these, so the caller
 * holds none that they may wait for. Any thread.
 */
#ifndef BERTH_PMEM_ARENA_CONTROL_H
#define BERTH_PMEM_ARENA_CONTROL_H

#include "pmem/jemalloc.h"

#include <stdbool.h>
#include <stdint.h>

/* Before the first arena is made. */
void berth__arena_control_start(void);

/* Whether the program or its user (MALLOC_CONF) wants blocks filled as they come or go: with zeros
 * or with junk. Fixed by then. */
bool berth__arena_control_fills(void);

/* A new arena whose memory comes by these hooks. 0 or -ENOMEM: there is no memory, or there are
 * 4095 of them. */
int berth__arena_control_make(extent_hooks_t *hooks, unsigned *ret_arena);

/* Gives back all that it keeps free; what it has kept for long enough. */
void berth__arena_control_purge(unsigned arena);
void berth__arena_control_decay(unsigned arena);

/*
 * The first of these for jemalloc's own arenas: they last as long as the process. jemalloc's name
 * for all arenas ("arena.4096.purge") is none to use: it notes which there are and goes through
 * them without a lock, and one that is destroyed meanwhile has no memory any more. Those that the
 * program has made it may destroy whenever it likes; and their hooks are the program's.
 */
void berth__arena_control_purge_own(void);

/* How long it keeps what is free, and other sizes, by jemalloc's names ("dirty_decay_ms"). */
void berth__arena_control_set_decay(unsigned arena, const char *which, int64_t decay_ms);
void berth__arena_control_set(unsigned arena, const char *which, size_t value);

/*
 * Has a new arena, of which nobody knows yet, take so many addresses in advance; its oversize
 * threshold is lost. Not where jemalloc fills what it hands out or takes back: behind these
 * addresses there is nothing to fill.
 */
void berth__arena_control_take_addresses(unsigned arena, size_t size);

/* One of its statistics, by jemalloc's name, as of jemalloc's last epoch. */
uint64_t berth__arena_control_read(unsigned arena, const char *what);

#endif
