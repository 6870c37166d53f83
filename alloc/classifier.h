/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The classifier: what a large block is, found out from how the program uses it.
 *
 * One classifier per side. It is told of every recorded block's birth and death, and of the steps
 * that the program declares. From time to time it judges all blocks that are alive:
 *
 *  the boundary   the birth behind which the steps begin: the first berth_step(), or else where the
 *                 births of blocks that stay end and those of blocks that go begin.
 *  the family     of a block: the return address of the call that asked for it. The main family is
 *                 the one that makes most of what goes again: the program's tensor allocator, where
 *                 it has one.
 *  a key          family, size and site: blocks of one key are taken to serve one purpose.
 *  a look         a few words of a block's content, compared to those of the look before.
 *  a fill         a copy from host memory into a block, told by the side where content is out of
 *                 reach.
 *
 * A block's class only gains certainty: unknown, guessed (at birth, from its key), tentative (one
 * judgement), firm (two that saw the same phase), final. So it changes at most
 * BERTH_CLASS_CHANGES_MAX times in the block's life; and what it was taken for once, and then was
 * not, it is never taken for again.
 *
 * Synchronisation: births and deaths are lock-free and may come from any thread; counters of keys
 * are relaxed atomics, and hints. One thread judges at a time, the others pass by. The number of a
 * block that dies while it is being judged is held back until the judgement is over, so that no
 * look and no verdict reaches the block after it (alloc/classifier_parts.h). Memory is mapped and
 * bounded by twice the blocks that ever lived together; nothing is ever given back. In a forked
 * child it goes on with what its parent knew.
 */
#ifndef BERTH_ALLOC_CLASSIFIER_H
#define BERTH_ALLOC_CLASSIFIER_H

#include "alloc/types.h"

#include <stdbool.h>

enum berth_class_level {
    BERTH_CLASS_UNKNOWN,
    BERTH_CLASS_GUESSED,
    BERTH_CLASS_TENTATIVE,
    BERTH_CLASS_FIRM,
    BERTH_CLASS_FINAL,
    BERTH_CLASS_LEVELS
};

#define BERTH_CLASS_CHANGES_MAX ((unsigned)BERTH_CLASS_LEVELS - 1)

/* The words of a block's content that one look reads, spread over the block. */
#define BERTH_LOOK_WORDS 64

/* A stretch of memory whose reads are watched, and what came of it. */
struct berth_watched {
    uintptr_t from, to; /* whole OS pages */
    uint64_t read;      /* bytes, in OS pages at least; BERTH_READ_UNKNOWN: it cannot be told */
    bool is_shared;     /* of a file, when it was last looked at: of memory that others may map */
};
#define BERTH_READ_UNKNOWN UINT64_MAX
#define BERTH_WATCH_PAGE 4096u /* the smallest OS page there is */

/*
 * What the classifier asks of the side that it serves; set before the first birth. Called by the
 * thread that judges, for blocks that may be freed meanwhile by another.
 */
struct berth_classifier_ops {
    /* Reads the words at these offsets of the block; false where that cannot be done safely. NULL:
     * the content is out of reach, as on a device. */
    bool (*look)(uintptr_t address, const size_t offsets[BERTH_LOOK_WORDS],
                 uint64_t words[BERTH_LOOK_WORDS]);
    /* Notes from now on which of these stretches' pages are read, by anybody; they are sorted, and
     * none overlaps another. false: not here. NULL: it cannot be known. */
    bool (*watch)(const struct berth_watched *stretches, unsigned count);
    /* What was read so far, by now at least. */
    void (*peek)(struct berth_watched *stretches, unsigned count);
    /* What was read since; ends it. The blocks may have been freed meanwhile. */
    void (*watched)(struct berth_watched *stretches, unsigned count);
    /* Gives the live block another tag by the classifier's word, unless the block is gone. */
    void (*retag)(uintptr_t address, size_t held, uint32_t number, enum berth_tag tag);
    /* How much the program has worked so far, in nanoseconds of its threads' time. NULL: what it
     * has written is looked at where it has made something since, and not else. */
    uint64_t (*worked)(void);
    /* The side tells of every fill that it sees, and has no look. */
    bool tells_fills;
};

struct berth_class_birth {
    uintptr_t address;
    size_t size; /* requested */
    size_t held;
    const void *caller; /* the return address of the program's call */
    berth_site_id site; /* 0 = not captured */
    enum berth_tag tag; /* what it was given at birth */
    enum berth_tag_source tagged_by;
    enum berth_tag noted; /* what the program said, where that is not heeded; for the debug log */
};

struct berth_classifier;

/* BERTH_SIDE_HOST's or BERTH_SIDE_DEVICE's; both preload libraries see the same two. */
struct berth_classifier *berth__classifier(enum berth_side side);

/*
 * Puts the side's classifier to work; without this it knows nothing and costs nothing. Once, before
 * threads exist.
 */
void berth__classifier_start(enum berth_side side, const struct berth_classifier_ops *ops);
bool berth__classifier_is_on(const struct berth_classifier *classifier);

/* The tag of a block to be, from its key; untagged when nothing speaks for one. */
enum berth_tag berth__classifier_guess(struct berth_classifier *classifier, size_t size,
                                       const void *caller, berth_site_id site);

/*
 * A block was handed out: the number under which it is known, or 0 where there is no memory. Blocks
 * that the program or a policy has tagged are followed, because they tell phases, and never judged.
 */
uint32_t berth__classifier_born(struct berth_classifier *classifier,
                                const struct berth_class_birth *birth);
/* It is being freed; 0 is no block. */
void berth__classifier_died(struct berth_classifier *classifier, uint32_t number);
/* It has another size where it lies. */
void berth__classifier_resized(struct berth_classifier *classifier, uint32_t number, size_t size,
                               size_t held);

/* `size` bytes were copied from host memory into it, from byte `offset` on. */
void berth__classifier_filled(struct berth_classifier *classifier, uint32_t number, uint64_t offset,
                              uint64_t size);

/* The program declares a step, on both sides. */
void berth__classifier_step(void);

/* Judges if that is due: after a birth, with nothing held. */
void berth__classifier_tend(struct berth_classifier *classifier);
/* Judges now, on both sides, if anything was done since, because somebody asks. */
void berth__classifier_refresh(void);

/* What is thought of a block, and why. */
struct berth_class_view {
    enum berth_tag tag;
    enum berth_class_level level;
    unsigned changes; /* how often its tag changed */
    size_t size;
    enum berth_tag told;  /* the tag that it was born with */
    enum berth_tag noted; /* as at its birth */
};

/* Room for any reason. */
#define BERTH_CLASS_WHY_MAX 160

/* False for a number that is no live block's. `why` gets a clause for people. */
bool berth__classifier_view(struct berth_classifier *classifier, uint32_t number,
                            struct berth_class_view *ret, char *why, size_t why_size);

/* "unknown", "guessed", "tentative", "firm", "final". */
const char *berth__class_level_name(enum berth_class_level level);

#endif
