/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moving a live block from tier to tier: its contents go, its address stays.
 *
 * Between nodes (dram, numa) the kernel moves the pages itself. Else the contents are copied to new
 * memory, which is then put in the block's place by one mremap(): a thread that touches the block
 * meanwhile waits in the kernel for the mapping to change, and finds either. So that nothing is
 * written between the copy and the swap, writers are held back by userfaultfd (uffd.h), in one of
 * two ways:
 *
 *   - ordinary memory, Linux 6.8 and later: the contents are copied while the program runs on. Then
 *     all pages are taken out of the block, so that whoever touches it waits; the kernel refuses
 *     that for a page which a device or I/O holds. What has changed since the copy is copied again.
 *   - tmpfs, and older kernels: writers are held back page by page and let go at once, and what
 *     they write is copied again, until little is left, for which they wait. Pages that a device
 *     or I/O holds cannot be seen this way: where the program has the means (pin_source.h), the
 *     block stays. That no driver holds any is the rule's word.
 *
 * Memory of a disk's file or a device can only be left while no thread writes to it: a *quiet*
 * move, by the program's word (berth_step_quiescent()).
 *
 * Any failure leaves the block as it was. One mover at a time in a process.
 */
#ifndef BERTH_PMEM_MOVE_H
#define BERTH_PMEM_MOVE_H

#include "alloc/move_door.h"
#include "pmem/move_side.h"
#include "pmem/uffd.h"

#include <sys/types.h>

/* What one block's move came to; the words are alloc/move_door.h's. */
struct berth_mover {
    bool quiet;                   /* nobody writes: nobody is held back */
    pid_t thread;                 /* the mover itself, which has the program's descriptors */
    struct berth_move_side *side; /* where writers are held back from; NULL: the mover itself */
    /* Kept open from block to block, or NULL: the kernel looks at all mappings when it is closed.
     * It is the side's, if there is one; fd is -1 before the first block that needs it. */
    struct berth_uffd *kept;
    /* Looked at now and then: true ends the move that is under way, with -ECANCELED. */
    bool (*is_cancelled)(void *context);
    void *context;
    _Atomic uint64_t *copied; /* of the block that is on its way, or NULL; others may read it */
    struct berth_mover_look { /* the last one for I/O that has no descriptor; see move_live.c */
        int64_t end_ns, took_ns;
        const char *found; /* NULL: none */
    } look;
    uint32_t rule; /* whose place the tier is; BERTH_RULE_NONE: somebody's who asked */
    uint64_t version;
    char why[BERTH_UFFD_WHY_MAX]; /* a detail of the last refusal, or "" */
};

/*
 * One mover at a time: waits for another one to end, or, without `wait`, says false. Between begin
 * and end, berth__move_block() may be called.
 */
bool berth__move_begin(bool wait);
void berth__move_end(void);

/* Moves the block at `p`, which may be gone by now, to the tier. */
enum berth_move_result berth__move_block(struct berth_mover *mover, void *p, berth_tier_id to);

/*
 * Around a fork, from the time that tiers are copied for the child until it has them: no block is
 * swapped. In the child, the block that was on its way is where it was.
 *
 * A mover may wait for a thread that a signal has stopped amid a call, by who waits until the
 * thread that forks has had that signal, too: this one must not wait with signals blocked, and so
 * tries. Who holds swaps back has no signals meanwhile, the movers themselves included.
 */
bool berth__move_try_hold(void);
void berth__move_hold_for_fork(void);
void berth__move_after_fork(bool child);

#endif
