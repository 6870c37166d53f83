/* SPDX-License-Identifier: Apache-2.0 */
/* What device_order.c and device_plan.c leave to who stands between them and the driver. */
#ifndef BERTH_TEST_DEVICE_ORDER_H
#define BERTH_TEST_DEVICE_ORDER_H

#include <stdbool.h>

/*
 * Called by the only thread after each of many frees while the device is at work: whoever keeps
 * what was freed looks whether that is too much. No function where nobody can say.
 */
__attribute__((weak)) void device_order_checkpoint(void);

/* Gives back all that is cached; bounds what may be had, or no more. Called while others allocate.
 */
__attribute__((weak)) void device_plan_trim(void);
__attribute__((weak)) void device_plan_limit(bool is_bounded);

#endif
