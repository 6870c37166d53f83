/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/arena.h"

#include "alloc/birth.h"
#include "alloc/log.h"
#include "alloc/stats.h"
#include "alloc/thread_key.h"
#include "alloc/tier_ops.h"
#include "pmem/arena_control.h"
#include "pmem/extent.h"
#include "pmem/fork.h"
#include "pmem/jemalloc.h"
#include "pmem/keep.h"
#include "pmem/overcommit.h"
#include "pmem/tend.h"
#include "pmem/tier_file.h"
#include "pmem/tier_use.h"
#include "pmem/window.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

/* More arenas than this per tier would only spread its free memory. */
#define ARENAS_PER_TIER_MAX 16
/* jemalloc's largest size class that shares pages; above it a tcache saves little. */
#define TCACHE_SIZE_MAX ((size_t)14 << 10)
/* The least alignment that the C library promises. */
#define SIZE_MIN ((size_t)16)
/*
 * The step by which an arena takes addresses: 64 MiB. Free neighbours become one extent only within
 * a step, so that steps which begin at jemalloc's 2 MiB leave large blocks no room among small
 * remainders. Larger ones would be felt where a program limits its address space.
 */
#define STEP ((size_t)64 << 20)
/* jemalloc's own first step: less is not worth asking for. */
#define STEP_MIN ((size_t)2 << 20)
/* The first steps of a tier's arenas take no more than a quarter of its window. */
#define STEP_SHARE_SHIFT 2

/* jemalloc's decay, and that of a tier whose section in the policy tells none. */
#define DECAY_USUAL_MS 10000

/*
 * What was freed counts, for jemalloc, as freed when it looks next: it is gone after a decay and
 * the time between two looks.
 */
#define TENDS_PER_DECAY 4
#define TEND_MIN_MS 100
#define TEND_MAX_MS (DECAY_USUAL_MS / TENDS_PER_DECAY)

/* The longest that jemalloc takes, 584 years; it would keep to its own for a longer one. */
#define DECAY_MAX_MS ((int64_t)(UINT64_MAX / 1000000000) * 1000)

/*
 * Where large pieces are kept, a program that holds nearly nothing any more is left no more than
 * this in all: so much jemalloc may keep, too, in pieces of less than 8 MiB.
 */
#define IDLE_MAX ((uint64_t)48 << 20)
#define IDLE_SHARE 8
/* One that does so all the time would pay for its memory each time. */
#define IDLE_PERIOD_NS ((uint64_t)1000 * 1000 * 1000)

/* For each OS page that goes back because it did not suit; see may_drop_unsuited(). */
#define UNSUITED_PAGE_NS 50000

/* After this many frees a tier that had nothing to give back is asked again. */
#define FREES_BETWEEN_RECLAIMS 64

/* The round of thread destructors in which jemalloc ends its thread: the last one. */
#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer ends its own state in the last round, before us: its locks cannot be used then.
 */
#define LAST_ROUND (PTHREAD_DESTRUCTOR_ITERATIONS - 1)
#else
#define LAST_ROUND PTHREAD_DESTRUCTOR_ITERATIONS
#endif

struct home_arenas {
    struct berth_extent_hooks hooks;
    _Atomic unsigned index[ARENAS_PER_TIER_MAX]; /* jemalloc's number, plus 1; 0 = none yet */
    _Atomic int64_t decay_ms;                    /* plus 2; 0 = as jemalloc has it */
    _Atomic unsigned shortage;                   /* how often what is cached was called in */
    _Atomic bool keeps_pieces;                   /* see purge_at_once() */
    _Atomic size_t grown;                        /* new memory since kept pieces were looked at */
    _Atomic uint64_t dropped;                    /* when most of what is kept last went back */
    _Atomic uint64_t unsuited_until;             /* see may_drop_unsuited() */
    /* Live bytes (at first: no bound) and frees of the tier when that last gave nothing. */
    _Atomic uint64_t held_in_vain, frees_in_vain;
};

