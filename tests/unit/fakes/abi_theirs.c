/* SPDX-License-Identifier: Apache-2.0 */
/* The toolkit's headers, which must not meet ours in one file. */
#include <cuda.h>
#include <driver_types.h>

#include "abi_table.h"

const struct abi_fact abi_theirs[] = {
#include "abi_facts.inc"
};
const size_t abi_theirs_count = sizeof(abi_theirs) / sizeof(*abi_theirs);
