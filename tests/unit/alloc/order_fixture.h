/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests of alloc/order.h and of what waits by it share: the simulated driver, a stream that a
 * host function holds up until go_on(), and short names for allocating and freeing.
 */
#ifndef BERTH_TESTS_ORDER_FIXTURE_H
#define BERTH_TESTS_ORDER_FIXTURE_H

#include "cuda_api.h"

#include <stdatomic.h>
#include <stdint.h>

#define SIZE ((uint64_t)300 << 10)

extern CUcontext context;     /* the primary one, which is current */
extern atomic_bool may_go_on; /* lets streams go on that hold() holds up */

void use_context(CUcontext which);
void set_option(const char *name, const char *value);
int up(void **state);
int before_each(void **state);
int after_each(void **state);
void hold(void *argument);
CUstream stream_new(void);
void stream_delete(CUstream stream);
CUstream busy_stream(void);
void go_on(void);
uintptr_t alloc(uint64_t size);
uintptr_t alloc_in(CUstream stream, uint64_t size);
void free_in(CUstream stream, uintptr_t address);
/* The driver's next so many allocations in stream order are refused; `refusals` counts them. */
void refuse_in_order(unsigned count);
extern unsigned refusals;
struct berth_pool *pool_of_test(void);
uint64_t waiting(void);

#endif
