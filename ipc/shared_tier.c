/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/shared_tier.h"

#include "alloc/block_slab.h"
#include "alloc/clock.h"
#include "alloc/log.h"
#include "alloc/pool_borrow.h"
#include "alloc/quantity.h"
#include "alloc/size_class.h"
#include "alloc/tier_ops.h"
#include "ipc/address.h"
#include "ipc/control.h"
#include "ipc/json.h"
#include "ipc/shared_segment.h"
#include "ipc/shared_source.h"
#include "pmem/table_format.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How long a failed attempt counts. */
#define RETRY_MS 1000
/* How long one counts that failed because the program has no context yet. */
#define SOON_MS 20

struct shared_tier {
    struct berth_tier *tier;
    berth_tier_id id;
    pid_t process; /* whose this is: a forked child has nothing mapped */
    /* Any thread: */
    _Atomic int state; /* enum berth_shared_state; written by the control thread */
    atomic_bool is_wanted;
    _Atomic uint64_t tried_ms; /* when it was tried last; 0: never; UINT64_MAX: is not to be */
    /* The control thread's: */
    char why[BERTH_FAILURE_MESSAGE_MAX];
    /* Of the loan, while state is not EMPTY: */
    char *from, *segment; /* malloc'd */
    uint64_t offset, size;
    uint64_t mapped_size;
    uintptr_t base; /* of the whole segment */
    int device;
    berth_cu_context context; /* legacy: in which it is mapped */
    pid_t keeper;
    uint64_t keeper_start;
};

/* By id; an entry is written once, before its tier is published. */
static _Atomic(struct shared_tier *) shared_tiers[BERTH_TIER_MAX];
/* Runs with an initialised driver that have ended. */
static _Atomic unsigned runs;
/* Loans by legacy IPC that are watched. */
static _Atomic unsigned watched;

static struct shared_tier *get(berth_tier_id id)
{
    return id < BERTH_TIER_MAX ? atomic_load_explicit(&shared_tiers[id], memory_order_acquire)
                               : NULL;
}

static enum berth_shared_state state_of(struct shared_tier *shared)
{
    if (shared->process != getpid())
        return BERTH_SHARED_EMPTY;
    return (enum berth_shared_state)atomic_load_explicit(&shared->state, memory_order_relaxed);
}

static const char *segment_of(const struct shared_tier *shared)
{
    return shared->tier->segment[0] ? shared->tier->segment : shared->tier->name;
}

static void describe(const struct berth_tier *tier, char *text, size_t text_size)
{
    struct shared_tier *shared = tier->state;
    char size[BERTH_QUANTITY_TEXT_MAX];

    if (state_of(shared) == BERTH_SHARED_EMPTY) {
        snprintf(text, text_size, "borrows segment '%s'; not attached%s%.160s", segment_of(shared),
                 shared->why[0] ? ": " : "", shared->why);
        return;
    }
    snprintf(text, text_size, "borrowed: %s at %llu of segment '%s' of process %d%s",
             berth__quantity_format(shared->size, size), (unsigned long long)shared->offset,
             shared->segment, (int)shared->keeper,
             state_of(shared) == BERTH_SHARED_LOST ? ", which has ended" : "");
}

static const struct berth_tier_ops shared_ops = {.describe = describe};

static int make(struct berth_tier *tier, berth_tier_id id, const struct berth_tier_config *config,
                char *why, size_t why_size)
{
    struct shared_tier *shared = berth__slab_map(sizeof(*shared));

    if (!shared) {
        snprintf(why, why_size, "there is no memory for its state");
        return -ENOMEM;
    }
    shared->tier = tier;
    shared->id = id;
    shared->is_wanted = tier->from[0] != '\0';
    tier->sides = BERTH_SIDE_DEVICE;
    tier->ops = &shared_ops;
    tier->state = shared;
    atomic_store_explicit(&shared_tiers[id], shared, memory_order_release);
    return 0;
}

void berth__shared_tier_register(void)
{
    berth__tier_set_maker(BERTH_KIND_SHARED, make);
}

static struct shared_tier *find(const char *name, struct berth_failure *failure)
{
    struct shared_tier *shared = get(berth__tier_find(name));

    if (!shared)
        berth__failure_set(failure, "no-tier",
                           "there is no tier '%.64s' of kind shared; expected one that the policy "
                           "in force names",
                           name);
    return shared;
}

/* What is asked for, after the policy and the request. */
struct wish {
    const char *from, *segment;
    uint64_t offset, size;
};

