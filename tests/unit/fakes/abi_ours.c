/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fakes/cuda/runtime/runtime_abi.h"

#include "abi_table.h"

const struct abi_fact abi_ours[] = {
#include "abi_facts.inc"
};
const size_t abi_ours_count = sizeof(abi_ours) / sizeof(*abi_ours);
