/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the second door of alloc/order.h, for order*.c alone: of those who wait for the
 * device.
 */
#ifndef BERTH_ALLOC_ORDER_WAIT_H
#define BERTH_ALLOC_ORDER_WAIT_H

struct berth_order_waiters;

/* NULL: a capture is open. Else berth__order_wait_leave() must follow. */
struct berth_order_waiters *berth__order_wait_enter(void);
void berth__order_wait_leave(struct berth_order_waiters *mine);

#endif
