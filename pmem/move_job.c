/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/move_job.h"

#include "alloc/log.h"
#include "alloc/sandbox.h"
#include "alloc/thread.h"
#include "alloc/tier_ops.h"
#include "pmem/movable.h"
#include "pmem/move.h"
#include "pmem/record.h"
#include "pmem/table.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

static struct {
    /* Guards `state`, held for a copy of it, and `order`, which is the job's while it runs. */
    pthread_mutex_t lock;
    struct berth_move_state state;
    struct berth_move_order order;
    atomic_bool is_cancelled;
    _Atomic uint64_t copied; /* of the block that is on its way */
    atomic_bool waits;       /* as state.waits_for_quiet, for a glance without the lock */
} job = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A block that is to be looked at, and what came of it. */
struct candidate {
    void *p;
    size_t held;
    enum berth_move_result result; /* RESULT_COUNT: not looked at yet */
    berth_tier_id from, to;        /* of MOVED */
};

/* A job's list of them, in memory of its own. */
struct candidates {
    struct candidate *list;
    size_t count, room;
};

/* By who asked for it, or by the program, which now limits its system calls: those of a move may
 * end it. */
static bool is_cancelled(void *context)
{
    (void)context;
    return atomic_load_explicit(&job.is_cancelled, memory_order_relaxed) || berth__sandbox_is_on();
}

/* The record of a live block; false when it is gone, or has none yet. */
static bool read_block(const void *p, size_t *ret_held, struct berth_record *ret)
{
    const struct berth_residence *entry = berth__residence(p);

    *ret_held = (size_t)atomic_load(&entry->pages) << BERTH_OS_PAGE_SHIFT;
    return (atomic_load(&entry->word) & BERTH_RESIDENCE_LIVE) && *ret_held > 0 &&
           berth__record_get(p, *ret_held, ret);
}

static bool is_meant(const struct berth_move_order *order, const void *p,
                     const struct berth_record *record)
{
    return (order->tags == 0 || order->tags >> record->tag & 1) &&
           (order->from == BERTH_TIER_NONE || order->from == berth__residence_tier(p));
}

