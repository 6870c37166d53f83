/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/move.h"

#include "alloc/held_range.h"
#include "alloc/site_account.h"
#include "alloc/stats.h"
#include "alloc/tier_ops.h"
#include "pmem/arena.h"
#include "pmem/fork.h"
#include "pmem/gate.h"
#include "pmem/mapping.h"
#include "pmem/movable.h"
#include "pmem/move_fault.h"
#include "pmem/move_live.h"
#include "pmem/node_bind.h"
#include "pmem/record.h"
#include "pmem/table.h"
#include "pmem/tier_file.h"
#include "pmem/waiter.h"

#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

static struct {
    pthread_mutex_t one;  /* held by the mover */
    pthread_mutex_t swap; /* held while what is where changes, or pages are out of a block; a fork
                             holds it, and nobody who holds it asks for another lock */
} movers = {.one = PTHREAD_MUTEX_INITIALIZER, .swap = PTHREAD_MUTEX_INITIALIZER};

/* One block on its way. */
struct move {
    struct berth_mover *mover;
    struct berth_residence *entry;
    char *p;
    size_t held;
    uint32_t word; /* when it began */
    berth_tier_id from, to;
    void *old_twin;
    void *new_twin;
    char *scratch; /* what will be mapped at `p`; elsewhere until then */
};

bool berth__move_begin(bool wait)
{
    if (!wait)
        return pthread_mutex_trylock(&movers.one) == 0;
    pthread_mutex_lock(&movers.one);
    return true;
}

void berth__move_end(void)
{
    pthread_mutex_unlock(&movers.one);
}

bool berth__move_try_hold(void)
{
    return pthread_mutex_trylock(&movers.swap) == 0;
}

void berth__move_hold_for_fork(void)
{
    pthread_mutex_lock(&movers.swap);
}

/* The child has none of the threads that could be holding a lock, or moving a block. */
static void forget_in_child(void)
{
    const uint32_t theirs = BERTH_RESIDENCE_MOVING | BERTH_RESIDENCE_LOCKED;

    pthread_mutex_init(&movers.one, NULL);
    pthread_mutex_init(&movers.swap, NULL);
    for (const void *p = NULL; berth__residency_next(&p); p = (const char *)p + BERTH_OS_PAGE)
        if (atomic_load(&berth__residence(p)->word) & theirs)
            atomic_fetch_and(&berth__residence(p)->word, ~theirs);
}

void berth__move_after_fork(bool child)
{
    if (child)
        forget_in_child();
    else
        pthread_mutex_unlock(&movers.swap);
}

static enum berth_move_result failed(struct move *move, const char *call, int error)
{
    snprintf(move->mover->why, sizeof(move->mover->why), "%s: %s", call, strerrordesc_np(-error));
    return BERTH_MOVE_SYSTEM;
}

/* Marks the block as being moved, unless it is gone. */
static bool begin(struct move *move)
{
    uint32_t word = berth__residence_lock(move->entry);
    bool is_live = (word & BERTH_RESIDENCE_LIVE) && !(word & BERTH_RESIDENCE_MOVING);

    if (is_live) {
        move->word = word;
        move->from = (berth_tier_id)(word & BERTH_RESIDENCE_TIER);
        move->held = (size_t)atomic_load(&move->entry->pages) << BERTH_OS_PAGE_SHIFT;
        move->old_twin = (void *)atomic_load(&move->entry->twin);
        word |= BERTH_RESIDENCE_MOVING;
    }
    berth__residence_unlock(move->entry, word);
    return is_live;
}

/* It stays where it was; if its owner has freed it meanwhile, it is freed now. */
static enum berth_move_result stay(struct move *move, enum berth_move_result result)
{
    uint32_t word = berth__residence_lock(move->entry);
    bool is_freed = word & BERTH_RESIDENCE_FREED;

    word &= ~(BERTH_RESIDENCE_MOVING | BERTH_RESIDENCE_FREED);
    berth__residence_unlock(move->entry, word);
    if (!is_freed)
        return result;
    berth__movable_finish_free(move->p, move->held, word);
    return BERTH_MOVE_GONE;
}

/*
 * Its pages are in the new tier: now the map and the account say so. Under the swap lock; returns
 * the block's word.
 */
