/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/fork.h"

#include "alloc/fork_turn.h"
#include "alloc/log.h"
#include "alloc/quantity.h"
#include "alloc/sandbox.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "pmem/address_limit.h"
#include "pmem/arena.h"
#include "pmem/fork_lock.h"
#include "pmem/fork_protection.h"
#include "pmem/gate.h"
#include "pmem/jemalloc.h"
#include "pmem/movable.h"
#include "pmem/move.h"
#include "pmem/overcommit.h"
#include "pmem/record.h"
#include "pmem/tend.h"
#include "pmem/tier_dram.h"
#include "pmem/tier_numa.h"
#include "pmem/window.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/wait.h>
#include <unistd.h>

/* The status of a child that had to be ended; the shell's for a command that cannot run. */
#define CHILD_ENDED 127

typedef void (*fork_handler)(void);

/*
 * The lock of the C library's list of all streams, which has no header any more. Its owner may take
 * it again.
 */
extern void _IO_list_lock(void);
extern void _IO_list_unlock(void);
extern void _IO_list_resetlock(void);

static struct {
    fork_handler prepare, parent, child;
} jemalloc_handlers;

/* What the hook of fork() has begun on this thread. */
static __thread struct berth_fork *begun;
/* The fork that is under way; guarded by jemalloc's locks. */
static struct berth_fork *under_way;
static struct berth_fork without_hook;
/* The handlers have prepared a fork on this thread, and were not told yet how it ended. */
static __thread bool prepared;
/* The fork under way is a signal handler's that came amid an allocation; guarded likewise. */
static bool interrupts;
/* How often the handlers have locked the list of streams; guarded by that lock. */
static unsigned streams_locked;
/* Of which this process is the last, of those that handlers of the C library have told. */
static volatile unsigned generation;
/* The thread's signals, which wait while it has jemalloc's locks; guarded by these. */
static struct berth_fork_turn turn;
static atomic_bool has_sharers;

/*
 * A program may have as many mappings as the kernel allows, and fork. Its child can map nothing
 * then, and a second mapping of pages (movable.c) takes more than one, so these pages, each a
 * mapping of its own, are what it gives up for its copies.
 */
#define SPARE_MAPPINGS 32
static char *spare;

/* Of a process without such tiers, or whose kernel wipes no page (before Linux 4.14). */
static _Atomic unsigned no_mark = 1;
_Atomic(_Atomic unsigned *) berth__fork_mark = &no_mark;

/* The kernel joins neighbours that are alike. */
static void take_spare(void)
{
    char *pages = MAP_FAILED;

    if (!berth__sandbox_is_on())
        pages = mmap(NULL, SPARE_MAPPINGS * BERTH_OS_PAGE, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED)
        return;
    for (size_t i = 1; i < SPARE_MAPPINGS; i += 2)
        if (mprotect(pages + i * BERTH_OS_PAGE, BERTH_OS_PAGE, PROT_READ) < 0)
            break;
    spare = pages;
}

static void give_up_spare(void)
{
    if (spare)
        munmap(spare, SPARE_MAPPINGS * BERTH_OS_PAGE);
    spare = NULL;
}

void berth__fork_set_mark(void)
{
    _Atomic unsigned *mark;

    if (!spare)
        take_spare();
    if (atomic_load(&berth__fork_mark) != &no_mark)
        return;
    mark = mmap(NULL, BERTH_OS_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mark == MAP_FAILED)
        return;
    if (madvise(mark, BERTH_OS_PAGE, MADV_WIPEONFORK) < 0) {
        munmap(mark, BERTH_OS_PAGE);
        return;
    }
    atomic_store(mark, 1);
    atomic_store(&berth__fork_mark, mark);
}

bool berth__fork_is_prepared(void)
{
    return prepared;
}

bool berth__fork_has_sharers(void)
{
    return atomic_load_explicit(&has_sharers, memory_order_relaxed);
}

static void drop_copies(struct berth_fork *attempt)
{
    for (unsigned i = 0; i < attempt->count; i++)
        berth__file_copy_drop(&attempt->copy[i]);
    attempt->count = 0;
}

