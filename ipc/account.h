/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The account as JSON: what is where, per tier and tag, with sums that add up.
 *
 * Each counter is read once, and every sum is made from what was read, so that sums in one answer
 * always agree. The counters go on changing while they are read: where `reserved` is seen below
 * what is held, it is raised to that, and `cached` is never more than what it leaves.
 */
#ifndef BERTH_IPC_ACCOUNT_H
#define BERTH_IPC_ACCOUNT_H

#include <jansson.h>

/* Adds "tiers", "host" and "totals" to `object`. 0 or -ENOMEM. */
int berth__account_add(json_t *object);

#endif
