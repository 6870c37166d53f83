/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The classifier's own records; for alloc/classifier*.c alone.
 */
#ifndef BERTH_ALLOC_CLASSIFIER_PARTS_H
#define BERTH_ALLOC_CLASSIFIER_PARTS_H

#include "alloc/classifier.h"

#include <stdatomic.h>

/* Why a block has its class; the texts are classifier_why.c's. */
enum berth_class_reason {
    BERTH_REASON_NONE,
    BERTH_REASON_READ_ONLY,   /* old, not written since the boundary */
    BERTH_REASON_QUIET,       /* the same, where no steps were seen */
    BERTH_REASON_TRAINED,     /* old, rewritten, with gradients */
    BERTH_REASON_REUSED,      /* lives across steps, rewritten in place */
    BERTH_REASON_APPENDED,    /* lives across steps, written piece by piece */
    BERTH_REASON_KEPT,        /* made in a step, lives across steps, not full */
    BERTH_REASON_GROWING,     /* replaced by larger ones step by step */
    BERTH_REASON_COLLECTED,   /* each step adds one, none goes */
    BERTH_REASON_LATE,        /* made after the boundary, never written since */
    BERTH_REASON_DERIVED,     /* the same, with the signs of a weight's numbers */
    BERTH_REASON_FOLLOWING,   /* with these signs, too, and changed by little, as what is trained */
    BERTH_REASON_TWIN,        /* late, of a kind of which all are weights, and with such numbers */
    BERTH_REASON_STATE,       /* made in a step, rewritten, as large as a weight */
    BERTH_REASON_IN_STEP,     /* its key's blocks go within a step */
    BERTH_REASON_IN_OPERATOR, /* its key's blocks go before the next birth */
    BERTH_REASON_ELSEWHERE,   /* not of the family that the steps use */
    BERTH_REASON_REPEATED,    /* its key's blocks had this class */
    BERTH_REASON_LOADED,      /* filled before the boundary, and not since */
    BERTH_REASON_LOADED_LATE, /* filled once, and steps ago */
    BERTH_REASON_LOADED_IDLE, /* filled once; no steps were seen */
    BERTH_REASON_REFILLED,    /* filled again and again */
    BERTH_REASON_DATA,        /* read only, and no number is below zero */
    BERTH_REASON_CONSTANT,    /* one number, everywhere */
    BERTH_REASON_MASK,        /* one number or zero, everywhere */
    BERTH_REASON_ANGLES,      /* sines and cosines */
    BERTH_REASON_POINTERS,    /* addresses */
    BERTH_REASON_PARTS,       /* read only, and by parts */
    BERTH_REASON_LAST,        /* read only, scaled, and made last before the steps */
    BERTH_REASON_UNTRAINED,   /* read only, where all else is trained */
    BERTH_REASON_TOUCHED_UP,  /* old, and rewritten in places, by little */
    BERTH_REASON_WAVERING, /* what it had been taken for, and then was not, speaks for it again */
    BERTH_REASON_COUNT
};

/* Words are written once by who makes the family, `id` last. */
struct berth_class_family {
    _Atomic uintptr_t id; /* 0 = free */
    _Atomic uint64_t births;
};

/* Families beyond this share the record at 0: programs have as many as they have calls of malloc
 * that ask for large blocks. */
#define BERTH_CLASS_FAMILIES 1024u

/*
 * Hints: a key's record may be taken over by another key, and two threads may then both write; what
 * comes of it is one doubtful judgement.
 */
struct berth_class_key {
    _Atomic uint64_t id; /* a hash of the key; 0 = free */
    _Atomic uint64_t size;
    /* Births' numbers: of the newest, and, of those that died, the two that were born first; what
     * dies first may be younger, as an optimiser's scratch is than the gradients. 0 = none. */
    _Atomic uint64_t last_birth, first_dead, second_dead;
    _Atomic uint32_t family;
    _Atomic uint32_t births, deaths, instant; /* instant: died before the next birth */
    _Atomic uint64_t longest; /* births that one of its blocks has outlived, and then died */
    _Atomic uint32_t finals[BERTH_TAG_COUNT]; /* blocks that were judged for good */
    _Atomic uint8_t appended;                 /* one of its blocks was seen to be appended to */
};

