/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver of a few lines, bound where the pool expects the real one. Device memory is mmapped, so
 * that tests can fill it and a use after free crashes. It has a capacity, contexts on two devices,
 * and can make the Nth call of any function fail.
 */
#ifndef BERTH_TEST_DEVICE_MOCK_H
#define BERTH_TEST_DEVICE_MOCK_H

#include "alloc/device.h"

enum mock_call {
    MOCK_ALLOC,
    MOCK_FREE,
    MOCK_SYNC,
    MOCK_CURRENT,
    MOCK_PUSH,
    MOCK_POP,
    MOCK_DEVICE,
    /* Of pages_mock.h: */
    MOCK_ATTRIBUTE,
    MOCK_GRANULARITY,
    MOCK_TOTAL,
    MOCK_RESERVE,
    MOCK_UNRESERVE,
    MOCK_CREATE,
    MOCK_RELEASE,
    MOCK_MAP,
    MOCK_UNMAP,
    MOCK_ACCESS,
    MOCK_CALL_COUNT
};

extern const char *const mock_call_name[MOCK_CALL_COUNT];

/* Binds the driver; forgets all memory, failures and counts. `capacity` is bytes per device. */
void mock_reset(uint64_t capacity);
void mock_set_capacity(uint64_t capacity);

/* Contexts 0 to 3; 0 and 1 are on device 0, 2 and 3 on device 1. */
berth_cu_context mock_context(unsigned index);
/* Makes it (NULL: none) the calling thread's only context. */
void mock_set_current(berth_cu_context context);
/* The same by a way that no hook sees. */
void mock_switch_unseen(berth_cu_context context);
/* Destroys the context and its memory, as the driver does. */
void mock_destroy(berth_cu_context context);
/* Makes a new one that gets the handle of one that was destroyed. */
void mock_create(berth_cu_context context);

/* The `nth` call from now on (1 = the next one) answers `result` and does nothing. */
void mock_fail(enum mock_call call, unsigned nth, berth_cu_result result);
void mock_fail_none(void);

uint64_t mock_calls(enum mock_call call);
/* Bytes and allocations that the driver has given and not got back. */
uint64_t mock_bytes(void);
uint64_t mock_allocations(void);
/* Context pushes without their pop in the calling thread. */
int mock_depth(void);

/* For pages_mock.c: counts a call, and says whether it is to fail; takes of a device's capacity. */
berth_cu_result mock_enter(enum mock_call call);
bool mock_take(int device, uint64_t size);
void mock_give(int device, uint64_t size);
/* Allocations besides those of cuMemAlloc. */
extern uint64_t mock_other_allocations;

/*
 * Called inside cuMemAlloc, cuMemFree, cuCtxSynchronize and the calls of pages_mock.h that change
 * something; NULL for nothing.
 */
extern void (*mock_during)(enum mock_call call);
/* While set, allocating, freeing and synchronising answer this code of stream capture. */
extern berth_cu_result mock_capture_answer;

#endif
