/* SPDX-License-Identifier: Apache-2.0 */
#include "hooks/frame_walk.h"

#include "alloc/types.h"
#include "hooks/frame_rule.h"

#include <stdatomic.h>

/*
 * A kept rule, in one word so that it is never half of another's:
 *
 *     the address's bits above the index (34) | offset (16) | bp (4) | kind (3) | epoch (7)
 *
 * Addresses have 47 bits; the lowest 13 are the index. An epoch of 0 is no entry.
 */
#define INDEX_BITS 13
#define INDEX_COUNT ((uintptr_t)1 << INDEX_BITS)
#define ADDRESS_BITS 47
#define EPOCH_BITS 7
#define KIND_SHIFT EPOCH_BITS
#define BP_SHIFT (KIND_SHIFT + 3)
#define OFFSET_SHIFT (BP_SHIFT + 4)
#define TAG_SHIFT (OFFSET_SHIFT + 16)
_Static_assert(TAG_SHIFT + ADDRESS_BITS - INDEX_BITS == 64, "a rule fills its word");
#define EPOCH_MASK (((uint64_t)1 << EPOCH_BITS) - 1)

struct frame_rules {
    _Atomic uint64_t word[INDEX_COUNT];
    _Atomic unsigned epoch; /* less 1: 0 is the first */
};

/* One for both preload libraries; zero pages until it is used. */
extern BERTH_SHARED struct frame_rules berth__frame_rules;
struct frame_rules berth__frame_rules;

static uint64_t epoch_now(void)
{
    unsigned epoch = atomic_load_explicit(&berth__frame_rules.epoch, memory_order_relaxed);

    return epoch % EPOCH_MASK + 1;
}

void berth__frame_walk_forget(void)
{
    /* Entries are taken away, too: an epoch's number comes again. */
    atomic_fetch_add_explicit(&berth__frame_rules.epoch, 1, memory_order_relaxed);
    for (uintptr_t i = 0; i < INDEX_COUNT; i++)
        atomic_store_explicit(&berth__frame_rules.word[i], 0, memory_order_relaxed);
}

static uint64_t encode(uintptr_t address, const struct berth_frame_rule *rule, uint64_t epoch)
{
    return (uint64_t)(address >> INDEX_BITS) << TAG_SHIFT | (uint64_t)rule->offset << OFFSET_SHIFT |
           (uint64_t)rule->bp << BP_SHIFT | (uint64_t)rule->kind << KIND_SHIFT | epoch;
}

/* What its own frame does not hold cannot be a rule: a walk then needs no check for it. */
static void make_sound(struct berth_frame_rule *rule)
{
    bool saves_bp = rule->bp > BERTH_FRAME_BP_AT_BP;

    if (rule->kind == BERTH_FRAME_BY_SP &&
        (rule->offset == 0 || (saves_bp && rule->bp > rule->offset)))
        rule->kind = BERTH_FRAME_UNKNOWN;
}

static __attribute__((noinline)) uint64_t find_and_keep(uintptr_t address, uint64_t epoch)
{
    struct berth_frame_rule rule;
    uint64_t word;

    berth__frame_rule_find(address, &rule);
    make_sound(&rule);
    word = encode(address, &rule, epoch);
    if (address >> ADDRESS_BITS == 0)
        atomic_store_explicit(&berth__frame_rules.word[address & (INDEX_COUNT - 1)], word,
                              memory_order_relaxed);
    return word;
}

#define KEY_MASK (~(((uint64_t)1 << TAG_SHIFT) - 1) | EPOCH_MASK)

/* The rule's word; its address and epoch are the ones asked for. */
static inline uint64_t rule_of(uintptr_t address, uint64_t epoch, bool is_fresh)
{
    uint64_t word = atomic_load_explicit(&berth__frame_rules.word[address & (INDEX_COUNT - 1)],
                                         memory_order_relaxed);

    if (BERTH_LIKELY(
            !is_fresh &&
            ((word ^ ((uint64_t)(address >> INDEX_BITS) << TAG_SHIFT | epoch)) & KEY_MASK) == 0))
        return word;
    return find_and_keep(address, epoch);
}

static inline unsigned kind_of(uint64_t word)
{
    return word >> KIND_SHIFT & 7;
}