/* TCACHE_NEW: not asked for yet; else jemalloc's tcache flag, which may be MALLOCX_TCACHE_NONE. */
#define TCACHE_NEW 0

struct arena_thread {
    bool dead;            /* its tcaches are destroyed; it makes no new ones */
    unsigned char rounds; /* of destructors at its end */
    unsigned slot;        /* plus 1; 0 = none yet */
    int tcache_flag[BERTH_HOME_MAX];
    unsigned shortage[BERTH_HOME_MAX]; /* of the tier, when its tcache was last emptied */
    struct berth_keep keep;            /* of ordinary memory */
};

/* What the control thread saw when it looked after a home, and since when that is so. */
struct quiet {
    uint64_t frees, reserved;
    int64_t since_ms;
};

static struct home_arenas homes[BERTH_HOME_MAX];
static struct quiet quiets[BERTH_HOME_MAX]; /* the control thread's own */
static __thread struct arena_thread thread_state;
static _Atomic unsigned threads_in[ARENAS_PER_TIER_MAX]; /* living threads that use the slot */
static _Atomic unsigned arenas_per_tier;
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER; /* taken before jemalloc's locks */

/* jemalloc's own work at a thread's end, and the key that it waits on. */
static void (*jemalloc_cleanup)(void *);
static pthread_key_t jemalloc_key;

/* `next` is what the thread has from then on. */
static void destroy_tcache(struct arena_thread *thread, berth_home_id home, int next)
{
    int flag = thread->tcache_flag[home];
    unsigned tcache = ((unsigned)flag >> 8) - 2;

    thread->tcache_flag[home] = next;
    if (flag != TCACHE_NEW && flag != MALLOCX_TCACHE_NONE)
        berth_je_mallctl("tcache.destroy", NULL, NULL, &tcache, sizeof(tcache));
}

static void destroy_tcaches(struct arena_thread *thread, int next)
{
    for (int i = 0; i < BERTH_HOME_MAX; i++)
        destroy_tcache(thread, (berth_home_id)i, next);
}

/*
 * Whether the policy wants unused memory kept for longer than is usual: then it goes back by time
 * alone.
 */
static bool keeps_longer(berth_home_id home)
{
    int64_t decay_ms = atomic_load_explicit(&homes[home].decay_ms, memory_order_relaxed);

    return decay_ms == BERTH_DECAY_NEVER + 2 || decay_ms > DECAY_USUAL_MS + 2;
}

/* Whether the tier is memory of the process alone, which costs nothing until it is touched. */
static bool is_private(berth_tier_id tier)
{
    enum berth_tier_kind kind = berth__tier(tier)->kind;

    return (kind == BERTH_KIND_DRAM || kind == BERTH_KIND_NUMA) && !berth__tier_file(tier);
}

/* Gives back what the arena of the slot keeps free, if there is one. */
static void purge(berth_home_id home, unsigned slot)
{
    unsigned index = atomic_load_explicit(&homes[home].index[slot], memory_order_acquire);

    if (index != 0)
        berth__arena_control_purge(index - 1);
}

static void drop_kept(void *p, size_t held)
{
    berth_je_sdallocx(p, held, MALLOCX_TCACHE_NONE);
}

/*
 * When no thread uses a slot any more, the ordinary memory that its arenas keep goes back, as
 * jemalloc's own arenas do it: nothing else would, because memory decays by calls. Files keep what
 * they have: to punch a hole in one and fill it again for every short thread costs too much.
 */