static int make_wish(const struct shared_tier *shared, const struct berth_shared_source *source,
                     struct wish *ret, struct berth_failure *failure)
{
    const struct berth_tier *tier = shared->tier;
    char why[BERTH_NAME_MAX * 2 + 64];

    *ret = (struct wish){
        .from = source->from ? source->from : tier->from,
        .segment = source->segment ? source->segment : segment_of(shared),
        .offset = source->offset != UINT64_MAX ? source->offset : tier->offset,
        .size = source->size != UINT64_MAX ? source->size : tier->size,
    };
    if (ret->from[0] == '\0')
        return berth__failure_set(failure, "no-source",
                                  "neither the policy nor the request says from whom; expected a "
                                  "process id, or the path of a socket");
    if (berth__name_check(ret->segment, why, sizeof(why)) < 0)
        return berth__failure_set(failure, "bad-request", "%s", why);
    if ((ret->offset | ret->size) % BERTH_GRANULE != 0)
        return berth__failure_set(failure, "bad-request",
                                  "offset and size are no multiples of %u bytes; expected that, as "
                                  "blocks are",
                                  (unsigned)BERTH_GRANULE);
    return 0;
}

/* Whether the piece lies in the segment; a size that is not given becomes all there is. */
static int fit_wish(struct wish *wish, const struct berth_shared_offer *offer,
                    struct berth_failure *failure)
{
    char has[BERTH_QUANTITY_TEXT_MAX], wants[BERTH_QUANTITY_TEXT_MAX];
    uint64_t left = wish->offset < offer->size ? offer->size - wish->offset : 0;

    if (wish->size == 0)
        wish->size = left & ~(uint64_t)(BERTH_GRANULE - 1);
    if (wish->size > 0 && wish->size <= left)
        return 0;
    return berth__failure_set(
        failure, "bad-piece",
        "segment '%s' of process %d has %s; expected a piece inside it, not "
        "%s from byte %llu on",
        wish->segment, (int)offer->pid, berth__quantity_format(offer->size, has),
        berth__quantity_format(wish->size, wants), (unsigned long long)wish->offset);
}

/* A mapping of a whole segment. */
struct mapping {
    int device;
    uintptr_t base;
    uint64_t size;
    berth_cu_context context; /* legacy */
};

static int map_descriptor(const struct berth_shared_offer *offer, struct mapping *mapping,
                          struct berth_failure *failure)
{
    uint64_t handle = 0;
    int r = berth__device_physical_import(offer->fd, &handle);

    if (r < 0)
        return berth__shared_refuse(failure, "the driver did not take the segment's descriptor", r);
    r = berth__device_map(mapping->device, handle, offer->size, &mapping->base);
    /* The mapping keeps the memory. */
    berth__device_physical_release(handle);
    if (r < 0)
        return berth__shared_refuse(failure, "the driver did not map the segment", r);
    mapping->size = offer->size;
    return 0;
}

static int map_legacy(const struct berth_shared_offer *offer, struct mapping *mapping,
                      struct berth_failure *failure)
{
    int r;

    mapping->context = berth__device_primary(mapping->device);
    if (!mapping->context)
        return berth__failure_set(failure, "no-context",
                                  "the device has no primary context in this process yet, which "
                                  "legacy IPC needs");
    r = berth__device_ipc_open(mapping->context, &offer->handle, &mapping->base, &mapping->size);
    if (r < 0)
        return berth__shared_refuse(failure, "the driver did not open the segment's handle", r);
    return 0;
}

static int unmap(const struct mapping *mapping)
{
    struct berth_shared_visit visit;
    int r = 0;

    berth__shared_enter(mapping->device, &visit);
    if (!mapping->context)
        r = berth__device_unmap(mapping->base, mapping->size);
    else if (berth__device_primary(mapping->device) == mapping->context)
        r = berth__device_ipc_close(mapping->context, mapping->base);
    /* Else it was unmapped with its context. */
    berth__shared_leave(&visit);
    return r;
}

static int map_offer(const struct berth_shared_offer *offer, struct mapping *mapping,
                     struct berth_failure *failure)
{
    struct berth_shared_visit visit;
    char uuid[BERTH_SHARED_UUID_TEXT_MAX];
    int r;