static void say_refused(const struct berth_tier_file *file, int error)
{
    uint64_t size =
        atomic_load_explicit(&berth__tier_stats[file->id].reserved, memory_order_relaxed);
    char size_text[BERTH_QUANTITY_TEXT_MAX];
    char limit_text[BERTH_QUANTITY_TEXT_MAX];

    if (error == -EFBIG && size > file->fork_copy_max)
        berth__log(BERTH_LOG_ERROR, BERTH_TOPIC_FORK,
                   "fork refused: tier %s holds %s, over its fork-copy-max of %s", file->tier->name,
                   berth__quantity_format(size, size_text),
                   berth__quantity_format(file->fork_copy_max, limit_text));
    else /* strerror() may translate, and so call malloc, which is locked here. */
        berth__log(BERTH_LOG_ERROR, BERTH_TOPIC_FORK,
                   "fork refused: the child's copy of tier %s (%s) cannot be made in %s: %s",
                   file->tier->name, berth__quantity_format(size, size_text),
                   file->is_foreign || file->in_memory ? "memory" : file->tier->path,
                   strerrordesc_np(-error));
}

/* A child that could not take its copies would have to end: it is not made. */
static int refuse_unmappable(struct berth_fork *attempt)
{
    for (unsigned i = 0; i < attempt->count; i++) {
        if (berth__window_used((berth_home_id)attempt->tier[i]) == 0)
            continue;
        if (!berth__address_limit_binds())
            return 0;
        berth__log(BERTH_LOG_ERROR, BERTH_TOPIC_FORK,
                   "fork refused: the process has more addresses than it may have (RLIMIT_AS), and "
                   "its child could not map its copy of tier %s",
                   berth__tier(attempt->tier[i])->name);
        drop_copies(attempt);
        return -ENOMEM;
    }
    return 0;
}

static int begin_copies(struct berth_fork *attempt)
{
    unsigned tiers = berth__tier_count();

    attempt->failed = false;
    attempt->child = false;
    attempt->holds_moves = false;
    attempt->count = 0;
    for (unsigned id = 0; id < tiers; id++) {
        struct berth_tier_file *file = berth__tier_file((berth_tier_id)id);
        int r;

        if (file && file->fork == BERTH_FORK_SHARE)
            atomic_store_explicit(&has_sharers, true, memory_order_relaxed);
        if (!file || file->fork == BERTH_FORK_SHARE)
            continue;
        r = berth__file_copy_begin(file, attempt->shares_descriptors,
                                   &attempt->copy[attempt->count]);
        if (r < 0) {
            say_refused(file, r);
            drop_copies(attempt);
            return -ENOMEM;
        }
        attempt->tier[attempt->count++] = (berth_tier_id)id;
    }
    return refuse_unmappable(attempt);
}

/* Where the block is now in which `p` lies, an address in a window. */
static berth_tier_id tier_of(const void *p)
{
    struct berth_record record;
    const void *base;

    if (berth__is_movable(p) && berth__window_carved(p) && berth__record_find(p, &base, &record))
        return berth__residence_tier(base);
    return berth__window_tier(p);
}

static struct berth_tier_file *file_of(const void *p)
{
    return berth__gate_owns(p) ? berth__tier_file(tier_of(p)) : NULL;
}

bool berth__fork_copies(const void *p)
{
    const struct berth_tier_file *file = file_of(p);

    return file && file->fork != BERTH_FORK_SHARE;
}

/*
 * A thread's stack and its thread-local storage may be a block that the program has allocated.
 * Where that lies in a file, parent and child would both run on it until the child has its copy.
 */
static bool runs_on_file(const void *of_stack)
{
    const void *of_thread[] = {of_stack, &begun};

    for (int i = 0; i < 2; i++) {
        const struct berth_tier_file *file = file_of(of_thread[i]);

        if (file) {
            berth__log(BERTH_LOG_ERROR, BERTH_TOPIC_FORK,
                       "fork refused: the stack was allocated in tier %s, and its child "
                       "would run on the same bytes",
                       file->tier->name);
            return true;
        }
    }
    return false;
}

/* fork() is no cancellation point, but files are opened, written and closed on its behalf. */
int berth__fork_begin_clone(struct berth_fork *attempt, uint64_t flags, const void *stack)
{
    int saved_errno = errno;
    int r;

    attempt->shares_descriptors = (flags & CLONE_FILES) != 0;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &attempt->cancel_state);
    r = runs_on_file((const char *)stack - 1) || runs_on_file(&saved_errno) ? -ENOMEM
                                                                            : begin_copies(attempt);
    if (r == 0)
        begun = attempt;
    else
        pthread_setcancelstate(attempt->cancel_state, NULL);
    errno = saved_errno;
    return r;
}

int berth__fork_begin(struct berth_fork *attempt)
{
    return berth__fork_begin_clone(attempt, 0, attempt + 1);
}