static void leave_slot(struct arena_thread *thread)
{
    unsigned slot = thread->slot - 1;

    if (thread->slot == 0 ||
        atomic_fetch_sub_explicit(&threads_in[slot], 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < berth__tier_count(); i++)
        if (is_private((berth_tier_id)i) && !keeps_longer((berth_home_id)i))
            purge((berth_home_id)i, slot);
    purge(BERTH_HOME_MOVABLE, slot);
}

/*
 * Stands in for jemalloc's destructor. Other destructors may allocate in every round that the C
 * library makes, and once jemalloc has cleaned up it ignores the arena that a call names: so both
 * wait for the last round.
 */
static void thread_ends(void *value)
{
    if (++thread_state.rounds < LAST_ROUND && pthread_setspecific(jemalloc_key, value) == 0)
        return;
    /* jemalloc asks for one more round to see that nothing came after: ours is done once. */
    if (!thread_state.dead) {
        thread_state.dead = true;
        destroy_tcaches(&thread_state, MALLOCX_TCACHE_NONE);
        berth__keep_empty(&thread_state.keep, true, drop_kept);
        leave_slot(&thread_state);
    }
    jemalloc_cleanup(value);
}

/* What jemalloc calls as pthread_key_create (embed_jemalloc.sh), once, at its first allocation. */
BERTH_HIDDEN int berth_je_pthread_key_create(pthread_key_t *key, void (*cleanup)(void *));

int berth_je_pthread_key_create(pthread_key_t *key, void (*cleanup)(void *))
{
    int r = berth__thread_key_create(key, thread_ends);

    jemalloc_cleanup = cleanup;
    jemalloc_key = *key;
    return r;
}

bool berth__arena_has_caches(void)
{
    for (int i = 0; i < BERTH_HOME_MAX; i++)
        if (!thread_state.dead && thread_state.tcache_flag[i] != TCACHE_NEW)
            return true;
    return false;
}

void berth__arena_leave_caches(void)
{
    for (int i = 0; i < BERTH_HOME_MAX; i++)
        if (!thread_state.dead)
            thread_state.tcache_flag[i] = TCACHE_NEW;
}

void berth__arena_before_fork(void)
{
    if (!thread_state.dead)
        destroy_tcaches(&thread_state, TCACHE_NEW);
}

void berth__arena_register(void)
{
    for (int i = 0; i < BERTH_HOME_MAX; i++) {
        homes[i].hooks.hooks = berth__extent_hooks;
        homes[i].hooks.home = (berth_home_id)i;
        homes[i].held_in_vain = UINT64_MAX;
    }
    berth__arena_control_start();
}

void berth__arena_set_decay(berth_home_id home, int64_t decay_ms)
{
    if (decay_ms > DECAY_MAX_MS)
        decay_ms = BERTH_DECAY_NEVER;
    atomic_store(&homes[home].decay_ms, decay_ms == BERTH_DECAY_DEFAULT ? 0 : decay_ms + 2);
}

static unsigned arena_count(void)
{
    unsigned count = atomic_load_explicit(&arenas_per_tier, memory_order_relaxed);
    cpu_set_t cpus;

    if (count)
        return count;
    count = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? (unsigned)CPU_COUNT(&cpus)
                                                           : ARENAS_PER_TIER_MAX;
    if (count > ARENAS_PER_TIER_MAX)
        count = ARENAS_PER_TIER_MAX;
    atomic_store_explicit(&arenas_per_tier, count, memory_order_relaxed);
    return count;
}

/*
 * From which size on a free extent goes back at once. jemalloc has 8 MiB, so that a program which
 * uses large buffers again and again pays for their memory each time: once it is seen to do so,
 * pieces of up to 64 MiB are kept. That is from where on the C library comes to trim its heap. A
 * file always keeps them, because to punch holes in one and to fill them costs more.
 */
static size_t purge_at_once(berth_home_id home)
{
    if (keeps_longer(home))
        return SIZE_MAX;
    if (is_private(berth__home_tier(home)) &&
        !atomic_load_explicit(&homes[home].keeps_pieces, memory_order_relaxed))
        return BERTH_EXTENT_PIECE;
    return (size_t)64 << 20;
}

static void configure(unsigned arena, berth_home_id home)
{
    int64_t decay_ms = atomic_load(&homes[home].decay_ms);

    berth__arena_control_set(arena, "retain_grow_limit", STEP);
    berth__arena_control_set(arena, "oversize_threshold", purge_at_once(home));
    /* No lazy purging: pages that are not needed go back, and read as zero. */
    berth__arena_control_set_decay(arena, "muzzy_decay_ms", 0);
    if (decay_ms)
        berth__arena_control_set_decay(arena, "dirty_decay_ms", decay_ms - 2);
}

/* What the arenas of a home may take before they need it. */
static size_t room_of(berth_home_id home)
{
    size_t room = berth__window_size(home);
    size_t limit = berth__overcommit_data_limit();

    /* The kernel counts what can be written, used or not. */
    return limit < room ? limit : room;
}

/* Lets a new arena take its first step. Nothing is lost if there is no room for it. */
static void take_first_step(unsigned arena, berth_home_id home)
{
    size_t room = room_of(home) / arena_count() >> STEP_SHARE_SHIFT;
    size_t step = STEP;

    while (step > room)
        step >>= 1;
    if (step >= STEP_MIN)
        berth__arena_control_take_addresses(arena, step);
}

/* Whether as much as a large piece was had again since one went back, within seconds. */
static bool has_again(const struct berth_extent_hooks *hooks)
{
    return atomic_load_explicit(&hooks->rounds, memory_order_relaxed) != 0 &&
           atomic_load_explicit(&hooks->had, memory_order_relaxed) >= BERTH_EXTENT_PIECE;
}

/* Large pieces go back, to be asked for again, and will be once more. By a thread that holds no
 * lock. */
static __attribute__((noinline)) void see_pieces(berth_home_id home)
{
    atomic_store_explicit(&homes[home].hooks.rounds, 0, memory_order_relaxed);
    if (!is_private(berth__home_tier(home)) || atomic_exchange(&homes[home].keeps_pieces, true))
        return;
    for (unsigned slot = 0; slot < ARENAS_PER_TIER_MAX; slot++) {
        unsigned index = atomic_load_explicit(&homes[home].index[slot], memory_order_acquire);

        if (index != 0)
            berth__arena_control_set(index - 1, "oversize_threshold", purge_at_once(home));
    }
}

/* An arena of the home, plus 1; 0: there can be none. */
static unsigned new_arena(berth_home_id home)
{
    unsigned arena;

    if (berth__arena_control_make(&homes[home].hooks.hooks, &arena) < 0)
        return 0;
    /*
     * jemalloc serves no block from an extent 64 times as large, but from new addresses: that is
     * cheap in ordinary memory, and not in a file, where small steps keep such extents rare.
     */
    if (is_private(berth__home_tier(home)))
        take_first_step(arena, home);
    configure(arena, home);
    return arena + 1;
}

/*
 * Makes the home's arena of this slot. Who wants the same waits: an arena made in vain could not be
 * got rid of, because jemalloc has one destroyed under who is walking through all of them, as a
 * program may have it do. The caller holds no lock, because jemalloc takes its own.
 */
static unsigned make_arena(berth_home_id home, unsigned slot)
{
    static _Atomic int said;
    _Atomic unsigned *index = &homes[home].index[slot];
    unsigned made, found = 0;

    pthread_mutex_lock(&making);
    made = atomic_load_explicit(index, memory_order_acquire);
    if (made == 0) {
        made = new_arena(home);
        /* Unless a child's signal handler, which the lock was made anew for, was first. */
        if (made != 0 && !atomic_compare_exchange_strong(index, &found, made))
            made = found;
    }
    pthread_mutex_unlock(&making);
    if (made != 0)
        berth__tend_begin();
    else
        berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_TIER,
                        "jemalloc can make no arena more for tier %u: there is no memory, or "
                        "this process has 4095 of them",
                        berth__home_tier(home));
    return made;
}