/* Beyond this, the key that was not used for longest makes room. */
#define BERTH_CLASS_KEYS 65536u
#define BERTH_CLASS_KEY_PROBES 8u

/*
 * Fills are counted by parts: a foreign allocator's segment has weights beside an input that is
 * filled in each step, and neither must hide the other.
 */
#define BERTH_FILL_PARTS 32u
/* Filled so often, a part is filled in each step; before, it may have been filled anew once. */
#define BERTH_FILLS_AGAIN 3u

/*
 * A live block. Its owner, the thread that makes it, writes all of it before `address`; then the
 * atomics change, and the rest is the judge's alone.
 *
 * The judge lists the blocks that were born before it began, and works with no other. When one of
 * these dies, its number waits in a list of its own, and its record stays as it is; the judge frees
 * these numbers when it is done. So the judge may write to a record at any time, because the next
 * owner of it comes later, and it tells a block that died by `address` alone, which is 0 for good.
 * Neither waits for the other. Who else reads a record checks `birth` before and after.
 */
struct berth_class_block {
    _Atomic uintptr_t address; /* 0 = free, or held back */
    _Atomic uint64_t size, held;
    _Atomic uint64_t birth, family_birth, step;
    _Atomic uint64_t filled_at, filled_step; /* births and steps at the last fill */
    /* The same at the last fill of a part that is not filled again and again. */
    _Atomic uint64_t loaded_at, loaded_step;
    _Atomic uint64_t key;
    _Atomic uint32_t key_at, family;
    _Atomic uint32_t next_free;
    _Atomic uint8_t tag, told, noted, level, reason, changes;
    /* The judge's. */
    uint8_t had; /* a bit for each tag that the classifier has ever given it */
    uint8_t looks, compared, reads;
    uint8_t silent_rewrites; /* looks that saw it replaced, and nothing born since the one before */
    /* Of the judgements that saw steps, how many found that it was there before the first, and that
     * steps made it; and which of the two the last one found. */
    uint8_t found_old, found_young;
    bool is_young;
    bool is_derived;  /* its numbers have the signs of a weight's, of its size... */
    bool was_matched; /* ...which was looked for */
    bool is_positive; /* at the last look: numbers that differ, and none below zero */
    bool is_integers; /* and they are integers, of 32 or 64 bits */
    bool is_constant; /* all words are the same, and not zero */
    bool is_mask;     /* all numbers are zero or another one, and some are this, some that */
    bool is_wide;     /* the typical number is as large as inputs are, or the type is not known */
    bool is_small;    /* it is known, as small as weights are, and the others are near to it */
    int16_t typical;  /* the exponent of the typical number, where the type is known... */
    bool is_known;    /* ...which this tells */
    bool is_bytes;    /* wide, and bytes all over their range */
    bool is_scaled;   /* wide, and the typical number is 1/4 or more, as of what is scaled to 1 */
    bool is_last;     /* such numbers, and no weight was made behind it before the steps */
    bool is_listed;   /* such numbers, as those of many that were made before or behind it */
    bool is_thinned;  /* numbers were struck out one by one */
    bool is_angles;   /* sines and cosines of many angles */
    bool is_pointers; /* most words are addresses of a program's memory */
    bool was_filled;  /* at the last look: berth__class_is_filled() */
    bool is_slow;     /* and what was written since is less than pieces of a file would be */
    bool is_suspect;  /* at the last judgement: may be inputs, as far as the content tells */
    bool is_watched;  /* looks would be taken for reads */
    bool is_pieced;   /* some words, and not most of them, were once seen to change at once */
    uint8_t replacements; /* looks that saw most words change at once */
    /* Of all words that were seen to change, and were not zero before; of these, with another sign
     * or exponent. */
    uint16_t replaced_words, turned_words;
    uint16_t looked_round; /* the classifier's round, as far as it fits, at the last look */
    uint64_t known_at;     /* births when it was found for good to be a weight; 0 = it was not */
    uint64_t looked_at;    /* births and steps so far, mixed, so that progress is seen */
    uint64_t looked_size;  /* the block's at that time: other sizes are looked at in other places */
    uint64_t changed, rewritten;
    uint64_t set_words, negative_words; /* of the last look: are not zero; below it as numbers */
    uint64_t unchanged_to; /* `looked_at` at the look before that which saw its last change */
    union {
        uint16_t words[BERTH_LOOK_WORDS];
        /* Where the side tells fills, and has no look: the bytes that went to each part of the
         * block, in units of berth__class_fill_unit(), until no more fit. */
        _Atomic uint32_t fills[BERTH_FILL_PARTS];
    };
};