int berth__fork_end(struct berth_fork *attempt, int pid)
{
    int saved_errno = errno;
    int r = 0;

    begun = NULL;
    if (!attempt->child) {
        drop_copies(attempt);
        if (attempt->holds_moves)
            berth__move_after_fork(false);
    }
    if (pid > 0 && attempt->failed) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        r = -ENOMEM;
    }
    pthread_setcancelstate(attempt->cancel_state, NULL);
    if (attempt->holds_moves)
        berth__fork_turn_over(&attempt->turn);
    errno = saved_errno;
    return r;
}

/* What cannot be read where it lies takes a mapping more to be copied. */
static int fill_copy(const struct berth_tier_file *file, struct berth_file_copy *copy)
{
    int r = berth__file_copy_fill(file, copy);

    if (r == -EFAULT && spare && !berth__sandbox_is_on()) {
        give_up_spare();
        r = berth__file_copy_fill(file, copy);
        take_spare();
    }
    return r;
}

static void fill_copies(struct berth_fork *attempt)
{
    berth__tier_numa_before_fork();
    for (unsigned i = 0; i < attempt->count; i++) {
        struct berth_tier_file *file = berth__tier_file(attempt->tier[i]);
        int r = fill_copy(file, &attempt->copy[i]);

        if (r < 0) {
            say_refused(file, r);
            attempt->failed = true;
            return;
        }
    }
}

int berth__fork_fill(struct berth_fork *attempt)
{
    int saved_errno = errno;

    berth__fork_turn_begin(&attempt->turn);
    while (!berth__move_try_hold())
        berth__fork_turn_pause(&attempt->turn);
    attempt->holds_moves = true;
    fill_copies(attempt);
    errno = saved_errno;
    return attempt->failed ? -ENOMEM : 0;
}

/*
 * The thread's caches go while jemalloc's locks are free; whether the thread itself holds some is
 * known only when all were asked for. Code that was interrupted needs its caches when it goes on.
 */
static void lock_jemalloc(const struct berth_fork_turn *mine)
{
    bool amid = berth__thread.inside != 0;

    if (!amid && berth__arena_has_caches()) {
        amid = berth__fork_lock_take(jemalloc_handlers.prepare, jemalloc_handlers.parent, mine);
        if (amid) {
            interrupts = true;
            return;
        }
        berth__fork_lock_give_back(jemalloc_handlers.parent);
        berth__arena_before_fork();
    }
    interrupts =
        berth__fork_lock_take(jemalloc_handlers.prepare, jemalloc_handlers.parent, mine) || amid;
}

/* What is waited for may need memory, and the thread that has it, signals. */
static void lock_all(const struct berth_fork_turn *mine)
{
    for (;;) {
        lock_jemalloc(mine);
        if (berth__move_try_hold())
            return;
        berth__fork_lock_give_back(jemalloc_handlers.parent);
        berth__fork_turn_pause(mine);
    }
}

/*
 * fork() locks the list of streams when all handlers have run, and its own allocator after that,
 * because fflush(NULL) has the list locked while it waits for a stream, and who has that stream may
 * be in malloc(). jemalloc's locks must come after the list's as well. The C library needs neither
 * in a program with one thread. Signals come while this waits, as in fork() itself: one whose
 * handler forks takes the list's lock once more. Where that handler returns in the child, which has
 * had the lock made anew, nothing tells whether this thread has it since, and no other can.
 */
static void lock_streams(struct berth_fork_turn *mine)
{
    unsigned before = generation;
    bool alone = __libc_single_threaded;

    if (!alone)
        _IO_list_lock();
    berth__fork_turn_begin(mine);
    if (alone)
        return;
    if (generation == before)
        streams_locked++;
    else
        _IO_list_resetlock();
}

/* While no signal comes: see above. */
static void unlock_streams(void)
{
    if (streams_locked == 0)
        return;
    streams_locked--;
    _IO_list_unlock();
}

/* As the C library has done already, where it is the one that forked. */
static void renew_streams(void)
{
    if (streams_locked != 0)
        _IO_list_resetlock();
    streams_locked = 0;
}

static void prepare(void)
{
    int saved_errno = errno;
    struct berth_fork_turn mine;

    lock_streams(&mine);
    lock_all(&mine);
    turn = mine;
    under_way = begun;
    if (!under_way) {
        under_way = &without_hook;
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &without_hook.cancel_state);
        if (begin_copies(&without_hook) < 0)
            without_hook.failed = true;
    }
    if (!under_way->failed)
        fill_copies(under_way);
    prepared = true;
    errno = saved_errno;
}

/* The last of the handlers' work: jemalloc's locks are still held. */
static void finish_without_hook(void)
{
    drop_copies(&without_hook);
    pthread_setcancelstate(without_hook.cancel_state, NULL);
}

