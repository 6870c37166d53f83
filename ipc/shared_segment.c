/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/shared_segment.h"

#include "alloc/pool.h"
#include "alloc/pool_borrow.h"
#include "alloc/pool_foreign.h"
#include "alloc/quantity.h"
#include "alloc/thread.h"
#include "pmem/table_format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct berth_shared_segment *segments;
/* A forked child inherits the list, but nothing of what is in it. */
static pid_t owner;

static void forget_parents(void)
{
    if (owner == getpid())
        return;
    owner = getpid();
    segments = NULL;
}

const char *berth__shared_error(int error, char text[BERTH_SHARED_ERROR_MAX])
{
    if (error == -ENOSYS)
        snprintf(text, BERTH_SHARED_ERROR_MAX, "the installed driver has no such call");
    else if (error == -ENOMEM)
        snprintf(text, BERTH_SHARED_ERROR_MAX, "out of memory");
    else
        snprintf(text, BERTH_SHARED_ERROR_MAX, "CUDA error %d", berth__device_result(error));
    return text;
}

int berth__shared_check_driver(struct berth_failure *failure)
{
    if (!atomic_load_explicit(&berth__device_is_initialised, memory_order_acquire))
        return berth__failure_set(failure, "no-cuda",
                                  "the program has not initialised the CUDA driver yet");
    if (!berth__loan_is_possible())
        return berth__failure_set(failure, "no-cuda",
                                  "the process was forked from one that used CUDA, and cannot use "
                                  "it itself");
    return 0;
}

const struct berth_shared_segment *berth__shared_segment_first(void)
{
    forget_parents();
    return segments;
}

static struct berth_shared_segment *find(const char *name)
{
    forget_parents();
    for (struct berth_shared_segment *segment = segments; segment; segment = segment->next)
        if (strcmp(segment->name, name) == 0)
            return segment;
    return NULL;
}

struct berth_shared_segment *berth__shared_segment_find(const char *name,
                                                        struct berth_failure *failure)
{
    struct berth_shared_segment *segment = find(name);

    if (!segment)
        berth__failure_set(failure, "no-segment", "there is no segment '%.64s'", name);
    return segment;
}

int berth__shared_refuse(struct berth_failure *failure, const char *what, int error)
{
    char text[BERTH_SHARED_ERROR_MAX];
    bool needs_context = berth__device_result(error) == BERTH_CU_INVALID_CONTEXT;

    return berth__failure_set(failure, needs_context ? "no-context" : "refused-by-driver", "%s: %s",
                              what, berth__shared_error(error, text));
}

void berth__shared_enter(int device, struct berth_shared_visit *ret)
{
    berth_cu_context primary = berth__device_primary(device);

    /* Not only if a capture is open: another thread may be about to begin one. */
    *ret = (struct berth_shared_visit){.mode = berth__device_relax()};
    if (primary && berth__device_enter(primary, &ret->is_pushed) < 0)
        ret->is_pushed = false;
}

void berth__shared_leave(struct berth_shared_visit *visit)
{
    berth__device_leave(visit->is_pushed);
    berth__device_restore(visit->mode);
}

/*
 * The context that the device's primary one is now. A legacy segment is made and asked for in no
 * other, because only this one is known not to be destroyed behind our back.
 */
static int primary_of(int device, berth_cu_context *ret, struct berth_failure *failure)
{
    *ret = berth__device_primary(device);
    if (*ret)
        return 0;
    return berth__failure_set(failure, "no-context",
                              "device %d has no primary context yet, which legacy IPC needs",
                              device);
}

/* Whether the allocation still is the one that was made: contexts can be destroyed. */
static bool legacy_lives(const struct berth_shared_segment *segment)
{
    uint64_t id = 0;

    return berth__device_buffer_id(segment->base, &id) == 0 && id == segment->handle;
}

/* After the driver had no memory: whether what the pools cache has made some. */
static bool has_room_now(const struct berth_shared_segment *segment, int error)
{
    return error == -ENOMEM && berth__pool_release_cached(segment->device) > 0;
}

static int make_physical(struct berth_shared_segment *segment, struct berth_failure *failure)
{
    int r;

    do {
        r = berth__device_physical_make(segment->device, segment->size, &segment->handle);
    } while (has_room_now(segment, r));
    if (r < 0)
        return berth__shared_refuse(failure, "the driver gave no memory for the segment", r);
    return 0;
}

static int make_legacy(struct berth_shared_segment *segment, struct berth_failure *failure)
{
    berth_cu_context context;
    int r = primary_of(segment->device, &context, failure);

    if (r < 0)
        return r;
    do {
        r = berth__device_alloc_in(context, segment->size, &segment->base);
    } while (has_room_now(segment, r));
    if (r < 0)
        return berth__shared_refuse(failure, "the driver gave no memory for the segment", r);
    r = berth__device_buffer_id(segment->base, &segment->handle);
    if (r < 0) {
        berth__device_free(context, segment->base);
        return berth__shared_refuse(failure, "the driver does not tell its allocations apart", r);
    }
    return 0;
}