#define BERTH_CLASS_CHUNK 2048u
#define BERTH_CLASS_CHUNKS 2048u
/* Blocks beyond this (4 million of at least the record threshold) are not classified. */
#define BERTH_CLASS_BLOCKS (BERTH_CLASS_CHUNK * BERTH_CLASS_CHUNKS)

/* Equal blocks that lived together at the last judgement: caches that grow are seen by them. */
struct berth_class_group {
    uint64_t size;
    uint64_t difference; /* by which it grows; 0 = not known yet */
    uint32_t family, count, growths;
    uint32_t unseen; /* judgements since */
};
#define BERTH_CLASS_GROUPS 32u

/* A stretch of a block that is watched. */
struct berth_class_probe {
    uint64_t birth; /* of the block, so that one that has gone is told from its heir */
    uint32_t number;
    uint16_t kind;
    bool is_fine; /* of a few pages: it shows how much is read at one place */
};

/* Blocks of one size that look like inputs, and what was seen of how they are read. */
struct berth_class_suspects {
    uint64_t size;
    uint32_t blocks, watches;
    /* Of all watches: stretches of which a piece was read; fine ones that were read, or most. */
    uint32_t pieces, touched, filled;
    uint8_t reads;
    bool are_bytes;
};
#define BERTH_CLASS_SUSPECTS 8u
/* The parts of each kind; each has a fine stretch, and the rest. */
#define BERTH_CLASS_WATCH_PARTS 64u
#define BERTH_CLASS_PROBES (BERTH_CLASS_SUSPECTS * BERTH_CLASS_WATCH_PARTS * 2)

struct berth_class_watch {
    bool is_open;
    bool is_early;   /* begun before steps were seen */
    bool is_refused; /* the side could not: it is not asked again */
    uint32_t idle;   /* how often nothing was read of a kind; the next is longer for it */
    int process;     /* whose pages are watched: a child's are others */
    uint64_t births, steps;
    uint32_t kind_count, probe_count;
    struct berth_class_suspects kinds[BERTH_CLASS_SUSPECTS];
    struct berth_class_probe probes[BERTH_CLASS_PROBES];
    struct berth_watched stretches[BERTH_CLASS_PROBES]; /* of these probes, by address */
};

/* What growing caches will ask for next: read without a lock, as a hint. */
struct berth_class_growth {
    _Atomic uint64_t size, difference;
    _Atomic uint32_t family, growths;
};

