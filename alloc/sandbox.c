/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/sandbox.h"

#include "alloc/module.h"

_Atomic unsigned berth__sandboxes;

void berth__sandbox_enter(void)
{
    berth__module_know_program();
    atomic_fetch_add_explicit(&berth__sandboxes, 1, memory_order_relaxed);
}

void berth__sandbox_leave(void)
{
    atomic_fetch_sub_explicit(&berth__sandboxes, 1, memory_order_relaxed);
}
