/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the pool share: a pool over the driver of device_mock.h, checked at each step.
 */
#ifndef BERTH_TEST_POOL_FIXTURE_H
#define BERTH_TEST_POOL_FIXTURE_H

#include "alloc/pool.h"
#include "alloc/types.h"

#include <stdbool.h>
#include <stdint.h>

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

/* Each test starts with no context alive in the pool, and ends with an account that adds up. */
int pool_set_up(void **state);
int pool_tear_down(void **state);
#define TEST(name) cmocka_unit_test_setup_teardown(name, pool_set_up, pool_tear_down)

/* As a command sets it: it stays when the test ends. */
void pool_set_option(const char *name, const char *value);
/* The option thread-cache, until the test ends. */
void pool_set_thread_cache(const char *size);

/* Until the test ends, the device is at work whenever that says so, and can be asked. */
void pool_set_busy(bool (*is_busy)(void));

/* Whether the account, the walk over the pools and the driver say the same. */
void pool_assert_adds_up(void);
/* The account as a walk over the pools finds it. */
struct berth_pool_audit pool_audit(void);
/* How often the driver was asked for memory, or given some back. */
uint64_t pool_driver_calls(void);
/* After how many calls that is looked at, until the test ends: walking over large blocks takes
 * long. */
extern unsigned pool_calls_to_a_check;

/* berth__pool_alloc() of a weight, and the check; the other one in a given tier, without. */
int pool_try_alloc(uint64_t size, uintptr_t *ret);
int pool_try_alloc_in(berth_tier_id tier, uint64_t size, uintptr_t *ret);
/* The same where it must succeed; and the free. */
uintptr_t pool_get(uint64_t size);
void pool_put(uintptr_t address);
/* berth__foreign_reserve() of bytes without a tag, whose promise is taken back. */
int pool_reserve_foreign(berth_tier_id tier, uint64_t size);

#endif