    *mapping = (struct mapping){0};
    if (berth__device_of_uuid(offer->uuid, &mapping->device) < 0)
        return berth__failure_set(failure, "no-device",
                                  "the segment lies on %s, which this process does not see",
                                  berth__shared_uuid_text(offer->uuid, uuid));
    berth__shared_enter(mapping->device, &visit);
    r = offer->is_legacy ? map_legacy(offer, mapping, failure)
                         : map_descriptor(offer, mapping, failure);
    berth__shared_leave(&visit);
    if (r == 0 && mapping->size < offer->size) {
        unmap(mapping);
        r = berth__failure_set(failure, "bad-piece", "the segment is smaller than process %d says",
                               (int)offer->pid);
    }
    return r;
}

static struct berth_loan loan_of(const struct shared_tier *shared)
{
    return (struct berth_loan){.tier = shared->id,
                               .device = shared->device,
                               .base = shared->base + shared->offset,
                               .size = shared->size,
                               .context = shared->context};
}

static void clear(struct shared_tier *shared)
{
    free(shared->from);
    free(shared->segment);
    shared->from = shared->segment = NULL;
    if (shared->context)
        atomic_fetch_sub(&watched, 1);
    shared->context = NULL;
    atomic_store_explicit(&shared->state, BERTH_SHARED_EMPTY, memory_order_relaxed);
}

/* Notes what was mapped, and lends it to the pool. */
static int lend(struct shared_tier *shared, const struct wish *wish,
                const struct berth_shared_offer *offer, const struct mapping *mapping,
                struct berth_failure *failure)
{
    struct berth_loan loan;
    char *from = strdup(wish->from), *segment = strdup(wish->segment);
    int r = -ENOMEM;

    if (!from || !segment) {
        free(from);
        free(segment);
        return -ENOMEM;
    }
    shared->from = from;
    shared->segment = segment;
    shared->offset = wish->offset;
    shared->size = wish->size;
    shared->mapped_size = mapping->size;
    shared->base = mapping->base;
    shared->device = mapping->device;
    shared->context = mapping->context;
    shared->keeper = offer->pid;
    shared->keeper_start = offer->start;
    shared->process = getpid();
    shared->why[0] = '\0';
    if (shared->context)
        atomic_fetch_add(&watched, 1);
    loan = loan_of(shared);
    r = berth__loan_make(&loan);
    if (r == 0) {
        atomic_store_explicit(&shared->state, BERTH_SHARED_ATTACHED, memory_order_relaxed);
        return 0;
    }
    clear(shared);
    return r == -ENOSPC ? berth__failure_set(failure, "no-room",
                                             "the capacity of the tier is less than the piece")
                        : berth__failure_set(failure, "bad-piece", "the piece cannot be lent");
}

/*
 * Two tiers of one program on the same bytes would give two of its blocks the same memory, which no
 * allocator does. (Two programs on them share, which is what a segment is for.)
 */
static int check_apart(const struct shared_tier *shared, const struct wish *wish,
                       const struct berth_shared_offer *offer, struct berth_failure *failure)
{
    for (unsigned id = 0; id < berth__tier_count(); id++) {
        struct shared_tier *other = get((berth_tier_id)id);

        if (other && other != shared && state_of(other) != BERTH_SHARED_EMPTY &&
            other->keeper == offer->pid && other->keeper_start == offer->start &&
            strcmp(other->segment, wish->segment) == 0 &&
            wish->offset < other->offset + other->size && other->offset < wish->offset + wish->size)
            return berth__failure_set(failure, "bad-piece",
                                      "tier '%s' borrows bytes of that piece already; expected "
                                      "another offset and size",
                                      other->tier->name);
    }
    return 0;
}

/* Asks, maps and lends; what was done is undone when a later step fails. */
static int attach(struct shared_tier *shared, struct wish *wish, struct berth_failure *failure)
{
    struct berth_shared_offer offer;
    struct mapping mapping;
    int r = berth__shared_ask(wish->from, wish->segment, &offer, failure);

    if (r < 0)
        return r;
    r = fit_wish(wish, &offer, failure);
    if (r == 0)
        r = check_apart(shared, wish, &offer, failure);
    if (r == 0)
        r = map_offer(&offer, &mapping, failure);
    if (offer.fd >= 0)
        close(offer.fd);
    if (r < 0)
        return r;
    r = lend(shared, wish, &offer, &mapping, failure);
    if (r < 0)
        unmap(&mapping);
    return r;
}

int berth__shared_tier_attach(const char *tier, const struct berth_shared_source *source,
                              struct berth_failure *failure)
{
    struct shared_tier *shared = find(tier, failure);
    struct wish wish = {0};
    int r;