/* A frame while the stack is walked. */
struct frame {
    uintptr_t address, sp, bp;
};

/* Whether a word can be read there, above what the frame itself is known to use. */
static inline bool is_in_stack(uintptr_t at, uintptr_t sp, uintptr_t high)
{
    return at >= sp && at <= high - sizeof(uintptr_t) && at % sizeof(uintptr_t) == 0;
}

static inline uintptr_t word_at(uintptr_t at)
{
    return *(const uintptr_t *)at;
}

/* From a frame to its caller's, by way of the base pointer. False: out of the stack. */
static __attribute__((noinline)) bool step_by_bp(struct frame *frame, uint64_t word, uintptr_t high)
{
    uintptr_t offset = (word >> OFFSET_SHIFT & 0xffff) * sizeof(uintptr_t);
    uintptr_t sp = frame->sp, cfa, bp_at;
    unsigned bp = word >> BP_SHIFT & 15;

    if (kind_of(word) == BERTH_FRAME_BY_SP) {
        cfa = sp + offset;
    } else if (kind_of(word) == BERTH_FRAME_BY_BP) {
        cfa = frame->bp + offset;
    } else {
        if (!is_in_stack(frame->bp - offset, sp, high))
            return false;
        cfa = word_at(frame->bp - offset);
    }
    if (cfa <= sp || !is_in_stack(cfa - sizeof(uintptr_t), sp, high))
        return false;
    if (bp != BERTH_FRAME_BP_SAME) {
        bp_at = bp == BERTH_FRAME_BP_AT_BP ? frame->bp : cfa - bp * sizeof(uintptr_t);
        if (!is_in_stack(bp_at, sp, high))
            return false;
        frame->bp = word_at(bp_at);
    }
    frame->address = word_at(cfa - sizeof(uintptr_t));
    frame->sp = cfa;
    return true;
}

/* The same; most frames are found by the stack pointer alone. */
static inline bool step(struct frame *frame, uint64_t word, uintptr_t high)
{
    unsigned bp = word >> BP_SHIFT & 15;
    uintptr_t cfa;

    if (BERTH_UNLIKELY(kind_of(word) != BERTH_FRAME_BY_SP || bp == BERTH_FRAME_BP_AT_BP))
        return step_by_bp(frame, word, high);
    cfa = frame->sp + (word >> OFFSET_SHIFT & 0xffff) * sizeof(uintptr_t);
    if (BERTH_UNLIKELY(cfa > high))
        return false;
    if (bp != BERTH_FRAME_BP_SAME)
        frame->bp = word_at(cfa - bp * sizeof(uintptr_t));
    frame->address = word_at(cfa - sizeof(uintptr_t));
    frame->sp = cfa;
    return true;
}

/* Where this function is: all three at one instruction, so that its own rule holds for them. */
#ifdef __x86_64__
#define HERE(frame)                                                                                \
    __asm__ volatile("lea 0(%%rip), %0\n\tmov %%rsp, %1\n\tmov %%rbp, %2"                          \
                     : "=&r"((frame)->address), "=&r"((frame)->sp), "=&r"((frame)->bp))
#else
#define HERE(frame) ((frame)->address = (frame)->sp = (frame)->bp = 0)
#endif

__attribute__((noinline)) unsigned berth__frame_walk(const struct berth_stack *stack,
                                                     const void **frames, unsigned count,
                                                     bool is_fresh)
{
    uintptr_t high = stack->high;
    uint64_t epoch = epoch_now();
    struct frame frame;
    unsigned n = 0;

    HERE(&frame);
    if (frame.sp < stack->low || frame.sp >= high || frame.sp % sizeof(uintptr_t) != 0)
        return 0;
    while (n < count) {
        uint64_t word = rule_of(frame.address, epoch, is_fresh);

        if (BERTH_UNLIKELY(kind_of(word) < BERTH_FRAME_BY_SP))
            return kind_of(word) == BERTH_FRAME_OUTERMOST ? n : 0;
        if (BERTH_UNLIKELY(!step(&frame, word, high)))
            return 0;
        if (BERTH_UNLIKELY(frame.address == 0))
            break;
        frames[n++] = (const void *)frame.address;
    }
    return n;
}
