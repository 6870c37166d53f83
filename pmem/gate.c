/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/gate.h"

struct berth_gate berth__gate = {
    .threshold = SIZE_MAX,
    .site_threshold = SIZE_MAX,
    .device_site_threshold = SIZE_MAX,
};
