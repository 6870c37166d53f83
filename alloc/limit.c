/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/limit.h"

#include "alloc/stats.h"
#include "alloc/tier_ops.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

/*
 * A thread whose request is refused may have seen the block of another one twice. It looks again,
 * as long as others are at it, this often and this long: that one may not be let at the processor.
 */
#define LOOKS_MAX 256
#define LOOKS_MAX_NS 100000000
/*
 * Cells are read one after the other: a block that one thread gave back and another one took again
 * meanwhile may be seen with both. That does not happen so often in a row.
 */
#define LOOKS_FULL 4

_Static_assert(BERTH_OPTION_DEVICE_LIMIT_UNTAGGED + BERTH_TAG_WEIGHT ==
                       BERTH_OPTION_DEVICE_LIMIT_WEIGHT &&
                   BERTH_OPTION_DEVICE_LIMIT_UNTAGGED + BERTH_TAG_ACTIVATION ==
                       BERTH_OPTION_DEVICE_LIMIT_ACTIVATION &&
                   BERTH_OPTION_DEVICE_LIMIT_UNTAGGED + BERTH_TAG_KV ==
                       BERTH_OPTION_DEVICE_LIMIT_KV &&
                   BERTH_OPTION_DEVICE_LIMIT_UNTAGGED + BERTH_TAG_WORKSPACE ==
                       BERTH_OPTION_DEVICE_LIMIT_WORKSPACE,
               "the options are in the order of the tags");

static _Atomic uint64_t reserved; /* by all tiers of kind device together */
static _Atomic uint64_t promised[BERTH_TAG_COUNT];
static _Atomic uint64_t refused_blocks[BERTH_TAG_COUNT + 1], refused_bytes[BERTH_TAG_COUNT + 1];

enum berth_option berth__limit_option(unsigned which)
{
    return which == BERTH_LIMIT_PROCESS
               ? BERTH_OPTION_DEVICE_LIMIT
               : (enum berth_option)(BERTH_OPTION_DEVICE_LIMIT_UNTAGGED + which);
}

uint64_t berth__limit(unsigned which)
{
    return berth__option(berth__limit_option(which));
}

uint64_t berth__limit_used(unsigned which)
{
    unsigned count = berth__tier_count();
    uint64_t held = 0;

    if (which == BERTH_LIMIT_PROCESS)
        return atomic_load_explicit(&reserved, memory_order_relaxed);
    for (unsigned id = 0; id < count; id++) {
        struct berth_cell_reading reading;

        if (berth__tier((berth_tier_id)id)->kind != BERTH_KIND_DEVICE)
            continue;
        berth__stats_read((berth_tier_id)id, (enum berth_tag)which, &reading);
        held += reading.held;
    }
    return held;
}

int berth__limit_take(uint64_t size)
{
    uint64_t limit = berth__limit(BERTH_LIMIT_PROCESS);
    uint64_t now = atomic_load_explicit(&reserved, memory_order_relaxed), next;

    do {
        if (__builtin_add_overflow(now, size, &next) || (limit != 0 && next > limit))
            return -EDQUOT;
    } while (!atomic_compare_exchange_weak_explicit(&reserved, &now, next, memory_order_relaxed,
                                                    memory_order_relaxed));
    return 0;
}

void berth__limit_give(uint64_t size)
{
    atomic_fetch_sub_explicit(&reserved, size, memory_order_relaxed);
}

uint64_t berth__limit_excess(void)
{
    uint64_t limit = berth__limit(BERTH_LIMIT_PROCESS);
    uint64_t now = atomic_load_explicit(&reserved, memory_order_relaxed);

    return limit != 0 && now > limit ? now - limit : 0;
}

struct looks {
    unsigned count, full;
    int64_t begin;
};

static bool look_again(struct looks *looks)
{
    struct timespec time;
    int64_t now;

    clock_gettime(CLOCK_MONOTONIC, &time);
    now = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
    if (looks->count++ == 0)
        looks->begin = now;
    sched_yield();
    return looks->count < LOOKS_MAX || now - looks->begin < LOOKS_MAX_NS;
}

int berth__limit_enter(enum berth_tag tag, uint64_t held)
{
    uint64_t limit = berth__limit(tag), others, used;
    struct looks looks = {0};

    if (limit == 0 || held > limit) {
        if (limit == 0)
            atomic_fetch_add(&promised[tag], held);
        return limit == 0 ? 0 : -EDQUOT;
    }
    do {
        others = atomic_fetch_add(&promised[tag], held);
        used = berth__limit_used(tag);
        if (others <= limit - held && used <= limit - held - others)
            return 0;
        atomic_fetch_sub(&promised[tag], held);
        if ((others == 0 || used > limit - held) && ++looks.full >= LOOKS_FULL)
            break;
    } while (look_again(&looks));
    return -EDQUOT;
}

void berth__limit_leave(enum berth_tag tag, uint64_t held)
{
    atomic_fetch_sub(&promised[tag], held);
}

bool berth__limit_holds(enum berth_tag tag, uint64_t kept, uint64_t held)
{
    uint64_t limit = berth__limit(tag), others, used;
    struct looks looks = {0};

    /* There was room for it, beside all that others were promised. */
    if (held <= kept || limit == 0)
        return true;
    do {
        /* In this order: who is not among the others any more has its block in the account. */
        others = atomic_load(&promised[tag]);
        used = berth__limit_used(tag);
        if (used <= limit && others <= limit - used)
            return true;
        if ((used > limit || others == 0) && ++looks.full >= LOOKS_FULL)
            return false;
    } while (look_again(&looks));
    return false;
}

void berth__limit_refuse(unsigned which, uint64_t size)
{
    atomic_fetch_add_explicit(&refused_blocks[which], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&refused_bytes[which], size, memory_order_relaxed);
}

struct berth_limit_counts berth__limit_refused(unsigned which)
{
    return (struct berth_limit_counts){
        .blocks = atomic_load_explicit(&refused_blocks[which], memory_order_relaxed),
        .bytes = atomic_load_explicit(&refused_bytes[which], memory_order_relaxed),
    };
}