    if (!shared)
        return -EINVAL;
    r = berth__shared_check_driver(failure);
    if (r == 0)
        r = make_wish(shared, source, &wish, failure);
    if (r == 0 && state_of(shared) != BERTH_SHARED_EMPTY && berth__loan_exists(shared->id))
        r = berth__failure_set(failure, "attached",
                               "tier '%s' is attached already, to segment '%s' of process %d; "
                               "detach it first",
                               tier, shared->segment, (int)shared->keeper);
    if (r < 0)
        return r;
    if (state_of(shared) != BERTH_SHARED_EMPTY)
        clear(shared); /* its loan ended with its context */
    r = attach(shared, &wish, failure);
    if (r == -EINVAL)
        snprintf(shared->why, sizeof(shared->why), "%s", failure->message);
    return r;
}

/* "weight: 2 blocks of 3.0 MiB together, ..." */
static const char *use_text(const struct berth_loan_use *use, char *text, size_t size)
{
    size_t length = 0;

    text[0] = '\0';
    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++) {
        char bytes[BERTH_QUANTITY_TEXT_MAX];

        if (use->blocks[tag] == 0 || length >= size)
            continue;
        length += (size_t)snprintf(text + length, size - length,
                                   "%s%llu bytes (%s) of %s in %llu "
                                   "block%s",
                                   length ? ", " : "", (unsigned long long)use->bytes[tag],
                                   berth__quantity_format(use->bytes[tag], bytes),
                                   berth__tag_name(tag), (unsigned long long)use->blocks[tag],
                                   use->blocks[tag] == 1 ? "" : "s");
    }
    return text;
}

static int detach(struct shared_tier *shared, struct berth_failure *failure)
{
    const struct mapping mapping = {.device = shared->device,
                                    .base = shared->base,
                                    .size = shared->mapped_size,
                                    .context = shared->context};
    struct berth_loan loan = loan_of(shared);
    struct berth_loan_use use;
    char text[384];
    int r = berth__loan_end(shared->id, &use);

    if (r == -EBUSY)
        return berth__failure_set(failure, "in-use",
                                  "tier '%s' still has %s; free them first, or end the process",
                                  shared->tier->name, use_text(&use, text, sizeof(text)));
    if (r == 0 && unmap(&mapping) < 0) {
        berth__loan_make(&loan);
        return berth__failure_set(failure, "refused-by-driver",
                                  "the driver did not unmap the segment; it stays attached");
    }
    clear(shared); /* -ENOENT: it was unmapped with its context */
    return 0;
}

int berth__shared_tier_detach(const char *tier, struct berth_failure *failure)
{
    struct shared_tier *shared = find(tier, failure);
    int r;

    if (!shared)
        return -EINVAL;
    if (state_of(shared) == BERTH_SHARED_EMPTY)
        return berth__failure_set(failure, "not-attached", "tier '%s' is not attached", tier);
    r = berth__shared_check_driver(failure);
    if (r < 0)
        return r;
    r = detach(shared, failure);
    if (r < 0)
        return r;
    /* Not tried again for blocks that miss it: somebody said that it is to be empty. */
    shared->is_wanted = false;
    shared->tried_ms = UINT64_MAX;
    return 0;
}

void berth__shared_tier_want(void)
{
    for (unsigned id = 0; id < berth__tier_count(); id++) {
        struct shared_tier *shared = get((berth_tier_id)id);

        if (shared && shared->tier->from[0] != '\0') {
            shared->tried_ms = 0;
            shared->is_wanted = true;
        }
    }
}

/* Attaches one as the policy says, and says once why that does not work. */
static void try_wanted(struct shared_tier *shared)
{
    const struct berth_shared_source as_configured = {.offset = UINT64_MAX, .size = UINT64_MAX};
    struct berth_failure failure = {.code = ""};
    char before[sizeof(shared->why)], why[256];
    int r;

    strcpy(before, shared->why);
    r = berth__json_load(why, sizeof(why));
    if (r < 0)
        berth__failure_set(&failure, "no-jansson", "%s", why);
    else
        r = berth__shared_tier_attach(shared->tier->name, &as_configured, &failure);
    /* What only has to wait for the program is no trouble yet, and is soon tried again. */
    shared->tried_ms = (uint64_t)berth__clock_ms();
    if (r < 0 && strcmp(failure.code, "no-context") == 0)
        shared->tried_ms -= RETRY_MS - SOON_MS;
    if (r == 0 || strcmp(failure.code, "no-context") == 0)
        return;
    snprintf(shared->why, sizeof(shared->why), "%s",
             r == -ENOMEM ? "there is no memory for it" : failure.message);
    if (strcmp(before, shared->why) != 0)
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_IPC,
                   "tier %s stays empty: %s; rules go on to their next place", shared->tier->name,
                   shared->why);
}

