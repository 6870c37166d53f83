/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tiers of kind shared: which piece of whose segment each borrows, and whether it is there.
 *
 * A policy makes the tier, and says whom to ask; asking, mapping and unmapping are the control
 * thread's, which does it when the policy comes into force, when the driver is initialised, when a
 * block found the tier empty (once a second at most), and when a client of the socket says so. The
 * program's threads only find the tier empty until then. What a leased or brokered segment would
 * need beside this (who may have it for how long, being asked to give it back) is for whoever
 * answers shared.open and sends shared.detach: here a source is just a socket.
 *
 * Functions are for the control thread unless they say otherwise.
 */
#ifndef BERTH_IPC_SHARED_TIER_H
#define BERTH_IPC_SHARED_TIER_H

#include "alloc/types.h"
#include "ipc/failure.h"

#include <stdbool.h>
#include <sys/types.h>

/* Lets policies have tiers of this kind. Bootstrap only. */
void berth__shared_tier_register(void);

/* What to borrow; NULL, or UINT64_MAX, where the policy's word counts. */
struct berth_shared_source {
    const char *from;
    const char *segment;
    uint64_t offset, size;
};

/*
 * Attaches the tier of this name: blocks are cut from the piece when this returns 0. -ENOMEM, or
 * -EINVAL after saying why in `failure`; the tier is then as it was.
 */
int berth__shared_tier_attach(const char *tier, const struct berth_shared_source *source,
                              struct berth_failure *failure);

/*
 * Detaches it, unless blocks live in it. It then stays empty until it is attached, or a policy is
 * applied again.
 */
int berth__shared_tier_detach(const char *tier, struct berth_failure *failure);

/* All tiers that a policy wants attached are to be tried again by the next run. */
void berth__shared_tier_want(void);
/* Attaches what is wanted, and looks whether those who lend by legacy IPC still live. */
void berth__shared_tier_run(void);
/* Whether there are such. */
bool berth__shared_tier_watches(void);

/* A block found the tier empty. Any thread, no lock held; costs a clock's reading. */
void berth__shared_tier_missed(berth_tier_id id);

/*
 * After cuInit, in the thread that called it: waits until what the policy wants was tried once, at
 * most BERTH_SHARED_AWAIT_MS. Returns at once without such a policy or a control thread.
 */
#define BERTH_SHARED_AWAIT_MS 2000
void berth__shared_tier_await(void);

enum berth_shared_state { BERTH_SHARED_EMPTY, BERTH_SHARED_ATTACHED, BERTH_SHARED_LOST };

/* A tier as it is now; strings live until the next call that changes it. */
struct berth_shared_view {
    enum berth_shared_state state;
    const char *tier;
    const char *from, *segment; /* of the loan, else of the policy; from "" = nobody */
    const char *why;            /* why it is empty; "" if nothing was tried */
    uint64_t offset, size;      /* size 0: up to the segment's end */
    pid_t keeper;               /* the process that keeps the segment; 0 unless attached or lost */
    bool is_legacy;
    bool keeper_lives;
};

/* -ENOENT when that tier is of another kind. */
int berth__shared_tier_view(berth_tier_id id, struct berth_shared_view *ret);

#endif