static uint32_t enter(struct move *move, uint32_t flags)
{
    uint32_t word = berth__residence_lock(move->entry);
    uint32_t freed = word & BERTH_RESIDENCE_FREED;
    struct berth_record record;

    if (flags & ~word & BERTH_RESIDENCE_REMAPPED)
        berth__residence_note_remapped();
    word = move->to | flags | (freed ? 0 : BERTH_RESIDENCE_LIVE);
    berth__residence_set_twin(move->p, move->new_twin);
    if (!freed && berth__record_get(move->p, move->held, &record)) {
        const struct berth_site_block block = {record.site, move->from, record.tag,
                                               record.requested, move->held};

        berth__stats_alloc(move->to, record.tag, record.requested, move->held);
        berth__stats_free(move->from, record.tag, record.requested, move->held);
        if (record.site != 0)
            berth__site_account_move(&block, move->to, record.tag);
        if (move->mover->rule != BERTH_RULE_NONE)
            berth__record_set_rule(move->p, move->mover->rule, move->mover->version);
    }
    berth__residence_unlock(move->entry, word);
    return word;
}

static bool is_on_tmpfs(const struct berth_tier *tier)
{
    struct statfs fs;

    return tier->kind == BERTH_KIND_FILE && statfs(tier->path, &fs) == 0 &&
           fs.f_type == TMPFS_MAGIC;
}

/* Whether the tier's pages can be given up for others: those of a device are where they are. */
static bool can_renew(berth_tier_id tier)
{
    const struct berth_tier_file *file = berth__tier_file(tier);

    return is_on_tmpfs(berth__tier(tier)) || (file && file->is_on_disk);
}

/* What is left behind goes back; without a lock, because jemalloc takes its own. */
static enum berth_move_result leave(struct move *move, uint32_t word)
{
    if (!move->old_twin || !can_renew(move->from) ||
        berth__movable_renew_twin(move->from, move->old_twin, move->held))
        berth__movable_leave_tier(move->from, move->old_twin, move->held);
    if (word & BERTH_RESIDENCE_LIVE)
        return BERTH_MOVE_MOVED;
    berth__movable_finish_free(move->p, move->held, word);
    return BERTH_MOVE_GONE;
}

static bool is_numa(berth_tier_id tier)
{
    return berth__tier(tier)->kind == BERTH_KIND_NUMA;
}

/* Between nodes: the kernel moves the pages, whoever writes to them. */
static int bind(struct move *move)
{
    if (is_numa(move->to))
        return berth__node_bind(move->to, move->p, move->held);
    return is_numa(move->from) ? berth__node_unbind(move->from, move->p, move->held) : 0;
}

/* Pages that find no room where they were stay where they are: it is their block's policy alone
 * that counts from now on. */
static void bind_back(struct move *move)
{
    if (is_numa(move->from))
        berth__node_bind(move->from, move->p, move->held);
    else if (is_numa(move->to))
        berth__node_unbind(move->to, move->p, move->held);
}

/* A cpuset's nodes may change while the program runs. */
static enum berth_move_result nodes_are_forbidden(struct move *move)
{
    snprintf(move->mover->why, sizeof(move->mover->why),
             "the process may have no memory on node %.64s (cpuset)", berth__tier(move->to)->nodes);
    return BERTH_MOVE_NO_ROOM;
}

static enum berth_move_result move_between_nodes(struct move *move)
{
    uint32_t word = move->word & BERTH_RESIDENCE_REMAPPED;
    int r;

    if (berth__tier_reserve(move->to, move->held) < 0)
        return stay(move, BERTH_MOVE_NO_ROOM);
    r = bind(move);
    if (r == 0) {
        pthread_mutex_lock(&movers.swap);
        word = enter(move, is_numa(move->to) ? BERTH_RESIDENCE_REMAPPED : word);
        pthread_mutex_unlock(&movers.swap);
        return leave(move, word);
    }
    bind_back(move);
    berth__tier_release(move->to, move->held);
    if (r == -EBUSY)
        return stay(move, BERTH_MOVE_PINNED);
    if (r == -ENOMEM)
        return stay(move, BERTH_MOVE_NO_ROOM);
    if (r == -EINVAL && is_numa(move->to))
        return stay(move, nodes_are_forbidden(move));
    return stay(move, r == -ENOSYS ? BERTH_MOVE_KERNEL : failed(move, "mbind", r));
}

