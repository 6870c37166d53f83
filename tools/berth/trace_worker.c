/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/trace_worker.h"

#include "tools/berth/tool.h"
#include "tools/berth/trace_driver.h"
#include "tools/berth/trace_file.h"
#include "tools/berth/trace_peak.h"

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* What `address` says of an allocation that was refused. */
#define REFUSED UINT64_MAX

/* How long each call took, and what is known of the memory then. One per thread. */
struct samples {
    uint32_t *alloc_ns, *free_ns;
    uint32_t allocs, frees, failures;
    uint64_t reserved_peak; /* where the driver does not keep it */
};

struct replay {
    struct berth_trace_log log;
    struct berth_trace_driver driver;
    berth_cu_context context[BERTH_TRACE_DEVICES_MAX];
    uint64_t *stream_id; /* as recorded, sorted */
    berth_cu_stream *stream;
    size_t streams;
    _Atomic uint64_t *address; /* by event: 0 = not yet allocated, in this repetition or before */
    uint64_t *thread_id;       /* as recorded, sorted */
    uint32_t threads;
    bool as_recorded;  /* one thread for each recorded one */
    const char *calls; /* "recorded", "alloc" or "async" */
    bool keeps;        /* what the trace never frees stays from one repetition to the next */
    uint32_t skipped;  /* events of kinds that cannot be replayed */
    bool looks;        /* what the pool has is looked at when it has most */
    struct berth_trace_peak peak; /* of this repetition */
    uint64_t max_live;            /* bytes of what is replayed on devices */
    uint64_t base;                /* bytes of the device that were taken before */
    uint64_t clock_ns;            /* what reading the clock costs */
};

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;

    return one < other ? -1 : one > other;
}

static uint64_t measure_clock(void)
{
    uint32_t sample[1001];

    for (size_t i = 0; i < 1001; i++) {
        uint64_t start = now_ns();

        sample[i] = (uint32_t)(now_ns() - start);
    }
    qsort(sample, 1001, sizeof(sample[0]), compare);
    return sample[500];
}

/* The kind of call that an event is replayed by. */
static enum berth_trace_kind kind_of(const struct replay *replay,
                                     const struct berth_trace_event *event)
{
    enum berth_trace_kind kind = (enum berth_trace_kind)event->kind;

    if (kind == BERTH_TRACE_PITCH)
        kind = BERTH_TRACE_DEVICE;
    if (kind == BERTH_TRACE_FROM_POOL)
        kind = BERTH_TRACE_ASYNC;
    if (kind == BERTH_TRACE_DEVICE || kind == BERTH_TRACE_ASYNC) {
        if (replay->calls[0] == 'a')
            kind = strcmp(replay->calls, "async") == 0 ? BERTH_TRACE_ASYNC : BERTH_TRACE_DEVICE;
    }
    return kind;
}

/* Whether the block stays when the repetition is over. */
static bool is_kept(const struct replay *replay, const struct berth_trace_event *event)
{
    return replay->keeps && event->action == BERTH_TRACE_ALLOCATE &&
           event->match == BERTH_TRACE_NONE;
}

/*
 * Passes over what cannot be replayed, and finds how much of the rest is live at most: what is kept
 * lives all along.
 */
static void plan_events(struct replay *replay)
{
    uint64_t live = 0, kept = 0;

    for (uint32_t i = 0; i < replay->log.count; i++) {
        struct berth_trace_event *event = &replay->log.event[i];
        enum berth_trace_kind kind = kind_of(replay, event);
        bool is_alloc = event->action == BERTH_TRACE_ALLOCATE;

        if (event->action == BERTH_TRACE_NOTHING)
            continue;
        /* A free is one of its allocation's kind and device, whatever its line says. */
        if (event->action == BERTH_TRACE_FREE && event->match != BERTH_TRACE_NONE) {
            event->kind = replay->log.event[event->match].kind;
            event->device = replay->log.event[event->match].device;
            kind = kind_of(replay, event);
        }
        if (kind > BERTH_TRACE_ASYNC || kind == BERTH_TRACE_REGISTERED ||
            (!is_alloc &&
             (event->action != BERTH_TRACE_FREE || event->match == BERTH_TRACE_NONE))) {
            event->action = BERTH_TRACE_NOTHING;
            replay->skipped++;
            continue;
        }
        if (kind == BERTH_TRACE_HOST)
            continue;
        /* An allocation whose address came again was freed where nobody saw it. */
        if (is_alloc && event->match != BERTH_TRACE_NONE &&
            replay->log.event[event->match].action == BERTH_TRACE_ALLOCATE)
            continue;
        if (is_kept(replay, event)) {
            kept += event->size;
            continue;
        }
        live = is_alloc ? live + event->size : live - event->size;
        if (live > replay->max_live)
            replay->max_live = live;
    }
    replay->max_live += kept;
}

