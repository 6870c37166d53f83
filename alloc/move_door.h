/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where moves of host blocks are asked for: set by the preload library that has the host side
 * (pmem/move_job.h) before its first block exists, NULL while there is none. So the control thread,
 * which may be in the other library, reaches it.
 */
#ifndef BERTH_ALLOC_MOVE_DOOR_H
#define BERTH_ALLOC_MOVE_DOOR_H

#include "alloc/types.h"

#include <stdbool.h>

/* X(identifier, "code", "what people read") */
#define BERTH_MOVE_RESULTS(X)                                                                      \
    X(MOVED, "moved", "moved")                                                                     \
    X(THERE, "there", "they are there already")                                                    \
    X(GONE, "gone", "they were freed or resized meanwhile")                                        \
    X(NO_PLACE, "no-place", "no rule of the policy in force wants them elsewhere")                 \
    X(RULE, "not-movable", "the rule that decides about them does not say movable = yes")          \
    X(NO_ROOM, "no-room", "the tier has no room for them")                                         \
    X(KIND, "kind",                                                                                \
      "blocks that move cannot be in a tier of this kind, or of reserved huge pages")              \
    X(KERNEL, "kernel", "this kernel cannot move them while the program runs")                     \
    X(PRIVILEGE, "privilege", "this user may not move them while the program runs")                \
    X(QUIET, "quiescence",                                                                         \
      "they can only move while the program writes to none: berth_step_quiescent()")               \
    X(PINNED, "pinned", "they are pinned, by I/O under way or a driver")                           \
    X(LOCKED, "locked", "the program has locked them in memory (mlock)")                           \
    X(MAPPING, "mapping", "the program has changed their mapping (mprotect, mmap)")                \
    X(SHARED, "shared", "a forked child may have them mapped (fork = share)")                      \
    X(WATCHED, "watched", "their writes are being watched already")                                \
    X(TRACED, "traced", "a debugger or tracer follows the program, and could wait for the move")   \
    X(WAITED, "waited",                                                                            \
      "a thread waits there for another one to end, or by a lock that processes may share")        \
    X(ALIGNMENT, "alignment", "the device maps only larger pieces")                                \
    X(BUSY, "busy", "the program writes to them faster than they are copied, or resizes them")     \
    X(CANCELLED, "cancelled", "the move was cancelled before their turn")                          \
    X(SYSTEM, "system", "a system call failed")

#define BERTH_MOVE_RESULT_ID(id, code, text) BERTH_MOVE_##id,
enum berth_move_result { BERTH_MOVE_RESULTS(BERTH_MOVE_RESULT_ID) BERTH_MOVE_RESULT_COUNT };

struct berth_move_result_info {
    const char *code, *text;
};
extern const struct berth_move_result_info berth__move_result_info[BERTH_MOVE_RESULT_COUNT];

/* What to move, and where to. */
struct berth_move_order {
    unsigned tags;      /* bit per tag; 0 = all */
    berth_tier_id from; /* BERTH_TIER_NONE = wherever they are */
    berth_tier_id to;   /* BERTH_TIER_NONE = where the policy in force wants each */
    uint64_t max_bytes; /* stop when so much was moved; 0 = no limit */
};

struct berth_move_count {
    uint64_t blocks, bytes;
};

/* How a job stands. */
struct berth_move_state {
    uint64_t job; /* its number, from 1; 0 = there was none yet */
    bool is_running;
    bool waits_for_quiet;          /* what is left moves at berth_step_quiescent() */
    struct berth_move_count total; /* what it has to look at */
    struct berth_move_count done;  /* what it has looked at; total, when it has ended */
    uint64_t copied;               /* bytes of the block that is on its way */
    struct berth_move_count result[BERTH_MOVE_RESULT_COUNT];
    struct berth_move_count into[BERTH_TIER_MAX]; /* moved to each tier */
    struct berth_move_count out_of[BERTH_TIER_MAX];
    uint64_t too_small; /* blocks of less than an OS page, which do not move: since the start */
    char why[192];      /* a detail of the last refusal, or "" */
};

/*
 * All may be called from any thread. `start` takes the order in hand, and says -EBUSY while another
 * job runs, or -EPERM in a program that has limited its own system calls (alloc/sandbox.h); `run`
 * then does the work, on the thread that calls it, and where the program could close a descriptor
 * of it, on one that `leave` gives a table of its own (NULL: nobody does).
 * `probe` says whether this kernel lets this process move live blocks: 0, or negative errno with
 * one sentence in `why`; *ret_sees_pins, whether pinned pages are seen.
 */
struct berth_move_door {
    int (*start)(const struct berth_move_order *order, uint64_t *ret_job);
    void (*run)(int (*leave)(char *why, size_t why_size));
    void (*cancel)(void);
    void (*read)(struct berth_move_state *ret);
    int (*probe)(bool *ret_sees_pins, char *why, size_t why_size);
    /* At a quiescent step: moves what waits for it. How many blocks moved. */
    int (*quiet)(void);
};

extern BERTH_SHARED const struct berth_move_door *berth__move_door;

/* berth_step_quiescent() itself, under a name that the program cannot interpose. */
int berth__step_quiescent(void);

#endif