struct berth_classifier {
    const struct berth_classifier_ops *_Atomic ops; /* NULL = off */
    _Atomic uint64_t births, fills, next_judgement;
    /* Who makes so large a block while no steps are seen is judged soon after it; 0 = nobody. */
    _Atomic uint64_t large_from;
    _Atomic uint64_t steps, first_step_birth, next_step;
    _Atomic uint64_t
        judged_at; /* for who asked; births and steps, as berth__class_now() has them */
    /* For who asks again though nothing was born: of the side's count of work, what there was when
     * the last one was answered, and what that took. */
    _Atomic uint64_t judged_work, judged_cost;
    _Atomic bool is_silent;     /* and no steps were seen then, or such as may be loading */
    _Atomic int judge;          /* the process whose thread judges; 0 = none */
    _Atomic uint64_t judged_to; /* births so far when the judgement that goes on began; 0 = none */
    _Atomic uint64_t free_head, held_head;
    _Atomic uint32_t block_count; /* ever made */
    _Atomic(struct berth_class_block *) chunks[BERTH_CLASS_CHUNKS];
    _Atomic(struct berth_class_family *) families;
    _Atomic(struct berth_class_key *) keys;
    _Atomic uint32_t *_Atomic used_keys; /* their places, in the order in which they were taken */
    _Atomic uint32_t used_key_count;
    /* The judge's. */
    uint64_t due_judgement; /* the births with which it judges whatever comes between */
    uint64_t last_boundary;
    uint64_t trained_bytes, idle_bytes; /* what the last judgement found that saw steps... */
    bool knows_training;                /* ...of which there was one */
    bool has_rewritten;  /* a block was seen to be rewritten again and again, and nothing born */
    uint16_t round;      /* judgements that were asked for though nothing was born */
    uint64_t pairs_left; /* of blocks that this judgement may yet look at for an original */
    uint32_t last_main, same_phase;
    struct berth_class_group groups[BERTH_CLASS_GROUPS];
    struct berth_class_growth growths[BERTH_CLASS_GROUPS];
    struct berth_class_watch watch;
    _Atomic uint32_t growth_count;
};

/* classifier_key.c */
bool berth__class_tables_make(struct berth_classifier *classifier);
uint32_t berth__class_family(struct berth_classifier *classifier, const void *caller);
uint64_t berth__class_key_id(uint32_t family, uint64_t size, berth_site_id site);
/* NULL when there is none; `make` takes one over. */
struct berth_class_key *berth__class_key(struct berth_classifier *classifier, uint64_t id,
                                         bool make);

/* classifier_block.c */
struct berth_class_block *berth__class_block(struct berth_classifier *classifier, uint32_t number);
uint32_t berth__class_block_take(struct berth_classifier *classifier);
/* Frees the number of a block whose `address` is 0, or holds it back from another. */
void berth__class_block_give(struct berth_classifier *classifier, uint32_t number, bool is_held);
/* By who judges: frees what is held back. */
void berth__class_block_give_held(struct berth_classifier *classifier);

/* The first judgement comes after so many births, and later ones at least so far apart: fewer tell
 * nothing of what repeats. */
#define BERTH_CLASS_JUDGEMENT_BIRTHS 8

/* A live block as the judge saw it. */
struct berth_class_seen {
    uint64_t birth, family_birth, size;
    uint32_t number, family;
};

/* What is known of blocks of one size. */
struct berth_class_size {
    uint64_t size;  /* 0 = free */
    uint32_t alive; /* that are there, whoever made them */
    /* Of the main family's that died, the births of the two that came first; 0 = none. */
    uint64_t dead[2];
    uint64_t oldest;   /* of these, the first one's birth */
    bool has_died;     /* one of the main family's, at any time */
    uint64_t known_at; /* of those that are there, the first one's */
    uint32_t old;      /* from before the steps... */
    uint32_t suspects; /* ...that may be inputs, as far as their content tells */
    /* Of the main family's that are there, those behind the first of the two, and the second; and
     * those before the second. */
    uint32_t between, behind, before;
    uint64_t newest;     /* birth of those that the main family has ever made... */
    uint32_t alive_main; /* ...and how many of these are there */
};