/* The new tier's memory, mapped somewhere. */
static int map_scratch(struct move *move)
{
    int r = berth__move_fault(BERTH_CALL_SCRATCH);
    void *p;

    if (r < 0)
        return r;
    if (move->new_twin)
        p = mremap(move->new_twin, 0, move->held, MREMAP_MAYMOVE);
    else
        p = mmap(NULL, move->held, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -errno;
    if (is_numa(move->to))
        r = berth__movable_take_nodes(move->to, p, move->held);
    if (r < 0) {
        munmap(p, move->held);
        return r;
    }
    move->scratch = p;
    return 0;
}

static void release_room(struct move *move)
{
    if (move->scratch)
        munmap(move->scratch, move->held);
    berth__movable_leave_tier(move->to, move->new_twin, move->held);
}

/* Takes room for the block in its new tier. */
static enum berth_move_result take_room(struct move *move)
{
    int r;

    if (!berth__movable_has_twin(move->to)) {
        if (berth__tier_reserve(move->to, move->held) < 0)
            return BERTH_MOVE_NO_ROOM;
    } else {
        move->new_twin = berth__movable_alloc_twin(move->to, move->held, false);
        if (!move->new_twin)
            return BERTH_MOVE_NO_ROOM;
    }
    r = map_scratch(move);
    if (r < 0) {
        release_room(move);
        if (is_numa(move->to) && r == -EINVAL)
            return nodes_are_forbidden(move);
        return is_numa(move->to) && r == -ENOMEM ? BERTH_MOVE_NO_ROOM : failed(move, "mmap", r);
    }
    return BERTH_MOVE_MOVED;
}

/* A child that has the same bytes of the file would not see what is written from now on. */
static bool is_shared_with_child(const struct move *move)
{
    return move->old_twin && berth__tier(move->from)->fork == BERTH_FORK_SHARE &&
           berth__fork_has_sharers();
}

/* Whether it is mapped as it was allocated. */
static enum berth_move_result check_mapping(struct move *move)
{
    int r = berth__mapping_check(move->p, move->held, move->old_twin != NULL);

    if (r == -EPERM)
        return BERTH_MOVE_LOCKED;
    if (r == -EINVAL)
        return BERTH_MOVE_MAPPING;
    return r < 0 ? failed(move, "/proc/self/maps", r) : BERTH_MOVE_MOVED;
}

/* What the kernel knows a futex by changes with what is mapped, but for between nodes. */
static enum berth_move_result check_waiters(struct move *move)
{
    int r = berth__waiter_find(move->p, move->held);

    if (r < 0)
        return failed(move, "/proc/self/task", r);
    return r > 0 ? BERTH_MOVE_WAITED : BERTH_MOVE_MOVED;
}

/* Puts the new memory in the block's place, unless something has come that speaks against it. */
static enum berth_move_result remap(struct move *move)
{
    enum berth_move_result result;

    if (berth__held_range_overlaps(move->p, move->held))
        return BERTH_MOVE_PINNED;
    if (is_shared_with_child(move))
        return BERTH_MOVE_SHARED;
    /* A protection or a lock of the program's would be lost. */
    result = check_mapping(move);
    /* Who begins to wait from now on waits for the pages first. */
    if (result == BERTH_MOVE_MOVED)
        result = check_waiters(move);
    if (result != BERTH_MOVE_MOVED)
        return result;
    if (mremap(move->scratch, move->held, move->held, MREMAP_MAYMOVE | MREMAP_FIXED, move->p) ==
        MAP_FAILED)
        return failed(move, "mremap", -errno);
    return BERTH_MOVE_MOVED;
}

/*
 * The one step that changes what is mapped. The kernel does it under one lock, for which faults
 * wait that find no mapping. A child that is forked before or after finds what the map says.
 */
static enum berth_move_result swap(struct move *move, bool holds_forks, uint32_t *ret_word)
{
    int r = berth__move_fault(BERTH_CALL_SWAP);
    enum berth_move_result result;

    if (r < 0)
        return failed(move, "mremap", r);
    if (!holds_forks)
        pthread_mutex_lock(&movers.swap);
    result = remap(move);
    if (result == BERTH_MOVE_MOVED)
        *ret_word = enter(move, BERTH_RESIDENCE_REMAPPED);
    if (!holds_forks)
        pthread_mutex_unlock(&movers.swap);
    return result;
}

/* Copies, holding writers back unless there are none, and swaps. */
static enum berth_move_result copy_and_swap(struct move *move, uint32_t *ret_word)
{
    struct berth_move_live live = {
        .mover = move->mover,
        .from = move->p,
        .to = move->new_twin ? move->new_twin : move->scratch,
        .size = move->held,
    };
    bool quiet = move->mover->quiet;
    enum berth_move_result result =
        quiet ? berth__move_copy_quiet(live.mover, live.to, live.from, live.size)
              : berth__move_live_copy(&live, move->old_twin != NULL);

    if (result != BERTH_MOVE_MOVED)
        return result;
    result = swap(move, live.holds_forks, ret_word);
    if (!quiet)
        berth__move_live_end(&live, result == BERTH_MOVE_MOVED);
    return result;
}

/* What the mover's second thread does of it. */
struct copy_task {
    struct move *move;
    uint32_t word;
    enum berth_move_result result;
};

static void run_copy(void *context)
{
    struct copy_task *task = context;

    task->result = copy_and_swap(task->move, &task->word);
}

static enum berth_move_result move_by_copy(struct move *move)
{
    enum berth_move_result result = take_room(move);
    struct copy_task task = {.move = move};
    uint32_t word;

    if (result != BERTH_MOVE_MOVED)
        return stay(move, result);
    if (move->mover->side)
        berth__move_side_run(move->mover->side, run_copy, &task);
    else
        run_copy(&task);
    result = task.result;
    word = task.word;
    if (result == BERTH_MOVE_MOVED)
        return leave(move, word);
    release_room(move);
    return stay(move, result);
}

/* Whether what is written to memory of the tier can be held back: ordinary memory, tmpfs. */
static bool can_hold_back(const struct berth_tier *tier)
{
    return tier->kind == BERTH_KIND_FILE ? is_on_tmpfs(tier) : tier->kind != BERTH_KIND_DAX;
}

/* MOVED: nothing speaks against it. */
static enum berth_move_result check(struct move *move)
{
    const struct berth_tier *from = berth__tier(move->from);
    size_t granule = berth__movable_granule(move->to);

    if (((uintptr_t)move->p | move->held) & (granule - 1))
        return BERTH_MOVE_ALIGNMENT;
    if (!(move->word & BERTH_RESIDENCE_REMAPPED) && !berth__movable_may_remap()) {
        snprintf(move->mover->why, sizeof(move->mover->why),
                 "blocks that have moved have half of the mappings that a process may have "
                 "(vm.max_map_count)");
        return BERTH_MOVE_NO_ROOM;
    }
    if (berth__held_range_overlaps(move->p, move->held))
        return BERTH_MOVE_PINNED;
    if (is_shared_with_child(move))
        return BERTH_MOVE_SHARED;
    if (!move->mover->quiet && !can_hold_back(from))
        return BERTH_MOVE_QUIET;
    return check_mapping(move);
}

enum berth_move_result berth__move_block(struct berth_mover *mover, void *p, berth_tier_id to)
{
    struct move move = {.mover = mover, .entry = berth__residence(p), .p = p, .to = to};
    enum berth_move_result result;

    mover->why[0] = '\0';
    mover->thread = gettid();
    if (!berth__movable_can_be_in(to))
        return BERTH_MOVE_KIND;
    if (!begin(&move))
        return BERTH_MOVE_GONE;
    if (move.from == to)
        return stay(&move, BERTH_MOVE_THERE);
    result = check(&move);
    if (result != BERTH_MOVE_MOVED)
        return stay(&move, result);
    if (!berth__movable_has_twin(move.from) && !berth__movable_has_twin(to))
        return move_between_nodes(&move);
    result = check_waiters(&move);
    return result == BERTH_MOVE_MOVED ? move_by_copy(&move) : stay(&move, result);
}
