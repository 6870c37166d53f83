/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps: what lives in a pool rises and falls. A step ends when it has fallen to about where the
 * last one ended.
 *
 * Where large blocks have segments alone (alloc/pool_alone.h), a program whose steps differ in
 * nothing asks the driver for the same segments again and again. So the large blocks of each step
 * are counted and sketched (alloc/sketch.h); once as many steps as were sketched have come again in
 * just the same order, the height of the sketch is what one segment for all of them needs. Unless
 * that is too much, it is asked for, in place of all idle ones: the *joint segment*. Large blocks
 * are then cut from it as they were in the sketch, and the driver is left alone. When the program
 * turns to something else, the joint segment goes back as soon as nothing lives in it. If it is too
 * much, or the order changes, blocks of all sizes may do with one segment: see pool_settle.h.
 *
 * Synchronization: the pool's lock.
 */
#ifndef BERTH_ALLOC_POOL_STEP_H
#define BERTH_ALLOC_POOL_STEP_H

#include "alloc/sketch.h"

/* How many steps are remembered; half as many may be what comes again. */
#define BERTH_STEPS_MAX 256

/*
 * Steps are looked at in two ways: all of them, and only those that end where nearly nothing lives,
 * which are as long as a program's whole run where it is one of many in a process.
 */
#define BERTH_STEP_LEVELS 2

struct berth_rhythm {
    bool has_ended;                   /* this step, as far as it is counted */
    uint64_t hash;                    /* of the large blocks of this step as they came and went */
    uint64_t asked;                   /* how often the driver was asked for one */
    uint64_t quiet;                   /* the last steps in which it was not */
    uint64_t count;                   /* of all steps */
    uint64_t first;                   /* of those in the sketch */
    uint64_t sketch_max;              /* steps that it may take before it is begun anew */
    uint32_t turn;                    /* of sketches; segments remember theirs */
    uint64_t hashes[BERTH_STEPS_MAX]; /* by the number of the step */
    uint64_t period;                  /* what came again, in steps */
    uint64_t tries;  /* how many of its ends are still to be tried for a joint segment... */
    uint64_t height; /* ...of that size */
    struct berth_sketch sketch;
    uint64_t others_max;         /* the most that was reserved for others while it was sketched */
    struct berth_block *in_gaps; /* of the sketch: those whose blocks have no segment alone */
};

struct berth_steps {
    uint64_t high, low;  /* of what lives: in this step, and since it falls */
    uint64_t low_before; /* of the last step */
    uint64_t live, most; /* bytes of large blocks; the most so far */
    bool is_falling;
    bool is_due;         /* berth__step_act() has something to do */
    unsigned level;      /* whose steps the joint segment is for */
    uint64_t joint_size; /* what is to be asked for; 0: nothing */
    struct berth_rhythm rhythms[BERTH_STEP_LEVELS];
};

struct berth_pool;

/* A context's pool begins. */
void berth__step_begin(struct berth_pool *pool);
/* With the lock held: a segment alone was asked for. */
void berth__step_ask(struct berth_pool *pool);
/* With the lock held: a large block has become the program's, or is about to be nobody's. */
void berth__step_enter(struct berth_pool *pool, struct berth_block *block);
void berth__step_leave(struct berth_pool *pool, struct berth_block *block);
/* Without it, in the pool's context, while nothing is captured: changes the joint segment if that
 * is due.
 */
void berth__step_act(struct berth_pool *pool);

#endif