/* The child has none of the threads that could be making one. */
void berth__arena_in_child(void)
{
    pthread_mutex_init(&making, NULL);
}

/* Plus 1: the slot that the fewest threads use. Two that choose at once may choose the same. */
static unsigned join_slot(void)
{
    unsigned count = arena_count();
    unsigned best = 0;
    unsigned least = UINT_MAX;

    for (unsigned i = 0; i < count && least > 0; i++) {
        unsigned threads = atomic_load_explicit(&threads_in[i], memory_order_relaxed);

        if (threads < least) {
            least = threads;
            best = i;
        }
    }
    atomic_fetch_add_explicit(&threads_in[best], 1, memory_order_relaxed);
    return best + 1;
}

/* The flag of this thread's arena in the tier; 0 if the tier has none and none can be made. */
static int arena_flag(berth_home_id home)
{
    struct home_arenas *arenas = &homes[home];
    unsigned slot, index;

    if (BERTH_UNLIKELY(thread_state.slot == 0))
        thread_state.slot = join_slot();
    slot = thread_state.slot - 1;
    index = atomic_load_explicit(&arenas->index[slot], memory_order_acquire);
    if (BERTH_UNLIKELY(index == 0)) {
        if (!berth__window_ready(home))
            return 0;
        index = make_arena(home, slot);
        if (index == 0)
            index = atomic_load_explicit(&arenas->index[0], memory_order_acquire);
        if (index == 0)
            return 0;
    }
    return MALLOCX_ARENA(index - 1);
}