static int add(struct candidates *candidates, void *p, size_t held)
{
    size_t size = candidates->room * sizeof(struct candidate);
    void *list;

    if (candidates->count == candidates->room) {
        candidates->room = candidates->room ? 2 * candidates->room : 4096;
        list = mmap(NULL, candidates->room * sizeof(struct candidate), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (list == MAP_FAILED)
            return -ENOMEM;
        if (candidates->list) {
            memcpy(list, candidates->list, size);
            munmap(candidates->list, size);
        }
        candidates->list = list;
    }
    candidates->list[candidates->count++] =
        (struct candidate){.p = p, .held = held, .result = BERTH_MOVE_RESULT_COUNT};
    return 0;
}

static void drop(struct candidates *candidates)
{
    if (candidates->list)
        munmap(candidates->list, candidates->room * sizeof(struct candidate));
}

static struct berth_move_count list_blocks(const struct berth_move_order *order,
                                           struct candidates *candidates)
{
    struct berth_move_count total = {0};

    for (const void *p = NULL; berth__residency_next(&p); p = (const char *)p + BERTH_OS_PAGE) {
        struct berth_record record;
        size_t held;

        if (!read_block(p, &held, &record) || !is_meant(order, p, &record))
            continue;
        if (add(candidates, (void *)p, held) < 0)
            break;
        total.blocks++;
        total.bytes += held;
    }
    return total;
}

/* Tries the tiers that the policy names, in order, up to where the block is. */
static enum berth_move_result move_as_policy(struct berth_mover *mover, struct candidate *candidate,
                                             const struct berth_record *record)
{
    struct berth_request request = {
        .side = BERTH_SIDE_HOST,
        .size = record->requested,
        .tag = record->tag,
        .site = record->site,
        .lives = true,
    };
    enum berth_move_result result = BERTH_MOVE_NO_PLACE;
    struct berth_decision decision;

    berth__table_consider(&request, &decision);
    if (decision.place_count > 0 && !decision.movable)
        return BERTH_MOVE_RULE;
    mover->rule = decision.rule;
    mover->version = decision.version;
    for (unsigned i = 0; i < decision.place_count; i++) {
        enum berth_move_result now;

        if (decision.places[i] == candidate->from)
            return result == BERTH_MOVE_NO_PLACE ? BERTH_MOVE_THERE : result;
        now = berth__move_block(mover, candidate->p, decision.places[i]);
        candidate->to = decision.places[i];
        if (now != BERTH_MOVE_NO_ROOM && now != BERTH_MOVE_KIND && now != BERTH_MOVE_ALIGNMENT)
            return now;
        if (result == BERTH_MOVE_NO_PLACE)
            result = now;
    }
    return result;
}

static enum berth_move_result move_candidate(struct berth_mover *mover,
                                             const struct berth_move_order *order,
                                             struct candidate *candidate)
{
    struct berth_record record;
    size_t held;

    if (is_cancelled(NULL))
        return BERTH_MOVE_CANCELLED;
    if (!read_block(candidate->p, &held, &record) || held != candidate->held)
        return BERTH_MOVE_GONE;
    candidate->from = berth__residence_tier(candidate->p);
    candidate->to = order->to;
    if (order->to == BERTH_TIER_NONE)
        return move_as_policy(mover, candidate, &record);
    mover->rule = BERTH_RULE_NONE;
    return berth__move_block(mover, candidate->p, order->to);
}

static void count(struct berth_move_count *count, uint64_t bytes, int64_t sign)
{
    count->blocks += (uint64_t)sign;
    count->bytes += bytes * (uint64_t)sign;
}

/* Tells what came of a block, in place of what came of it before. */
static void tell(struct candidate *candidate, enum berth_move_result result, const char *why)
{
    struct berth_move_state *state = &job.state;

    pthread_mutex_lock(&job.lock);
    atomic_store_explicit(&job.copied, 0, memory_order_relaxed);
    if (candidate->result == BERTH_MOVE_RESULT_COUNT)
        count(&state->done, candidate->held, 1);
    else
        count(&state->result[candidate->result], candidate->held, -1);
    count(&state->result[result], candidate->held, 1);
    if (result == BERTH_MOVE_MOVED) {
        count(&state->into[candidate->to], candidate->held, 1);
        count(&state->out_of[candidate->from], candidate->held, 1);
    } else if (why[0]) {
        memcpy(state->why, why, strnlen(why, sizeof(state->why) - 1) + 1);
        state->why[sizeof(state->why) - 1] = '\0';
    }
    pthread_mutex_unlock(&job.lock);
    candidate->result = result;
    berth__log(BERTH_LOG_DEBUG, BERTH_TOPIC_MOVE, "%p, %zu bytes, in tier %s: %s%s%s", candidate->p,
               candidate->held, berth__tier(candidate->from)->name,
               berth__move_result_info[result].code, why[0] ? ": " : "", why);
}

/* One pass over those that are not looked at yet, or found no room. True: some have moved. */
static bool pass(struct berth_mover *mover, const struct berth_move_order *order,
                 struct candidates *candidates, uint64_t *left)
{
    bool some = false;

    for (size_t i = 0; i<candidates->count && * left> 0; i++) {
        struct candidate *candidate = &candidates->list[i];
        enum berth_move_result result;

        if (candidate->result != BERTH_MOVE_RESULT_COUNT && candidate->result != BERTH_MOVE_NO_ROOM)
            continue;
        result = move_candidate(mover, order, candidate);
        tell(candidate, result, mover->why);
        if (result != BERTH_MOVE_MOVED)
            continue;
        some = true;
        *left -= candidate->held < *left ? candidate->held : *left;
    }
    return some;
}

static void close_kept(void *context)
{
    berth__uffd_close(context);
}

/* The whole job; the caller is the mover. How many blocks moved. */
static uint64_t work(const struct berth_move_order *order, struct berth_move_side *side, bool quiet)
{
    struct berth_uffd kept = {.fd = -1};
    struct berth_mover mover = {.quiet = quiet,
                                .side = side,
                                .is_cancelled = is_cancelled,
                                .copied = &job.copied,
                                .kept = &kept};
    struct candidates candidates = {0};
    struct berth_move_count total = list_blocks(order, &candidates);
    uint64_t left = order->max_bytes ? order->max_bytes : UINT64_MAX;
    uint64_t moved = job.state.result[BERTH_MOVE_MOVED].blocks;

    pthread_mutex_lock(&job.lock);
    job.state.total = total;
    job.state.done = (struct berth_move_count){0};
    for (int i = 0; i < BERTH_MOVE_RESULT_COUNT; i++)
        if (i != BERTH_MOVE_MOVED)
            job.state.result[i] = (struct berth_move_count){0};
    pthread_mutex_unlock(&job.lock);
    while (pass(&mover, order, &candidates, &left) && !is_cancelled(NULL))
        ;
    if (side)
        berth__move_side_run(side, close_kept, &kept);
    else
        close_kept(&kept);
    drop(&candidates);
    return job.state.result[BERTH_MOVE_MOVED].blocks - moved;
}

static void end(bool quiet)
{
    pthread_mutex_lock(&job.lock);
    job.state.is_running = false;
    job.state.waits_for_quiet = !quiet && !is_cancelled(NULL) &&
                                (job.state.result[BERTH_MOVE_QUIET].blocks > 0 ||
                                 job.state.result[BERTH_MOVE_PRIVILEGE].blocks > 0 ||
                                 job.state.result[BERTH_MOVE_KERNEL].blocks > 0 ||
                                 job.state.result[BERTH_MOVE_TRACED].blocks > 0);
    atomic_store(&job.waits, job.state.waits_for_quiet);
    pthread_mutex_unlock(&job.lock);
}

/* A child has no thread that works at its parent's job. */
static void forget_in_child(void)
{
    pthread_mutex_init(&job.lock, NULL);
    memset(&job.state, 0, sizeof(job.state));
    atomic_store(&job.waits, false);
}

static void handle_forks(void)
{
    pthread_atfork(NULL, NULL, forget_in_child);
}

static int start(const struct berth_move_order *order, uint64_t *ret_job)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uint64_t number = 0;

    if (berth__sandbox_is_on())
        return -EPERM;
    pthread_once(&once, handle_forks);
    pthread_mutex_lock(&job.lock);
    if (!job.state.is_running) {
        number = job.state.job + 1;
        memset(&job.state, 0, sizeof(job.state));
        job.state.job = number;
        job.state.is_running = true;
        job.order = *order;
        atomic_store(&job.waits, false);
        atomic_store(&job.is_cancelled, false);
    }
    pthread_mutex_unlock(&job.lock);
    if (number == 0)
        return -EBUSY;
    *ret_job = number;
    return 0;
}

