/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device pool's connection to the classifier (alloc/classifier.h). It follows blocks of at
 * least record-threshold bytes, stream-ordered ones too, tells who filled them from the host, and
 * is never shown their content. With the option classifier = off all of this is one branch. What is
 * borrowed from a shared pool is followed as well: what another process has filled is not known to
 * be filled.
 *
 * Synchronisation: a block's tag changes under a lock of its own, which who takes the block off the
 * account passes first: so each is counted off as what it was counted as. Nothing is locked after
 * it.
 */
#ifndef BERTH_ALLOC_POOL_CLASS_H
#define BERTH_ALLOC_POOL_CLASS_H

#include "alloc/block.h"
#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/thread.h"

/* Written before threads exist. */
extern bool berth__pool_class_on;

/* Bootstrap only: by the option. */
void berth__pool_class_start(void);

enum berth_tag berth__pool_class_told_slowly(void);
/* The thread's tag, as far as it is heeded. */
static inline enum berth_tag berth__pool_class_told(void)
{
    return BERTH_UNLIKELY(berth__pool_class_on) ? berth__pool_class_told_slowly()
                                                : berth__tag_current();
}

static inline bool berth__pool_class_follows(uint64_t size)
{
    return BERTH_UNLIKELY(berth__pool_class_on) &&
           size >= berth__option(BERTH_OPTION_RECORD_THRESHOLD);
}

/* The tag of a block to be, where nobody else tags it. */
enum berth_tag berth__pool_class_guess(uint64_t size, const void *caller, berth_site_id site);
void berth__pool_class_tend_slowly(void);
/* After a block was handed out, with nothing held: judges if that is due. */
static inline void berth__pool_class_tend(void)
{
    if (BERTH_UNLIKELY(berth__pool_class_on))
        berth__pool_class_tend_slowly();
}

/* The block is about to be LIVE. */
void berth__pool_class_enter(struct berth_block *block, const struct berth_pool_request *request);
void berth__pool_class_leave_slowly(_Atomic uint32_t *class_number);

/* Before what is counted of the block is read in order to count it off. */
static inline void berth__pool_class_leave(struct berth_block *block)
{
    if (BERTH_UNLIKELY(atomic_load_explicit(&block->class_number, memory_order_relaxed) != 0))
        berth__pool_class_leave_slowly(&block->class_number);
}

/* Around what reads a live block's tag in order to count it. */
void berth__pool_class_lock(void);
void berth__pool_class_unlock(void);

/* `size` bytes at `address` were, or are soon, copied from host memory; any address. */
void berth__pool_class_filled(uintptr_t address, uint64_t size);
/* Whether the address is in a live block that is followed. */
bool berth__pool_class_has(uintptr_t address);

#endif
