/* SPDX-License-Identifier: Apache-2.0 */
/* A device-dax device, as /sys tells of it: its own stat() knows neither its size nor its kind. */
#ifndef BERTH_PMEM_DAX_DEVICE_H
#define BERTH_PMEM_DAX_DEVICE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct berth_dax_device {
    uint64_t size;
    uint64_t alignment; /* of offsets, lengths and addresses of mappings */
    int64_t node;       /* of NUMA, whose memory it is; -1 = not known */
};

/* 0, or -errno with one sentence in `why`: -ENODEV for what is no device-dax device. */
int berth__dax_device_read(dev_t device, struct berth_dax_device *ret, char *why, size_t why_size);
/* The same by path. */
int berth__dax_device_find(const char *path, struct berth_dax_device *ret, char *why,
                           size_t why_size);

#endif