static void run(int (*leave)(char *why, size_t why_size))
{
    struct berth_move_side side;
    bool has_side = leave && berth__move_side_start(&side, leave) == 0;

    if (leave && !has_side) {
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_MOVE, "no block is moved: %s", side.why);
        atomic_store(&job.is_cancelled, true);
    }
    berth__move_begin(true);
    work(&job.order, has_side ? &side : NULL, false);
    end(false);
    berth__move_end();
    if (has_side)
        berth__move_side_stop(&side);
}

static void cancel(void)
{
    atomic_store(&job.is_cancelled, true);
    atomic_store(&job.waits, false);
    pthread_mutex_lock(&job.lock);
    job.state.waits_for_quiet = false;
    pthread_mutex_unlock(&job.lock);
}

static void read_state(struct berth_move_state *ret)
{
    pthread_mutex_lock(&job.lock);
    *ret = job.state;
    ret->copied = atomic_load_explicit(&job.copied, memory_order_relaxed);
    pthread_mutex_unlock(&job.lock);
    ret->too_small = berth__movable_small_count();
}

static int probe(bool *ret_sees_pins, char *why, size_t why_size)
{
    struct berth_uffd uffd;
    int r = berth__uffd_open(&uffd, why, why_size);

    if (r < 0)
        return r;
    *ret_sees_pins = uffd.takes_pages;
    berth__uffd_close(&uffd);
    return 0;
}

/* Takes up the job that waits, so that no other one begins; false when there is none by now. */
static bool resume(void)
{
    bool waits;

    pthread_mutex_lock(&job.lock);
    waits = job.state.waits_for_quiet && !job.state.is_running;
    if (waits) {
        job.state.is_running = true;
        job.state.waits_for_quiet = false;
        atomic_store(&job.waits, false);
    }
    pthread_mutex_unlock(&job.lock);
    return waits;
}

/*
 * The caller is the mover, on a thread of the program's. Cancelled on the way, at one of the files
 * that are read, it would leave its job running for ever.
 */
static uint64_t work_quietly(void)
{
    sigset_t all, before;
    int cancel_state;
    uint64_t moved;

    /* A handler that forks would wait for the mover, which is below it on the same stack. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    berth__thread.inside++;
    moved = work(&job.order, NULL, true);
    end(true);
    berth__thread.inside--;
    pthread_setcancelstate(cancel_state, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return moved;
}

static int quiet(void)
{
    int saved_errno = errno;
    uint64_t moved = 0;

    if (BERTH_LIKELY(!atomic_load_explicit(&job.waits, memory_order_relaxed)) ||
        berth__sandbox_is_on())
        return 0;
    /* A job that runs now finds out by itself that it has to wait for the next step. */
    if (!berth__move_begin(false))
        return 0;
    if (resume())
        moved = work_quietly();
    berth__move_end();
    errno = saved_errno;
    return (int)(moved < INT32_MAX ? moved : INT32_MAX);
}

static const struct berth_move_door door = {
    .start = start,
    .run = run,
    .cancel = cancel,
    .read = read_state,
    .probe = probe,
    .quiet = quiet,
};

void berth__move_job_register(void)
{
    berth__move_door = &door;
}