static int make_tcache(berth_home_id home)
{
    int flag = MALLOCX_TCACHE_NONE;
    unsigned tcache;
    size_t size = sizeof(tcache);

    if (!thread_state.dead && berth_je_mallctl("tcache.create", &tcache, &size, NULL, 0) == 0)
        flag = MALLOCX_TCACHE(tcache);
    thread_state.tcache_flag[home] = flag;
    return flag;
}

/*
 * Empties what this thread caches: the tier is short of memory. By "tcache.flush" jemalloc would
 * make the cache anew when it is next used, and abort where there is no memory for that.
 */
static void flush_tcache(berth_home_id home)
{
    thread_state.shortage[home] = atomic_load_explicit(&homes[home].shortage, memory_order_relaxed);
    if (thread_state.tcache_flag[home] != MALLOCX_TCACHE_NONE)
        destroy_tcache(&thread_state, home, TCACHE_NEW);
    if (home == BERTH_TIER_DRAM)
        berth__keep_empty(&thread_state.keep, false, drop_kept);
}

static bool is_short(berth_home_id home)
{
    return BERTH_UNLIKELY(thread_state.shortage[home] !=
                          atomic_load_explicit(&homes[home].shortage, memory_order_relaxed));
}

/*
 * Whether this thread keeps what it frees of the home: of ordinary memory, unless the policy wants
 * unused memory gone sooner than is usual, or jemalloc is to fill what comes and goes.
 */
static bool has_keep(berth_home_id home, size_t size)
{
    int64_t decay_ms;

    if (home != BERTH_TIER_DRAM || size < BERTH_KEEP_SIZE_MIN || thread_state.dead ||
        berth__arena_control_fills())
        return false;
    decay_ms = atomic_load_explicit(&homes[home].decay_ms, memory_order_relaxed);
    return decay_ms == 0 || decay_ms >= DECAY_USUAL_MS + 2 || decay_ms == BERTH_DECAY_NEVER + 2;
}

static void *take_kept(berth_home_id home, size_t size, size_t alignment, bool zero)
{
    size_t held;
    void *p;

    if (is_short(home))
        flush_tcache(home);
    p = berth__keep_take(&thread_state.keep, size, alignment, &held);
    return p && zero ? memset(p, 0, held) : p;
}

static bool put_kept(berth_home_id home, void *p, size_t held)
{
    if (is_short(home))
        flush_tcache(home);
    return berth__keep_put(&thread_state.keep, p, held, drop_kept);
}