/* What the judge works with; the arrays are mapped for one judgement. */
struct berth_judgement {
    struct berth_classifier *classifier;
    struct berth_class_seen *seen; /* by birth */
    uint32_t count;
    uint32_t key_count;
    uint64_t births, steps;
    /* The phase. */
    bool is_steady;          /* steps have begun */
    bool is_filling;         /* of what the steps make, so much stays that they may be loading... */
    bool is_doubtful;        /* ...and it is more than steps keep */
    bool is_firm;            /* the last judgement has found the same */
    bool is_settled;         /* several have, and more was born since the boundary than is alive */
    bool is_starting;        /* it may be a program that only starts, and has its weights to come */
    bool is_asked;           /* somebody waits for the answer, however little is known */
    bool is_again;           /* and nothing was made since he was answered last */
    bool only_main;          /* weights come from the main family */
    uint32_t main;           /* the main family */
    uint32_t largest;        /* the family of which most is alive */
    uint64_t boundary;       /* the last birth before the steps */
    uint64_t last_made;      /* the last birth of the main family */
    uint64_t first_passing;  /* its first one of what came again, and of which nothing is there */
    bool is_elsewhere;       /* the steps make nothing in the main family */
    uint64_t old_bytes;      /* of the main family, or of all, from before it */
    uint64_t largest_made;   /* of what comes and goes in the steps */
    bool has_last;           /* whether the next two were looked for */
    uint64_t last_signed;    /* the last birth of a block with a number below zero; 0: none */
    uint64_t last_near_zero; /* of one with numbers near zero; UINT64_MAX: too few have these */
    bool has_stayed;         /* whether the next was looked for */
    bool have_layers_stayed; /* much that has numbers near zero has not changed in several looks */
    uint64_t mirrored_bytes; /* of these, those of whose size the steps make blocks... */
    uint32_t mirrored_sizes; /* ...and how many sizes that are */
    uint64_t births_per_step, steps_seen;
    uint64_t trained_bytes;               /* as the last judgement found: rewritten weights... */
    uint64_t idle_bytes;                  /* ...and what is old, not written, and may be inputs */
    struct berth_class_size *known_sizes; /* by a hash; as many as the set below has room for */
    /* A set of the sizes that steps make, open addressing; room is a power of two. */
    uint64_t *sizes;
    uint64_t sizes_room;
    uint64_t *numbers; /* room for a number per key */
};

/* classifier_phase.c: fills the phase from `seen` and the keys. */
void berth__class_phase(struct berth_judgement *judgement);
struct berth_class_size *berth__class_size(const struct berth_judgement *judgement, uint64_t size);
/* classifier_growth.c: notes groups of equal young blocks, and says which blocks grow. */
void berth__class_growth_note(struct berth_judgement *judgement);
bool berth__class_grows(const struct berth_classifier *classifier, uint32_t family, uint64_t size,
                        unsigned *ret_growths);

struct berth_class_verdict {
    enum berth_tag tag;
    enum berth_class_level level; /* UNKNOWN: nothing can be said */
    enum berth_class_reason reason;
};
/*
 * classifier_look.c: looks at the block, if something was done since the last look. False: nothing
 * can be seen.
 */
bool berth__class_look(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                       struct berth_class_block *block);
/* Whether the last looks at two blocks saw numbers of both signs, and as large ones. */
bool berth__class_is_like(const struct berth_class_block *block,
                          const struct berth_class_block *other);
/*
 * Whether its maker may still be filling it: what he has made last, until he makes another. What
 * comes and goes meanwhile may be the pieces of a file, and memory that was used before is not
 * blank. Where steps are declared, or the program has worked and made nothing, it is further; and
 * where less is written than pieces would write.
 */
bool berth__class_is_filled(const struct berth_judgement *judgement,
                            const struct berth_class_seen *seen);
/* The block is as if it had been looked at once. */
void berth__class_forget_changes(struct berth_class_block *block);
/* Of the words of the last look, those that are zero. */
unsigned berth__class_blank(const struct berth_class_block *block);
/* Whether it has room that nobody has written yet; words that were struck out are no room. */
bool berth__class_has_room(const struct berth_class_block *block);
/*
 * Words that were seen to change, and most of them by so little that sign and exponent stay: what
 * is trained changes like that, and what is written anew does not.
 */
bool berth__class_is_steady(const struct berth_class_block *block);
/* Whether the last looks at two blocks of one size saw numbers of both signs, and nearly everywhere
 * that of the one where the other has the same. */
bool berth__class_has_signs_of(const struct berth_class_block *block,
                               const struct berth_class_block *other);

/*
 * classifier_reads.c: how old blocks are read that look like inputs. The judge watches some of them
 * from one judgement to the next, a few times in the process's life.
 */