/* open_streams() has put it in the place of the recorded one. */
static berth_cu_stream stream_of(const struct berth_trace_event *event)
{
    return (berth_cu_stream)(uintptr_t)event->stream;
}

static berth_cu_result call_alloc(const struct replay *replay,
                                  const struct berth_trace_event *event, uint64_t *ret_address)
{
    const struct berth_trace_driver *driver = &replay->driver;
    berth_cu_address address = 0;
    void *pointer = NULL;
    berth_cu_result result;

    switch (kind_of(replay, event)) {
    case BERTH_TRACE_ASYNC:
        result = driver->alloc_async(&address, event->size, stream_of(event));
        break;
    case BERTH_TRACE_MANAGED:
        result = driver->alloc_managed(&address, event->size, 1);
        break;
    case BERTH_TRACE_HOST:
        result = driver->alloc_host(&pointer, event->size, 0);
        address = (uintptr_t)pointer;
        break;
    default:
        result = driver->alloc(&address, event->size);
        break;
    }
    *ret_address = address;
    return result;
}

static berth_cu_result call_free(const struct replay *replay, const struct berth_trace_event *event,
                                 uint64_t address)
{
    const struct berth_trace_driver *driver = &replay->driver;

    switch (kind_of(replay, event)) {
    case BERTH_TRACE_ASYNC:
        return driver->free_async(address, stream_of(event));
    case BERTH_TRACE_HOST:
        return driver->free_host((void *)(uintptr_t)address);
    default:
        return driver->free(address);
    }
}