static int tcache_flag(berth_home_id home, size_t held)
{
    int flag;

    if (held > TCACHE_SIZE_MAX)
        return MALLOCX_TCACHE_NONE;
    if (is_short(home))
        flush_tcache(home);
    flag = thread_state.tcache_flag[home];
    return BERTH_LIKELY(flag != TCACHE_NEW) ? flag : make_tcache(home);
}

static void purge_all(berth_home_id home)
{
    for (unsigned slot = 0; slot < ARENAS_PER_TIER_MAX; slot++)
        purge(home, slot);
}

/* Whether it is a while since most of what is kept last went back; the next while begins then. */
static bool may_drop(berth_home_id home)
{
    uint64_t now = berth__birth_now();
    uint64_t then = atomic_load_explicit(&homes[home].dropped, memory_order_relaxed);

    return now - then >= IDLE_PERIOD_NS &&
           atomic_compare_exchange_strong(&homes[home].dropped, &then, now);
}

/*
 * To have `idle` bytes again costs about 1 us for each page: what did not suit goes back no sooner
 * after the last time than makes that a 50th of all time. Threads that get and free blocks of many
 * sizes would otherwise have the same memory again and again, because sizes that do not suit are
 * idle all the time.
 */
static bool may_drop_unsuited(berth_home_id home, uint64_t idle)
{
    uint64_t now = berth__birth_now();
    uint64_t until = atomic_load_explicit(&homes[home].unsuited_until, memory_order_relaxed);

    return now >= until &&
           atomic_compare_exchange_strong(&homes[home].unsuited_until, &until,
                                          now + (idle >> BERTH_OS_PAGE_SHIFT) * UNSUITED_PAGE_NS);
}

/*
 * A block, or some, were given much new memory, of which little was touched yet: what is kept and
 * did not suit them goes back now, so that no more is resident than if large pieces were not kept.
 * While a program has much, that is not worth it each time for small pieces: of several threads,
 * one may always ask where the others free. `more` bytes are not counted yet.
 */
static __attribute__((noinline)) void drop_unsuited(berth_home_id home, uint64_t had, uint64_t more)
{
    struct berth_tier_use use;

    if (!atomic_load_explicit(&homes[home].keeps_pieces, memory_order_relaxed) ||
        keeps_longer(home))
        return;
    had += atomic_fetch_add_explicit(&homes[home].grown, had, memory_order_relaxed);
    if (had < BERTH_USE_IDLE_MIN)
        return;
    use = berth__tier_use(berth__home_tier(home), more);
    if ((berth__tier_use_is_beyond(&use, more) &&
         (more >= BERTH_EXTENT_PIECE || may_drop_unsuited(home, use.idle))) ||
        (had >= BERTH_EXTENT_PIECE && use.idle > IDLE_MAX && may_drop(home)))
        purge_all(home);
    else if (had < BERTH_EXTENT_PIECE)
        return;
    atomic_store_explicit(&homes[home].grown, 0, memory_order_relaxed);
}

/* Once the program has given back nearly all that it had. */
static __attribute__((noinline)) void drop_most(berth_home_id home)
{
    struct berth_tier_use use = berth__tier_use(berth__home_tier(home), 0);

    if (BERTH_LIKELY(use.idle <= IDLE_MAX || use.held >= use.idle / IDLE_SHARE) ||
        keeps_longer(home))
        return;
    if (may_drop(home))
        purge_all(home);
}

static int alignment_flag(size_t alignment)
{
    return alignment > 1 ? MALLOCX_LG_ALIGN(__builtin_ctzl(alignment)) : 0;
}

/*
 * Whether `size` bytes may find room once the tier has back what is kept for reuse. What gave
 * nothing the last time is asked again only after that much was freed, or many frees: a full tier
 * must not pay for each request that goes on to the next place.
 */
