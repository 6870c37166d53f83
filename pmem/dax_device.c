/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/dax_device.h"

#include "alloc/file_call.h"
#include "pmem/sysfs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define refuse(error, ...) (snprintf(why, why_size, __VA_ARGS__), (error))

static int read_number(dev_t device, const char *name, int64_t *ret)
{
    char path[96];

    snprintf(path, sizeof(path), "dev/char/%u:%u/%s", major(device), minor(device), name);
    return berth__sysfs_number(path, ret);
}

int berth__dax_device_read(dev_t device, struct berth_dax_device *ret, char *why, size_t why_size)
{
    int64_t size = 0, alignment = 0, node = -1;
    char path[64], bus[32];

    snprintf(path, sizeof(path), "dev/char/%u:%u/subsystem", major(device), minor(device));
    if (berth__sysfs_link(path, bus, sizeof(bus)) < 0 || strcmp(bus, "dax") != 0)
        return refuse(-ENODEV, "it is no device-dax device");
    if (read_number(device, "size", &size) < 0 || size <= 0)
        return refuse(-ENODEV, "the kernel gives the device no size");
    /* Where kernels before 5.10 have it. */
    if (read_number(device, "align", &alignment) < 0 &&
        read_number(device, "device/align", &alignment) < 0)
        return refuse(-ENODEV, "the kernel tells no alignment of the device");
    if (alignment <= 0 || (alignment & (alignment - 1)) != 0)
        return refuse(-ENODEV, "the device's alignment is %lld, which is no power of two",
                      (long long)alignment);
    if (read_number(device, "target_node", &node) < 0)
        node = -1;
    *ret = (struct berth_dax_device){(uint64_t)size, (uint64_t)alignment, node};
    return 0;
}

int berth__dax_device_find(const char *path, struct berth_dax_device *ret, char *why,
                           size_t why_size)
{
    struct stat st;
    int r = berth__stat(path, &st) < 0 ? -errno : 0;

    if (r < 0)
        return refuse(r, "%s cannot be used: %s", path, strerrordesc_np(-r));
    return berth__dax_device_read(st.st_rdev, ret, why, why_size);
}
