/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Segments that this process keeps for others: physical device memory with a name, made only on
 * request, which any process of the same user may map for as long as it likes.
 *
 * The memory lives until the segment is dropped (or this process ends) and every mapping of it is
 * gone. Where the driver cannot share physical memory by descriptor, a segment is a cuMemAlloc in
 * the device's primary context and goes by a legacy IPC handle: it then dies with that context or
 * this process, and dropping it is for when nobody has it mapped any more.
 *
 * Control thread only. Refusals are said in `failure`.
 */
#ifndef BERTH_IPC_SHARED_SEGMENT_H
#define BERTH_IPC_SHARED_SEGMENT_H

#include "alloc/device_vmm.h"
#include "ipc/failure.h"

struct berth_shared_segment {
    struct berth_shared_segment *next; /* by age, the oldest first */
    char name[BERTH_NAME_MAX];
    uint64_t size; /* as the driver has it: at least what was asked for */
    int device;
    unsigned char uuid[BERTH_DEVICE_UUID_SIZE];
    bool is_legacy;
    uint64_t handle; /* of the physical memory; legacy: the allocation's buffer id */
    uintptr_t base;  /* legacy only */
    uint64_t opens;  /* how often it was given out */
};

/* Makes one of at least `size` bytes. 0, -ENOMEM or -EINVAL. */
int berth__shared_segment_make(const char *name, uint64_t size, int device,
                               struct berth_failure *failure);

/* Forgets it; what others have mapped stays theirs, unless it is legacy. */
int berth__shared_segment_drop(const char *name, struct berth_failure *failure);

/* The one of this name, or NULL after saying why; and all of them. */
struct berth_shared_segment *berth__shared_segment_find(const char *name,
                                                        struct berth_failure *failure);
const struct berth_shared_segment *berth__shared_segment_first(void);

/* A descriptor of a segment that is not legacy, the caller's; a handle of one that is. */
int berth__shared_segment_descriptor(struct berth_shared_segment *segment, int *ret_fd,
                                     struct berth_failure *failure);
int berth__shared_segment_handle(struct berth_shared_segment *segment,
                                 struct berth_cu_ipc_handle *ret, struct berth_failure *failure);

/*
 * Whether the driver may be asked for anything: it is initialised, and this is no forked child of
 * the process that did that. -EINVAL after saying why not.
 */
int berth__shared_check_driver(struct berth_failure *failure);

/*
 * Around calls of the driver for a device. They are no part of what the program captures, and the
 * device's primary context is current meanwhile where it has one: cuda.h does not say which calls
 * need that.
 */
struct berth_shared_visit {
    struct berth_device_mode mode;
    bool is_pushed;
};
void berth__shared_enter(int device, struct berth_shared_visit *ret);
void berth__shared_leave(struct berth_shared_visit *visit);

/* Says that the driver did not do something; returns -EINVAL. */
int berth__shared_refuse(struct berth_failure *failure, const char *what, int error);

/* What a driver's refusal is to people: "out of memory", "CUDA error 999"; returns `text`. */
#define BERTH_SHARED_ERROR_MAX 64
const char *berth__shared_error(int error, char text[BERTH_SHARED_ERROR_MAX]);

#endif