static bool worth_a_reclaim(berth_home_id home, size_t size, uint64_t *ret_held,
                            uint64_t *ret_frees)
{
    const struct berth_tier_stats *stats = &berth__tier_stats[berth__home_tier(home)];
    uint64_t capacity =
        atomic_load_explicit(&berth__tier(berth__home_tier(home))->capacity, memory_order_relaxed);
    uint64_t held = berth__tier_held(berth__home_tier(home), ret_frees);

    *ret_held = held;
    if (atomic_load_explicit(&stats->reserved, memory_order_relaxed) <= held ||
        size > UINT64_MAX - held || (capacity != 0 && held + size > capacity))
        return false;
    return held + size <= atomic_load(&homes[home].held_in_vain) ||
           *ret_frees - atomic_load(&homes[home].frees_in_vain) >= FREES_BETWEEN_RECLAIMS;
}

/* Gives back what the tier keeps; other threads empty their tcaches at their next call. */
static void reclaim(berth_home_id home)
{
    atomic_fetch_add_explicit(&homes[home].shortage, 1, memory_order_relaxed);
    flush_tcache(home);
    purge_all(home);
}

void berth__arena_trim(void)
{
    for (unsigned id = 0; id < BERTH_HOME_MAX; id++)
        if (berth__window_base((berth_home_id)id) != 0)
            reclaim((berth_home_id)id);
}

/* How long the home keeps what is free: 0 or less where time has no part in it. */
static int64_t decay_of(berth_home_id home)
{
    int64_t decay_ms = atomic_load_explicit(&homes[home].decay_ms, memory_order_relaxed);

    return decay_ms == 0 ? DECAY_USUAL_MS : decay_ms - 2;
}

static void decay(berth_home_id home)
{
    for (unsigned slot = 0; slot < ARENAS_PER_TIER_MAX; slot++) {
        unsigned index = atomic_load_explicit(&homes[home].index[slot], memory_order_acquire);

        if (index != 0)
            berth__arena_control_decay(index - 1);
    }
}

/*
 * When the home is to be looked after next. A short decay would wake an idle program for ever: the
 * longer nothing was freed, nor given back, the later.
 */
static int64_t next_tend(berth_home_id home, int64_t decay_ms)
{
    struct quiet *quiet = &quiets[home];
    berth_tier_id id = berth__home_tier(home);
    int64_t now_ms = (int64_t)(berth__birth_now() / 1000000);
    uint64_t reserved = atomic_load_explicit(&berth__tier_stats[id].reserved, memory_order_relaxed);
    int64_t interval =
        decay_ms < TEND_MIN_MS * TENDS_PER_DECAY ? TEND_MIN_MS : decay_ms / TENDS_PER_DECAY;
    uint64_t frees;

    (void)berth__tier_held(id, &frees);
    if (frees != quiet->frees || reserved != quiet->reserved || quiet->since_ms == 0)
        *quiet = (struct quiet){.frees = frees, .reserved = reserved, .since_ms = now_ms};
    if (now_ms - quiet->since_ms > 2 * decay_ms &&
        interval < (now_ms - quiet->since_ms) / TENDS_PER_DECAY)
        interval = (now_ms - quiet->since_ms) / TENDS_PER_DECAY;
    return interval;
}

void berth__arena_decay(void)
{
    for (unsigned id = 0; id < BERTH_HOME_MAX; id++)
        if (berth__window_base((berth_home_id)id) != 0 && decay_of((berth_home_id)id) > 0)
            decay((berth_home_id)id);
}

int berth__arena_tend(void)
{
    int64_t next_ms = TEND_MAX_MS;

    for (unsigned id = 0; id < BERTH_HOME_MAX; id++) {
        int64_t decay_ms = decay_of((berth_home_id)id);
        int64_t interval;

        if (berth__window_base((berth_home_id)id) == 0 || decay_ms <= 0)
            continue;
        decay((berth_home_id)id);
        interval = next_tend((berth_home_id)id, decay_ms);
        if (interval < next_ms)
            next_ms = interval;
    }
    return (int)next_ms;
}

