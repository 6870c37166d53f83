/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit of a process's addresses (RLIMIT_AS), where it is lower than what the process has.
 *
 * The kernel lets such a process fork, and its child run, but neither may map anything, not even in
 * place of what is there: a child could not take its copies of tiers. The soft limit may be lifted
 * as far as the hard one by anybody, and further by whoever may exceed limits: the child does so
 * while it takes them.
 */
#ifndef BERTH_PMEM_ADDRESS_LIMIT_H
#define BERTH_PMEM_ADDRESS_LIMIT_H

#include <stdbool.h>
#include <sys/resource.h>

/*
 * Before a fork: whether its child could map nothing in place of what it has. False where it is not
 * known. Keeps errno.
 */
bool berth__address_limit_binds(void);

/* In the child, which has one thread. What is lifted is restored; errno may change. */
struct berth_address_limit {
    struct rlimit before;
    bool lifted;
};
void berth__address_limit_lift(struct berth_address_limit *ret);
void berth__address_limit_restore(const struct berth_address_limit *limit);

#endif