static int make_memory(struct berth_shared_segment *segment, struct berth_failure *failure)
{
    struct berth_foreign reserved;
    uint64_t granularity = 0;
    int r;

    segment->is_legacy = !berth__device_shares_descriptors(segment->device);
    if (!segment->is_legacy) {
        r = berth__device_granularity(segment->device, &granularity);
        if (r < 0)
            return berth__shared_refuse(
                failure, "the driver does not say in what sizes it shares memory", r);
    }
    /* What is mapped as large GPU pages is shared in whole ones. */
    if (granularity < 2 * BERTH_MIB)
        granularity = 2 * BERTH_MIB;
    if (segment->size > UINT64_MAX - granularity)
        return berth__failure_set(failure, "bad-request", "no device has so much memory");
    segment->size = (segment->size + granularity - 1) / granularity * granularity;
    /* It is this program's memory, in none of its blocks: part of its device tier's overhead. */
    reserved = (struct berth_foreign){
        .size = segment->size, .tier = BERTH_TIER_DEVICE, .tag = berth__tag_current()};
    if (berth__foreign_reserve(&reserved) < 0)
        return berth__failure_set(failure, "no-room",
                                  "the capacity of tier device, or the option device-limit, leaves "
                                  "no room for it");
    r = segment->is_legacy ? make_legacy(segment, failure) : make_physical(segment, failure);
    if (r < 0)
        berth__foreign_cancel(BERTH_TIER_DEVICE, segment->size);
    berth__foreign_settle(&reserved);
    return r;
}

static void append(struct berth_shared_segment *segment)
{
    struct berth_shared_segment **link = &segments;

    while (*link)
        link = &(*link)->next;
    *link = segment;
}

int berth__shared_segment_make(const char *name, uint64_t size, int device,
                               struct berth_failure *failure)
{
    struct berth_shared_segment *segment;
    struct berth_shared_visit visit;
    char why[256];
    int r;

    if (berth__name_check(name, why, sizeof(why)) < 0)
        return berth__failure_set(failure, "bad-request", "%s", why);
    if (size == 0)
        return berth__failure_set(failure, "bad-request",
                                  "the size is 0; expected a number of bytes");
    if (find(name))
        return berth__failure_set(failure, "exists",
                                  "there is a segment '%s' already; expected another name", name);
    r = berth__shared_check_driver(failure);
    if (r < 0)
        return r;
    segment = calloc(1, sizeof(*segment));
    if (!segment)
        return -ENOMEM;
    strcpy(segment->name, name);
    segment->size = size;
    segment->device = device;
    if (berth__device_uuid(device, segment->uuid) < 0)
        r = berth__failure_set(failure, "no-device", "the program sees no device %d", device);
    if (r == 0) {
        berth__shared_enter(device, &visit);
        r = make_memory(segment, failure);
        berth__shared_leave(&visit);
    }
    if (r < 0) {
        free(segment);
        return r;
    }
    append(segment);
    return 0;
}

int berth__shared_segment_drop(const char *name, struct berth_failure *failure)
{
    struct berth_shared_segment *segment = berth__shared_segment_find(name, failure);
    struct berth_shared_segment **link = &segments;
    struct berth_shared_visit visit;
    int r = 0;

    if (!segment)
        return -EINVAL;
    berth__shared_enter(segment->device, &visit);
    if (!segment->is_legacy)
        r = berth__device_physical_release(segment->handle);
    else if (legacy_lives(segment))
        r = berth__device_free(berth__device_primary(segment->device), segment->base);
    berth__shared_leave(&visit);
    if (r < 0)
        return berth__shared_refuse(failure, "the driver kept the segment", r);
    while (*link != segment)
        link = &(*link)->next;
    *link = segment->next;
    berth__foreign_cancel(BERTH_TIER_DEVICE, segment->size);
    free(segment);
    return 0;
}

int berth__shared_segment_descriptor(struct berth_shared_segment *segment, int *ret_fd,
                                     struct berth_failure *failure)
{
    int r = berth__device_physical_export(segment->handle, ret_fd);

    if (r < 0)
        return berth__shared_refuse(failure, "the driver gave no descriptor of the segment", r);
    segment->opens++;
    return 0;
}

int berth__shared_segment_handle(struct berth_shared_segment *segment,
                                 struct berth_cu_ipc_handle *ret, struct berth_failure *failure)
{
    berth_cu_context context;
    int r = primary_of(segment->device, &context, failure);

    if (r < 0)
        return r;
    if (!legacy_lives(segment))
        return berth__failure_set(failure, "no-segment",
                                  "the segment '%s' ended with the context that it was made in",
                                  segment->name);
    r = berth__device_ipc_export(context, segment->base, ret);
    if (r < 0)
        return berth__shared_refuse(failure, "the driver gave no handle of the segment", r);
    segment->opens++;
    return 0;
}
