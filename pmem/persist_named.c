/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/persist_named.h"

#include "alloc/fork_turn.h"
#include "alloc/log.h"
#include "alloc/tier_ops.h"
#include "pmem/window.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* What the window is asked for: more than a machine has. It takes its share of the reservation. */
#define WINDOW_WANT ((uint64_t)1 << 43)
/* Addresses are carved off the window in pieces of at least this size, and used again. */
#define CARVE_MIN ((size_t)64 << 20)
/* How long a thread waits for another that opens the same store: 2 s. */
#define CLAIM_PAUSE_NS (1000 * 1000)
#define CLAIM_TRIES 2000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct berth_persist_store *) stores[BERTH_TIER_MAX];
static struct berth_extent_table addresses = {.granule = BERTH_OS_PAGE}; /* of which are free */
static _Atomic pid_t claims[BERTH_TIER_MAX]; /* of the process whose thread opens the store, or 0 */
static _Atomic pid_t owner; /* the process that has opened the first store; 0 = none was */

void berth__persist_named_lock(void)
{
    pthread_mutex_lock(&mutex);
}

void berth__persist_named_unlock(void)
{
    pthread_mutex_unlock(&mutex);
}

bool berth__persist_named_inherited(void)
{
    pid_t pid = atomic_load_explicit(&owner, memory_order_relaxed);

    return pid != 0 && pid != getpid();
}

/* Of forks that this thread is amid; see alloc/fork_turn.h. */
static __thread unsigned forks;

static void fork_prepare(void)
{
    struct berth_fork_turn turn;

    if (berth__fork_turn_prepare(&turn, &forks))
        berth__fork_turn_lock(&turn, &forks, &mutex);
    berth__fork_turn_over(&turn);
}

static void fork_parent(void)
{
    struct berth_fork_turn turn;

    if (berth__fork_turn_parent(&turn, &forks))
        pthread_mutex_unlock(&mutex);
    berth__fork_turn_over(&turn);
}

/*
 * The parent's lock on its stores must not live on in a child that outlives it. close() is a
 * cancellation point, and what its thread was told in the parent the child has been told, too.
 */
static void leave_stores(void)
{
    int saved_errno = errno;
    struct berth_fork_turn turn;
    bool has_lock = berth__fork_turn_child(&turn, &forks);
    int cancel_state;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    for (unsigned i = 0; i < BERTH_TIER_MAX; i++) {
        struct berth_persist_store *store = atomic_load(&stores[i]);

        if (store)
            berth__persist_store_leave(store);
    }
    pthread_setcancelstate(cancel_state, NULL);
    if (has_lock)
        pthread_mutex_unlock(&mutex);
    berth__fork_turn_over(&turn);
    errno = saved_errno;
}

static void become_owner(void)
{
    pid_t none = 0;

    if (atomic_compare_exchange_strong(&owner, &none, getpid()))
        pthread_atfork(fork_prepare, fork_parent, leave_stores);
}

/* Called with the lock held. */
static void *reserve(size_t size, size_t alignment)
{
    size_t piece = size + alignment > CARVE_MIN ? size + alignment : CARVE_MIN;
    uint64_t address = 0;
    void *p;

    if (berth__extent_table_take_one(&addresses, size, alignment, &address) == 0)
        return (void *)(uintptr_t)address;
    if (berth__window_open(BERTH_HOME_PERSISTENT, WINDOW_WANT) < 0)
        return NULL;
    p = berth__window_carve(BERTH_HOME_PERSISTENT, piece, alignment);
    if (!p)
        p = berth__window_carve(BERTH_HOME_PERSISTENT, piece = size, alignment);
    if (!p || berth__extent_table_give(&addresses, (uintptr_t)p, piece) < 0 ||
        berth__extent_table_take_one(&addresses, size, alignment, &address) < 0)
        return NULL;
    return (void *)(uintptr_t)address;
}

/* No mapping of the program's may come to lie in a window. */
static void release(void *p, size_t size)
{
    if (mmap(p, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) !=
        MAP_FAILED)
        (void)berth__extent_table_give(&addresses, (uintptr_t)p, size);
}

static const struct berth_persist_addresses window_addresses = {reserve, release};

bool berth__persist_named_is(berth_tier_id id)
{
    const struct berth_tier *tier = berth__tier(id);

    return tier && (tier->kind == BERTH_KIND_FILE || tier->kind == BERTH_KIND_DAX) &&
           *tier->segment;
}