/* Legacy memory is its owner's, and ends with it: nobody can rely on it any more. */
static void watch(struct shared_tier *shared)
{
    uint64_t start = 0;
    char state = 0;

    if (state_of(shared) != BERTH_SHARED_ATTACHED || !shared->context)
        return;
    if (!berth__loan_exists(shared->id)) {
        clear(shared); /* the context that had it mapped was destroyed */
        return;
    }
    if (berth__address_start(shared->keeper, &start, &state) == 0 &&
        start == shared->keeper_start && state != 'Z')
        return;
    berth__loan_stop(shared->id);
    atomic_store_explicit(&shared->state, BERTH_SHARED_LOST, memory_order_relaxed);
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_IPC,
               "tier %s: process %d, which keeps its segment '%s', has ended; with legacy IPC the "
               "memory is in doubt, and no more blocks are cut from it",
               shared->tier->name, (int)shared->keeper, shared->segment);
}

void berth__shared_tier_run(void)
{
    bool is_ready = atomic_load_explicit(&berth__device_is_initialised, memory_order_acquire) &&
                    berth__loan_is_possible();

    for (unsigned id = 0; is_ready && id < berth__tier_count(); id++) {
        struct shared_tier *shared = get((berth_tier_id)id);

        if (!shared)
            continue;
        watch(shared);
        if (state_of(shared) == BERTH_SHARED_EMPTY &&
            atomic_exchange_explicit(&shared->is_wanted, false, memory_order_relaxed))
            try_wanted(shared);
    }
    if (is_ready)
        atomic_fetch_add_explicit(&runs, 1, memory_order_release);
}

bool berth__shared_tier_watches(void)
{
    return atomic_load_explicit(&watched, memory_order_relaxed) > 0;
}

void berth__shared_tier_missed(berth_tier_id id)
{
    static atomic_int said;
    struct shared_tier *shared = get(id);
    uint64_t tried;

    if (!shared || state_of(shared) != BERTH_SHARED_EMPTY || shared->tier->from[0] == '\0')
        return;
    tried = atomic_load_explicit(&shared->tried_ms, memory_order_relaxed);
    if (tried == UINT64_MAX || (tried != 0 && (uint64_t)berth__clock_ms() - tried < RETRY_MS))
        return;
    atomic_store_explicit(&shared->is_wanted, true, memory_order_relaxed);
    if (!berth__control_wake())
        berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_IPC,
                        "tier %s stays empty: there is no control thread to attach it; rules go on "
                        "to their next place",
                        shared->tier->name);
}

/* Whether a first run will attach something. It may be at it already. */
static bool is_awaited(void)
{
    for (unsigned id = 0; id < berth__tier_count(); id++) {
        struct shared_tier *shared = get((berth_tier_id)id);

        if (shared && shared->tier->from[0] != '\0')
            return true;
    }
    return false;
}

void berth__shared_tier_await(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};
    unsigned before = atomic_load_explicit(&runs, memory_order_acquire);
    int cancel_state;
    uint64_t end;

    if (before != 0 || !is_awaited() || !berth__control_wake())
        return;
    end = (uint64_t)berth__clock_ms() + BERTH_SHARED_AWAIT_MS;
    /* cuInit is no cancellation point. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    while (atomic_load_explicit(&runs, memory_order_acquire) == before &&
           (uint64_t)berth__clock_ms() < end)
        nanosleep(&pause, NULL);
    pthread_setcancelstate(cancel_state, NULL);
}

int berth__shared_tier_view(berth_tier_id id, struct berth_shared_view *ret)
{
    struct shared_tier *shared = get(id);
    uint64_t start = 0;
    char state = 0;

    if (!shared)
        return -ENOENT;
    *ret = (struct berth_shared_view){
        .state = state_of(shared),
        .tier = shared->tier->name,
        .from = shared->tier->from,
        .segment = segment_of(shared),
        .why = shared->why,
        .offset = shared->tier->offset,
        .size = shared->tier->size,
    };
    if (ret->state == BERTH_SHARED_EMPTY)
        return 0;
    ret->from = shared->from;
    ret->segment = shared->segment;
    ret->offset = shared->offset;
    ret->size = shared->size;
    ret->keeper = shared->keeper;
    ret->is_legacy = shared->context != NULL;
    ret->keeper_lives = berth__address_start(shared->keeper, &start, &state) == 0 &&
                        start == shared->keeper_start && state != 'Z';
    return 0;
}
