/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that the program made itself and names by a handle: physical memory of its own virtual
 * memory management (cuMemCreate), and arrays.
 *
 * It is in the account from the call that made it until nothing refers to it any more: for physical
 * memory all references and all mappings, in whatever order they go; for an array the call that
 * destroys it, or its context. What was imported from another process is that process's, and what
 * cannot be recorded for want of host memory is not accounted. The program never notices.
 *
 * A handle may be somebody else's as soon as the driver has taken it back. So what ends something
 * is in three parts: begin, before the driver is asked; then end, or undo where it refused.
 *
 * All functions may be called from any thread; their lock ranks like a pool's.
 */
#ifndef BERTH_ALLOC_POOL_HANDLE_H
#define BERTH_ALLOC_POOL_HANDLE_H

#include "alloc/types.h"

#include <stdbool.h>

enum berth_handle_kind { BERTH_HANDLE_MEMORY, BERTH_HANDLE_ARRAY, BERTH_HANDLE_KINDS };

/* Something to account; its bytes are reserved in the tier (berth__foreign_reserve()). */
struct berth_handle {
    enum berth_handle_kind kind;
    uint64_t value;
    uint64_t size;
    berth_tier_id tier;
    enum berth_tag tag;
    const void *context; /* whose destruction ends it; NULL when it outlives contexts */
};

void berth__handle_add(const struct berth_handle *handle);

/* What berth__handle_begin() took; the caller keeps it. */
struct berth_handle_end {
    enum berth_handle_kind kind;
    uint64_t value;
    struct berth_handle_node *node; /* NULL: not in the account */
};

/* One reference to a handle goes. */
void berth__handle_begin(enum berth_handle_kind kind, uint64_t value, struct berth_handle_end *ret);
void berth__handle_end(const struct berth_handle_end *end);
void berth__handle_undo(const struct berth_handle_end *end);

/* The program has mapped the memory, and has asked for its handle by an address. */
void berth__handle_map(uint64_t value, uintptr_t address, uint64_t size);
void berth__handle_retained(uint64_t value, uintptr_t address);

/* All mappings that begin in [address, address + size) go. */
void berth__handle_unmap_begin(uintptr_t address, uint64_t size);
void berth__handle_unmap_end(uintptr_t address, uint64_t size);
void berth__handle_unmap_undo(uintptr_t address, uint64_t size);

/* The context was destroyed. */
void berth__handle_drop(const void *context);

/* In a forked child: nothing is recorded any more. */
void berth__handle_disable(void);

#endif
