/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tagged memory: what the runtime allocates so that Berth can place it. Each call
 * is one allocation, made while its tag is on top of the thread's tag stack, so
 * that a rule which names the tag (and a smallest size) applies to it whole.
 */
#ifndef BERTH_INFER_MEMORY_H
#define BERTH_INFER_MEMORY_H

#include "alloc/berth.h"

#include <stddef.h>
#include <stdint.h>

/* One cache line, which is also the widest vector. */
#define BERTH_MEMORY_ALIGN ((size_t)64)

/* At least one byte; not zeroed. NULL with errno ENOMEM on failure. */
void *berth__memory_alloc(enum berth_tag tag, size_t size_bytes);

/* The same tag and size as at the allocation; NULL is nothing to free. */
void berth__memory_free(enum berth_tag tag, void *memory, size_t size_bytes);

/* Counts memory that is there already, and belongs to somebody else; and uncounts it. */
void berth__memory_lend(enum berth_tag tag, size_t size_bytes);
void berth__memory_return(enum berth_tag tag, size_t size_bytes);

/* Bytes that this process has asked for under the tag, less those released. */
uint64_t berth__memory_held(enum berth_tag tag);

#endif
