/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that are a process of their own each, and have the host side's tiers. */
#ifndef BERTH_TESTS_PMEM_CHILD_FIXTURE_H
#define BERTH_TESTS_PMEM_CHILD_FIXTURE_H

#include "../child_fixture.h"
#include "pmem/host.h"

/* With the host side's tiers, as a program has them from its start. */
static inline void in_host_child(void (*run)(void))
{
    in_child_after(berth__host_register, run);
}

#endif