static uint32_t elapsed(const struct replay *replay, uint64_t start)
{
    uint64_t ns = now_ns() - start;

    ns = ns > replay->clock_ns ? ns - replay->clock_ns : 0;
    return ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static void replay_alloc(struct replay *replay, uint32_t index, struct samples *samples)
{
    const struct berth_trace_event *event = &replay->log.event[index];
    uint64_t address = 0;
    uint64_t start = now_ns();
    berth_cu_result result = call_alloc(replay, event, &address);

    samples->alloc_ns[samples->allocs++] = elapsed(replay, start);
    if (result != BERTH_CU_SUCCESS) {
        samples->failures++;
        address = REFUSED;
    }
    atomic_store_explicit(&replay->address[index], address, memory_order_release);
    if (replay->looks)
        berth__trace_peak_look(&replay->driver, &replay->peak);
    if (!replay->driver.is_virtual) {
        struct berth_trace_usage usage;

        berth__trace_driver_usage(&replay->driver, &usage);
        if (usage.reserved > samples->reserved_peak)
            samples->reserved_peak = usage.reserved;
    }
}

/* Another thread may have to allocate it first. */
static uint64_t await_address(struct replay *replay, uint32_t index)
{
    uint64_t address;

    while ((address = atomic_load_explicit(&replay->address[index], memory_order_acquire)) == 0)
        sched_yield();
    return address;
}

static void replay_free(struct replay *replay, const struct berth_trace_event *event,
                        struct samples *samples)
{
    uint64_t address = await_address(replay, event->match);
    uint64_t start;

    if (address == REFUSED)
        return;
    start = now_ns();
    if (call_free(replay, event, address) != BERTH_CU_SUCCESS)
        samples->failures++;
    samples->free_ns[samples->frees++] = elapsed(replay, start);
    atomic_store_explicit(&replay->address[event->match], REFUSED, memory_order_relaxed);
}

/* The events of one recorded thread, or of all. */
static void replay_events(struct replay *replay, const uint64_t *thread, struct samples *samples)
{
    unsigned device = 0;

    replay->driver.set_current(replay->context[0]);
    for (uint32_t i = 0; i < replay->log.count; i++) {
        const struct berth_trace_event *event = &replay->log.event[i];

        if (event->action == BERTH_TRACE_NOTHING || (thread && event->thread != *thread))
            continue;
        if (event->device != device) {
            device = event->device;
            replay->driver.set_current(replay->context[device]);
        }
        if (event->action == BERTH_TRACE_FREE)
            replay_free(replay, event, samples);
        else if (!is_kept(replay, event) || replay->address[i] == 0)
            replay_alloc(replay, i, samples);
    }
}

struct runner {
    struct replay *replay;
    const uint64_t *thread; /* NULL: all */
    struct samples samples;
    pthread_t id;
};

static void *run_thread(void *context)
{
    struct runner *runner = context;

    replay_events(runner->replay, runner->thread, &runner->samples);
    return NULL;
}

static void runner_init(struct runner *runner, struct replay *replay, const uint64_t *thread)
{
    size_t size = ((size_t)replay->log.count + 1) * sizeof(uint32_t);

    memset(runner, 0, sizeof(*runner));
    runner->replay = replay;
    runner->thread = thread;
    runner->samples.alloc_ns = berth__tool_realloc(NULL, size);
    runner->samples.free_ns = berth__tool_realloc(NULL, size);
    /* The OS pages are had before anything is measured. */
    memset(runner->samples.alloc_ns, 0, thread ? 0 : size);
    memset(runner->samples.free_ns, 0, thread ? 0 : size);
}

static void print_times(const char *name, uint32_t *ns, uint32_t count)
{
    uint64_t sum = 0;

    qsort(ns, count, sizeof(*ns), compare);
    for (uint32_t i = 0; i < count; i++)
        sum += ns[i];
    printf("\"%s\":{\"count\":%u,\"mean\":%.1f,\"p50\":%u,\"p99\":%u,\"p999\":%u},", name, count,
           count ? (double)sum / count : 0.0, count ? ns[count / 2] : 0,
           count ? ns[(uint64_t)count * 99 / 100] : 0,
           count ? ns[(uint64_t)count * 999 / 1000] : 0);
}

/* All that the repetition left is freed, but for what is kept: the next one begins as this did. */
static void free_leftovers(struct replay *replay)
{
    for (uint32_t i = 0; i < replay->log.count; i++) {
        uint64_t address = replay->address[i];

        if (is_kept(replay, &replay->log.event[i]) && address != REFUSED)
            continue;
        if (replay->log.event[i].action == BERTH_TRACE_ALLOCATE && address != REFUSED) {
            replay->driver.set_current(replay->context[replay->log.event[i].device]);
            call_free(replay, &replay->log.event[i], address);
        }
        replay->address[i] = 0;
    }
    for (unsigned i = 0; i < BERTH_TRACE_DEVICES_MAX; i++)
        if (replay->context[i] && replay->driver.set_current(replay->context[i]) == 0)
            replay->driver.synchronize();
}

static void join_samples(struct runner *runner, uint32_t runners)
{
    struct samples *all = &runner[0].samples;

    for (uint32_t i = 1; i < runners; i++) {
        const struct samples *s = &runner[i].samples;

        memcpy(all->alloc_ns + all->allocs, s->alloc_ns, s->allocs * sizeof(*s->alloc_ns));
        memcpy(all->free_ns + all->frees, s->free_ns, s->frees * sizeof(*s->free_ns));
        all->allocs += s->allocs;
        all->frees += s->frees;
        all->failures += s->failures;
        if (s->reserved_peak > all->reserved_peak)
            all->reserved_peak = s->reserved_peak;
    }
}

static void print_result(struct replay *replay, struct samples *samples,
                         const struct berth_trace_usage *before,
                         const struct berth_trace_usage *after)
{
    uint64_t peak = replay->driver.is_virtual ? after->reserved : samples->reserved_peak;

    peak = peak > replay->base ? peak - replay->base : 0;
    printf("{\"target\":\"%s\",\"virtual\":%s,", replay->driver.is_pool ? "pool" : "driver",
           replay->driver.is_virtual ? "true" : "false");
    print_times("alloc", samples->alloc_ns, samples->allocs);
    print_times("free", samples->free_ns, samples->frees);
    /* A real driver does not count; natively each call is one of the driver's. */
    printf("\"driver_allocs\":%" PRIu64 ",\"driver_frees\":%" PRIu64 ",\"failures\":%u,",
           replay->driver.is_virtual || replay->driver.is_pool
               ? after->allocations - before->allocations
               : samples->allocs,
           replay->driver.is_virtual || replay->driver.is_pool ? after->frees - before->frees
                                                               : samples->frees,
           samples->failures);
    if (replay->driver.is_virtual)
        printf("\"driver_maps\":%" PRIu64 ",\"driver_unmaps\":%" PRIu64 ",",
               after->maps - before->maps, after->unmaps - before->unmaps);
    printf("\"skipped\":%u,\"max_live\":%" PRIu64 ",\"reserved_peak\":%" PRIu64
           ",\"ratio\":%.4f,\"clock_ns\":%" PRIu64,
           replay->skipped, replay->max_live, peak,
           replay->max_live ? (double)peak / (double)replay->max_live : 0.0, replay->clock_ns);
    if (replay->looks)
        berth__trace_peak_print(&replay->peak);
    puts("}");
    fflush(stdout);
}

static void repeat(struct replay *replay)
{
    bool as_recorded = replay->as_recorded && replay->threads > 0;
    uint32_t runners = as_recorded ? replay->threads : 1;
    struct runner *runner = berth__tool_realloc(NULL, runners * sizeof(*runner));
    struct berth_trace_usage before, after;

    for (uint32_t i = 0; i < runners; i++)
        runner_init(&runner[i], replay, as_recorded ? &replay->thread_id[i] : NULL);
    if (replay->driver.is_virtual)
        replay->driver.reset_peak();
    replay->peak = (struct berth_trace_peak){0};
    berth__trace_driver_usage(&replay->driver, &before);
    if (runners == 1)
        run_thread(&runner[0]);
    for (uint32_t i = 0; runners > 1 && i < runners; i++)
        if (pthread_create(&runner[i].id, NULL, run_thread, &runner[i]) != 0)
            exit(berth__tool_fail("trace replay: a thread could not be started; expected room for "
                                  "%u of them, or `--threads 1`",
                                  runners));
    for (uint32_t i = 0; runners > 1 && i < runners; i++)
        pthread_join(runner[i].id, NULL);
    berth__trace_driver_usage(&replay->driver, &after);
    join_samples(runner, runners);
    print_result(replay, &runner[0].samples, &before, &after);
    free_leftovers(replay);
    for (uint32_t i = 0; i < runners; i++) {
        free(runner[i].samples.alloc_ns);
        free(runner[i].samples.free_ns);
    }
    free(runner);
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;

    return one < other ? -1 : one > other;
}

/* Sorts numbers, and leaves each of them once; how many these are. */
static size_t make_set(uint64_t *number, size_t count)
{
    size_t kept = 0;

    qsort(number, count, sizeof(*number), compare_numbers);
    for (size_t i = 0; i < count; i++)
        if (i == 0 || number[i] != number[kept - 1])
            number[kept++] = number[i];
    return kept;
}

static int open_device(struct replay *replay, unsigned ordinal)
{
    berth_cu_device device;

    if (ordinal >= BERTH_TRACE_DEVICES_MAX)
        return berth__tool_fail("trace replay: the trace has device %u; expected at most %d",
                                ordinal, BERTH_TRACE_DEVICES_MAX - 1);
    if (!replay->context[ordinal] &&
        (replay->driver.device_get(&device, (int)ordinal) != 0 ||
         replay->driver.retain(&replay->context[ordinal], device) != 0))
        return berth__tool_fail("trace replay: device %u cannot be had; expected a device for "
                                "each one of the trace",
                                ordinal);
    return 0;
}

/* Stream 0 and the two default ones stay what they are; each other is one of its own. */
static int open_streams(struct replay *replay)
{
    replay->stream = berth__tool_realloc(NULL, (replay->streams + 1) * sizeof(*replay->stream));
    for (size_t i = 0; i < replay->streams; i++) {
        berth_cu_stream stream = NULL;

        if (replay->stream_id[i] <= 2)
            stream = (berth_cu_stream)(uintptr_t)replay->stream_id[i];
        else if (!replay->driver.stream_create || replay->driver.stream_create(&stream, 1) != 0)
            return berth__tool_fail("trace replay: a stream cannot be made; expected room for the "
                                    "trace's %zu streams",
                                    replay->streams);
        replay->stream[i] = stream;
    }
    for (uint32_t i = 0; i < replay->log.count; i++) {
        struct berth_trace_event *event = &replay->log.event[i];
        const uint64_t *id;

        if (event->action == BERTH_TRACE_NOTHING || kind_of(replay, event) != BERTH_TRACE_ASYNC)
            continue;
        id = bsearch(&event->stream, replay->stream_id, replay->streams, sizeof(*id),
                     compare_numbers);
        event->stream = (uintptr_t)replay->stream[id - replay->stream_id];
    }
    return 0;
}

/* Which streams and threads there are, and the devices' contexts. */
static int open_devices(struct replay *replay)
{
    size_t size = ((size_t)replay->log.count + 1) * sizeof(uint64_t);
    size_t streams = 0, threads = 0;
    int r = open_device(replay, 0);

    replay->stream_id = berth__tool_realloc(NULL, size);
    replay->thread_id = berth__tool_realloc(NULL, size);
    for (uint32_t i = 0; r == 0 && i < replay->log.count; i++) {
        const struct berth_trace_event *event = &replay->log.event[i];

        if (event->action == BERTH_TRACE_NOTHING)
            continue;
        r = open_device(replay, event->device);
        if (kind_of(replay, event) == BERTH_TRACE_ASYNC)
            replay->stream_id[streams++] = event->stream;
        replay->thread_id[threads++] = event->thread;
    }
    replay->streams = make_set(replay->stream_id, streams);
    replay->threads = (uint32_t)make_set(replay->thread_id, threads);
    return r;
}

static int has_calls_for(const struct replay *replay)
{
    for (uint32_t i = 0; i < replay->log.count; i++) {
        enum berth_trace_kind kind = kind_of(replay, &replay->log.event[i]);

        if (replay->log.event[i].action == BERTH_TRACE_NOTHING)
            continue;
        if ((kind == BERTH_TRACE_ASYNC &&
             (!replay->driver.alloc_async || !replay->driver.free_async)) ||
            (kind == BERTH_TRACE_MANAGED && !replay->driver.alloc_managed))
            return berth__tool_fail("trace replay: the driver has no calls of the kind '%s'",
                                    berth__trace_kind_name(kind));
    }
    return 0;
}

static int prepare(struct replay *replay)
{
    struct berth_trace_usage usage;
    int r;

    plan_events(replay);
    r = open_devices(replay);
    if (r == 0)
        r = has_calls_for(replay);
    if (r != 0)
        return r;
    replay->driver.set_current(replay->context[0]);
    replay->address =
        berth__tool_realloc(NULL, ((size_t)replay->log.count + 1) * sizeof(*replay->address));
    memset(replay->address, 0, ((size_t)replay->log.count + 1) * sizeof(*replay->address));
    berth__trace_driver_usage(&replay->driver, &usage);
    replay->base = usage.reserved;
    replay->clock_ns = measure_clock();
    return open_streams(replay);
}

int berth__trace_worker(int argc, char **argv)
{
    static struct replay replay;
    char go;
    int r;

    if (argc != 7)
        return berth__tool_misuse("trace replay-worker: this is `berth trace replay`'s own");
    replay.as_recorded = strcmp(argv[3], "recorded") == 0;
    replay.calls = argv[4];
    replay.keeps = strcmp(argv[5], "kept") == 0;
    replay.looks = strcmp(argv[6], "peak") == 0;
    r = berth__trace_file_read(argv[1], &replay.log);
    if (r == 0)
        r = berth__trace_driver_open(argv[2], &replay.driver);
    if (r == 0)
        r = prepare(&replay);
    /* Where no virtual driver counts, nobody knows when the most is reserved. */
    replay.looks = replay.looks && replay.driver.pool_walk && replay.driver.is_virtual;
    while (r == 0 && read(STDIN_FILENO, &go, 1) == 1)
        repeat(&replay);
    return berth__tool_finish(r);
}