static void parent(void)
{
    int saved_errno = errno;
    struct berth_fork_turn mine = turn;

    prepared = false;
    if (under_way == &without_hook)
        finish_without_hook();
    under_way = NULL;
    berth__move_after_fork(false);
    errno = saved_errno;
    berth__fork_lock_give_back(jemalloc_handlers.parent);
    unlock_streams();
    berth__fork_turn_over(&mine);
}

static void end_child(void)
{
    berth__log(BERTH_LOG_ERROR, BERTH_TOPIC_FORK,
               "a forked child cannot map its copy of a tier, and ends");
    _exit(CHILD_ENDED);
}

static void leave_to_parent(void)
{
    unsigned tiers = berth__tier_count();

    for (unsigned id = 0; id < tiers; id++) {
        struct berth_tier_file *file = berth__tier_file((berth_tier_id)id);

        if (file && file->fork == BERTH_FORK_SHARE)
            file->is_parents = true;
    }
}

/* Whether anything lies in the tiers that are copied. */
static bool has_used(const struct berth_fork *attempt)
{
    for (unsigned i = 0; i < attempt->count; i++)
        if (berth__window_used((berth_home_id)attempt->tier[i]) > 0)
            return true;
    return false;
}

static void take_copies(struct berth_fork *attempt)
{
    struct berth_address_limit limit = {.lifted = false};
    struct berth_fork_protection protection = {.count = 0};

    attempt->child = true;
    berth__overcommit_in_child();
    berth__tier_dram_in_child();
    leave_to_parent();
    berth__tend_in_child();
    berth__arena_in_child();
    give_up_spare();
    atomic_store(atomic_load(&berth__fork_mark), 1);
    berth__tier_numa_in_child();
    if (attempt->count > 0)
        berth__address_limit_lift(&limit);
    if (has_used(attempt))
        berth__fork_protection_take(&protection);
    for (unsigned i = 0; i < attempt->count; i++) {
        if (berth__file_copy_take(berth__tier_file(attempt->tier[i]), &attempt->copy[i]) < 0)
            end_child();
    }
    if (berth__movable_follow_copies() < 0)
        end_child();
    berth__fork_protection_set(&protection);
    take_spare(); /* for its own children */
    berth__address_limit_restore(&limit);
    attempt->count = 0;
    berth__move_after_fork(true);
}

void berth__fork_take(struct berth_fork *attempt)
{
    int saved_errno = errno;

    take_copies(attempt);
    errno = saved_errno;
}

/* No other thread is there: of the parent's, the child has the one that forked. */
void berth__fork_meet(void)
{
    int saved_errno = errno;
    struct berth_fork attempt = {.shares_descriptors = false};

    atomic_store(atomic_load(&berth__fork_mark), 1);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &attempt.cancel_state);
    if (begin_copies(&attempt) < 0)
        end_child();
    if (attempt.count > 0)
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_FORK,
                   "this child was forked past the C library: what it and its parent have written "
                   "to tiers until now, both see");
    fill_copies(&attempt);
    if (attempt.failed)
        end_child();
    take_copies(&attempt);
    pthread_setcancelstate(attempt.cancel_state, NULL);
    errno = saved_errno;
}

static void child(void)
{
    struct berth_fork *attempt = under_way;
    int saved_errno = errno;

    prepared = false;
    if (attempt->failed)
        _exit(CHILD_ENDED);
    generation++;
    renew_streams();
    take_copies(attempt);
    if (attempt == &without_hook)
        finish_without_hook();
    under_way = NULL;
    if (interrupts)
        berth__arena_leave_caches();
    errno = saved_errno;
    berth__fork_lock_renew(jemalloc_handlers.child);
    berth__fork_turn_over(&turn);
}

/* What jemalloc calls as pthread_atfork (embed_jemalloc.sh), once, at its first allocation. */
BERTH_HIDDEN int berth_je_pthread_atfork(fork_handler je_prepare, fork_handler je_parent,
                                         fork_handler je_child);

int berth_je_pthread_atfork(fork_handler je_prepare, fork_handler je_parent, fork_handler je_child)
{
    jemalloc_handlers.prepare = je_prepare;
    jemalloc_handlers.parent = je_parent;
    jemalloc_handlers.child = je_child;
    return pthread_atfork(prepare, parent, child);
}

/* No two threads are here with no handler: what makes a thread allocates. */
void berth__fork_set_handlers(void)
{
    if (!jemalloc_handlers.prepare)
        berth_je_free(berth_je_malloc(BERTH_BLOCK_MIN));
}