enum berth_class_reads {
    BERTH_READS_UNKNOWN,
    BERTH_READS_PARTS, /* steps read some of it as a whole, and most of it not at all */
    BERTH_READS_ROWS,  /* here and there in all of it */
    BERTH_READS_ALL    /* all of it */
};
/* Before the blocks are looked at: notes what was read since the watch began. */
void berth__class_reads_end(struct berth_judgement *judgement);
/* When all are judged: watches those that are suspect. */
void berth__class_reads_begin(struct berth_judgement *judgement);
/* Whether blocks of this size are being watched, or will be again. */
bool berth__class_is_watching(const struct berth_judgement *judgement, uint64_t size);
/* Whether they are, or may be once more is known of them. */
bool berth__class_may_watch(const struct berth_judgement *judgement, uint64_t size);

/*
 * classifier_inputs.c: looks at what was there before the steps, and marks what may be inputs by
 * the order in which it was made.
 */
void berth__class_inputs_find(struct berth_judgement *judgement);

/*
 * classifier_kin.c: why a block that was made behind the boundary, and was looked at, is a weight
 * as an older one of its size is; BERTH_REASON_NONE: it is not seen to be.
 */
enum berth_class_reason berth__class_kin(const struct berth_judgement *judgement,
                                         const struct berth_class_seen *seen,
                                         struct berth_class_block *block,
                                         const struct berth_class_key *key);
/* Whether its kind still comes and goes, and it has not outlived by far those that went: what each
 * step computes anew from weights is there until the next one does. */
bool berth__class_may_be_replaced(const struct berth_judgement *judgement,
                                  const struct berth_class_seen *seen,
                                  const struct berth_class_key *key);

/* classifier_verdict.c: whether most of what was there before the steps is seen to be trained. */
bool berth__class_is_trained(const struct berth_judgement *judgement);
/* Looks at the block if that may tell, and says what it is. */
void berth__class_verdict(struct berth_judgement *judgement, const struct berth_class_seen *seen,
                          struct berth_class_verdict *ret);
bool berth__class_has_size(const struct berth_judgement *judgement, uint64_t size);
/* classifier_quiet.c: the same where somebody asks and no steps are seen; what it says nothing of
 * stays as it is. */
void berth__class_quiet(struct berth_judgement *judgement, const struct berth_class_seen *seen,
                        struct berth_class_block *block, struct berth_class_verdict *ret);
/*
 * Writes the verdict to the block's record, if it is more certain than what is there, or that
 * rested on a first step that few judgements have found, and if it brings no tag back; `verdict` is
 * what then holds. False: all stays as it is.
 */
bool berth__class_heed(struct berth_class_block *block, struct berth_class_verdict *verdict);

/* classifier_why.c: one line of the debug log on a block's class, and on a judgement. */
void berth__class_log(const struct berth_class_block *block, uint32_t number);
void berth__class_log_phase(const struct berth_judgement *judgement);

static inline uint64_t berth__class_load(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

static inline uint64_t berth__class_fill_part(uint64_t size)
{
    return size / BERTH_FILL_PARTS + (size % BERTH_FILL_PARTS != 0);
}

/* So that a counter of 32 bits holds a part several times over, however large it is. */
static inline uint64_t berth__class_fill_unit(uint64_t size)
{
    return (berth__class_fill_part(size) >> 29) + 1;
}

static inline uint8_t berth__class_bit(enum berth_tag tag)
{
    return (uint8_t)(1u << tag);
}

/* An atomic of any type; an assignment would be a barrier, and a birth writes twenty of them. */
#define berth__class_set(at, value) atomic_store_explicit(at, value, memory_order_relaxed)

/* Births, fills and steps so far in one number, so that progress is seen. */
static inline uint64_t berth__class_now(const struct berth_classifier *classifier)
{
    return berth__class_load(&classifier->births) + berth__class_load(&classifier->fills) +
           (berth__class_load(&classifier->steps) << 40);
}

static inline uint64_t berth__class_mix(uint64_t value)
{
    value ^= value >> 32;
    value *= 0x9e3779b97f4a7c15u;
    return value ^ value >> 29;
}

#endif