/* The tier had no room: what another thread has freed may be kept in its arena. */
static void *alloc_reclaimed(berth_home_id home, size_t size, int flags)
{
    int saved_errno = errno;
    uint64_t held, frees;
    void *p;

    if (!worth_a_reclaim(home, size, &held, &frees))
        return NULL;
    reclaim(home);
    berth__extent_begin();
    p = berth_je_mallocx(size, flags | MALLOCX_TCACHE_NONE);
    if (!p) {
        atomic_store(&homes[home].held_in_vain, held);
        atomic_store(&homes[home].frees_in_vain, frees);
        return NULL;
    }
    errno = saved_errno;
    return p;
}

void *berth__arena_alloc(berth_home_id home, size_t size, size_t alignment, bool zero)
{
    int flags;
    void *p;

    berth__fork_look();
    if (has_keep(home, size)) {
        p = take_kept(home, size, alignment, zero);
        if (p)
            return p;
    }
    flags = arena_flag(home);
    if (flags == 0)
        return NULL;
    if (size < SIZE_MIN)
        size = SIZE_MIN;
    berth__extent_begin();
    flags |= alignment_flag(alignment) | (zero ? MALLOCX_ZERO : 0);
    p = berth_je_mallocx(size, flags | tcache_flag(home, size));
    if (BERTH_UNLIKELY(has_again(&homes[home].hooks)))
        see_pieces(home);
    if (BERTH_UNLIKELY(berth__extent_had() != 0))
        drop_unsuited(home, berth__extent_had(), p ? size : 0);
    return BERTH_LIKELY(p) ? p : alloc_reclaimed(home, size, flags);
}

void berth__arena_free(berth_home_id home, void *p, size_t held)
{
    berth__fork_look();
    if (has_keep(home, held) && put_kept(home, p, held))
        return;
    berth_je_sdallocx(p, held, tcache_flag(home, held));
    if (BERTH_UNLIKELY(atomic_load_explicit(&homes[home].keeps_pieces, memory_order_relaxed)))
        drop_most(home);
}

void *berth__arena_alloc_apart(berth_home_id home, size_t size, size_t alignment, bool zero)
{
    int flags;

    berth__fork_look();
    flags = arena_flag(home);
    if (flags == 0)
        return NULL;
    berth__extent_begin();
    flags |= alignment_flag(alignment) | (zero ? MALLOCX_ZERO : 0) | MALLOCX_TCACHE_NONE;
    return berth_je_mallocx(size < SIZE_MIN ? SIZE_MIN : size, flags);
}

void berth__arena_free_apart(void *p, size_t held)
{
    berth_je_sdallocx(p, held, MALLOCX_TCACHE_NONE);
}

size_t berth__arena_resize(void *p, size_t size)
{
    size_t held;

    berth__extent_begin();
    held = berth_je_xallocx(p, size < SIZE_MIN ? SIZE_MIN : size, 0, 0);
    if (BERTH_UNLIKELY(berth__extent_had() != 0))
        drop_unsuited(berth__window_home(p), berth__extent_had(), berth__extent_had());
    return held;
}

size_t berth__arena_held(const void *p)
{
    return berth_je_sallocx(p, 0);
}

void berth__arena_totals(berth_home_id home, struct berth_arena_totals *ret)
{
    *ret = (struct berth_arena_totals){0};
    for (int i = 0; i < ARENAS_PER_TIER_MAX; i++) {
        unsigned index = atomic_load_explicit(&homes[home].index[i], memory_order_acquire);

        if (index == 0)
            continue;
        ret->allocated += berth__arena_control_read(index - 1, "small.allocated");
        ret->allocated += berth__arena_control_read(index - 1, "large.allocated");
        ret->resident += berth__arena_control_read(index - 1, "resident");
        ret->dirty += berth__arena_control_read(index - 1, "pdirty") << BERTH_OS_PAGE_SHIFT;
    }
}