struct berth_persist_store *berth__persist_named_store(berth_tier_id id)
{
    return atomic_load_explicit(&stores[id], memory_order_acquire);
}

/* For those who may only read it; where nothing is to be read, the first error is the one to tell.
 */
static int open_store(struct berth_persist_options *options, struct berth_persist_store **ret_store,
                      char *why, size_t why_size)
{
    char why_not_read[BERTH_PERSIST_WHY_MAX];
    int r = berth__persist_store_open(options, ret_store, why, why_size);
    int again;

    if (r != -EACCES && r != -EROFS && r != -EPERM)
        return r;
    options->read_only = true;
    again = berth__persist_store_open(options, ret_store, why_not_read, sizeof(why_not_read));
    if (again == -ENOENT && options->create)
        return r;
    if (again < 0)
        snprintf(why, why_size, "%s", why_not_read);
    return again;
}

/*
 * Threads that want a store at the same time: the first opens it, the others wait for that one, but
 * not for ever, as it may be in the loader, which they may hold up. Whether the claim is ours; the
 * store may be there after all.
 */
static bool claim(berth_tier_id id)
{
    const struct timespec pause = {.tv_nsec = CLAIM_PAUSE_NS};

    for (int i = 0; i < CLAIM_TRIES && !berth__persist_named_store(id); i++) {
        pid_t holder = 0;

        if (atomic_compare_exchange_strong(&claims[id], &holder, getpid()))
            return true;
        /* What a child has inherited is the claim of a thread that it does not have. */
        if (holder != getpid() && atomic_compare_exchange_strong(&claims[id], &holder, getpid()))
            return true;
        nanosleep(&pause, NULL);
    }
    return false;
}

static int publish(berth_tier_id id, struct berth_persist_store *store,
                   struct berth_persist_store **ret_store)
{
    struct berth_persist_store *faster = NULL;

    become_owner();
    if (atomic_compare_exchange_strong(&stores[id], &faster, store)) {
        *ret_store = store;
        return 0;
    }
    berth__persist_store_close(store);
    *ret_store = faster;
    return 0;
}

/* A store that cannot be had is told of once for each reason, however often it is asked for. */
static void say_failed(berth_tier_id id, int error, const char *why)
{
    static _Atomic int said[BERTH_TIER_MAX];

    if (atomic_exchange(&said[id], error) != error)
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_TIER, "tier %s: %s", berth__tier(id)->name, why);
}

/* Whether it says that the path leads to nothing that could be, or become, a store. */
static bool leads_nowhere(int error)
{
    return error == -ENOENT || error == -ENOTDIR || error == -EISDIR || error == -ELOOP ||
           error == -ENXIO || error == -ENAMETOOLONG;
}

static int open_named(berth_tier_id id, bool create, struct berth_persist_store **ret_store)
{
    const struct berth_tier *tier = berth__tier(id);
    char path[PATH_MAX], why[BERTH_PERSIST_WHY_MAX];
    struct berth_persist_options options = {.path = path, .create = create};
    struct berth_persist_store *store;
    int r;

    if (snprintf(path, sizeof(path), tier->kind == BERTH_KIND_FILE ? "%s/%s" : "%s", tier->path,
                 tier->segment) >= (int)sizeof(path))
        return -ENODEV;
    options.name = tier->segment;
    options.capacity = atomic_load_explicit(&tier->capacity, memory_order_relaxed);
    options.addresses = &window_addresses;
    r = open_store(&options, &store, why, sizeof(why));
    if (r == -ENOENT && !create)
        return r;
    if (r < 0) {
        say_failed(id, r, why);
        return leads_nowhere(r) ? -ENODEV : r;
    }
    return publish(id, store, ret_store);
}

int berth__persist_named_open(berth_tier_id id, bool create, struct berth_persist_store **ret_store)
{
    bool is_claimed;
    int r = 0;

    *ret_store = berth__persist_named_store(id);
    if (*ret_store)
        return 0;
    if (!berth__persist_named_is(id))
        return -ENODEV;
    is_claimed = claim(id);
    *ret_store = berth__persist_named_store(id);
    if (!*ret_store)
        r = open_named(id, create, ret_store);
    if (is_claimed)
        atomic_store(&claims[id], 0);
    return r;
}
