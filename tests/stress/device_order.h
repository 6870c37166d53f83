/* SPDX-License-Identifier: Apache-2.0 */
/* What device_order.c leaves to who stands between it and the driver. */
#ifndef BERTH_TEST_DEVICE_ORDER_H
#define BERTH_TEST_DEVICE_ORDER_H

/*
 * Called by the only thread after each of many frees while the device is at work: whoever keeps
 * what was freed looks whether that is too much. No function where nobody can say.
 */
__attribute__((weak)) void device_order_checkpoint(void);

#endif
