/* SPDX-License-Identifier: Apache-2.0 */
/* The rows of `berth doctor` that come from the kernel and the machine. */
#include "alloc/quantity.h"
#include "pmem/dax_device.h"
#include "pmem/huge_advice.h"
#include "pmem/node_memory.h"
#include "pmem/uffd.h"
#include "tools/berth/doctor.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef MAP_SYNC
#define MAP_SYNC 0x080000
#endif

/* The first line of a small file, without its newline; "" if there is none. */
static const char *first_line(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");

    text[0] = '\0';
    if (file) {
        if (!fgets(text, (int)size, file))
            text[0] = '\0';
        fclose(file);
    }
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static void check_kernel(struct berth_grid *grid)
{
    struct utsname name;
    int memory = memfd_create("berth-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (uname(&name) == 0)
        berth__doctor_row(grid, BERTH_FINDING_OK, "kernel", "%s %s", name.sysname, name.release);
    if (memory >= 0)
        berth__doctor_row(grid, BERTH_FINDING_OK, "memfd", "memory files can be sealed");
    else
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "memfd",
                          "%s: no policy can be applied to a process", strerror(errno));
    if (memory >= 0)
        close(memory);
    /* A range that names no descriptor: whether the call is known, without effect. */
    if (syscall(SYS_close_range, ~0U, ~0U, 0) == 0)
        berth__doctor_row(grid, BERTH_FINDING_OK, "close_range",
                          "control sockets are out of their programs' reach");
    else
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "close_range",
                          "%s: control sockets need unshare() instead", strerror(errno));
}

static void check_userfaultfd(struct berth_grid *grid)
{
    char why[BERTH_UFFD_WHY_MAX];
    struct berth_uffd uffd;

    if (berth__uffd_open(&uffd, why, sizeof(why)) < 0) {
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "userfaultfd",
                          "%s; host blocks move only at berth_step_quiescent()", why);
        return;
    }
    berth__doctor_row(grid, BERTH_FINDING_OK, "userfaultfd",
                      "host blocks can move while the program writes to them; %s%s",
                      uffd.takes_pages ? "pinned ones are seen"
                                       : "not while I/O may hold them (Linux 6.8)",
                      uffd.shared_memory ? "" : "; not out of tmpfs (Linux 5.19)");
    berth__uffd_close(&uffd);
}

/* Whether the kernel knows MAP_SYNC; whether a file system honours it is the tier's matter. */
static void check_map_sync(struct berth_grid *grid)
{
    int fd = memfd_create("berth-doctor", MFD_CLOEXEC);
    void *p = MAP_FAILED;

    errno = EINVAL;
    if (fd >= 0 && ftruncate(fd, 4096) == 0)
        p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
    if (p != MAP_FAILED)
        munmap(p, 4096);
    if (p != MAP_FAILED || errno == EOPNOTSUPP)
        berth__doctor_row(grid, BERTH_FINDING_OK, "MAP_SYNC", "known to the kernel");
    else
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "MAP_SYNC",
                          "%s: stores to persistent memory need msync", strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* "reserved 8 of 2.00 MiB, 3 free", per size that the machine has. */
static void check_huge_pages(struct berth_grid *grid)
{
    char *sizes = berth__tool_strdup("");
    glob_t found;

    if (glob("/sys/kernel/mm/hugepages/hugepages-*kB", 0, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            const char *name = strrchr(found.gl_pathv[i], '-') + 1;
            char path[512], all[32], idle[32], size[BERTH_QUANTITY_TEXT_MAX];
            char *longer;

            snprintf(path, sizeof(path), "%.400s/nr_hugepages", found.gl_pathv[i]);
            first_line(path, all, sizeof(all));
            snprintf(path, sizeof(path), "%.400s/free_hugepages", found.gl_pathv[i]);
            first_line(path, idle, sizeof(idle));
            longer = berth__tool_format(
                "%s, %s of %s reserved and %s free", sizes, all,
                berth__quantity_format(strtoull(name, NULL, 10) << 10, size), idle);
            free(sizes);
            sizes = longer;
        }
        globfree(&found);
    }
    berth__doctor_row(grid, BERTH_FINDING_OK, "huge pages", "%s%s", berth__huge_advice_text(),
                      sizes);
    free(sizes);
}

/* What each node has, for those that have memory. */
static void check_node_memory(struct berth_grid *grid)
{
    struct berth_node_set all, one;
    unsigned end;

    berth__node_memory_all(&all);
    end = berth__node_set_end(&all);
    if (berth__node_set_count(&all) < 2)
        return;
    for (unsigned node = 0; node < end; node++) {
        char name[32], total[BERTH_QUANTITY_TEXT_MAX], left[BERTH_QUANTITY_TEXT_MAX];
        char why[BERTH_NODES_WHY_MAX];
        struct berth_node_memory memory;

        if (!berth__node_set_has(&all, node))
            continue;
        memset(&one, 0, sizeof(one));
        snprintf(name, sizeof(name), "%u", node);
        if (berth__node_set_add(&one, name, why, sizeof(why)) < 0)
            continue;
        berth__node_memory_read(&one, &memory);
        snprintf(name, sizeof(name), "NUMA node %u", node);
        berth__doctor_row(grid, BERTH_FINDING_OK, name, "%s, %s left",
                          berth__quantity_format(memory.total, total),
                          berth__quantity_format(memory.available, left));
    }
}

static void check_numa(struct berth_grid *grid)
{
    char online[256], with_memory[256], with_cpu[256];

    first_line("/sys/devices/system/node/online", online, sizeof(online));
    first_line("/sys/devices/system/node/has_memory", with_memory, sizeof(with_memory));
    first_line("/sys/devices/system/node/has_cpu", with_cpu, sizeof(with_cpu));
    if (online[0] == '\0')
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "NUMA nodes",
                          "the kernel has none: a tier of kind numa is all of the memory");
    else
        berth__doctor_row(grid, BERTH_FINDING_OK, "NUMA nodes",
                          "%s (memory: %s, processors: %s); memory without processors is CXL or "
                          "dax-kmem",
                          online, with_memory, with_cpu);
}

static void dax_row(struct berth_grid *grid, const char *path)
{
    char size[BERTH_QUANTITY_TEXT_MAX], alignment[BERTH_QUANTITY_TEXT_MAX], node[32] = "";
    struct berth_dax_device device;
    char why[256];

    if (berth__dax_device_find(path, &device, why, sizeof(why)) < 0) {
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "device-dax", "%s: %s", path, why);
        return;
    }
    if (device.node >= 0)
        snprintf(node, sizeof(node), ", node %lld", (long long)device.node);
    berth__doctor_row(
        grid, access(path, R_OK | W_OK) == 0 ? BERTH_FINDING_OK : BERTH_FINDING_ABSENT,
        "device-dax", "%s: %s, aligned to %s%s%s", path, berth__quantity_format(device.size, size),
        berth__quantity_format(device.alignment, alignment), node,
        access(path, R_OK | W_OK) == 0 ? "" : "; this user may not use it");
}

static void check_dax(struct berth_grid *grid)
{
    glob_t found;

    if (glob("/dev/dax*.*", 0, NULL, &found) != 0) {
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "device-dax",
                          "no /dev/dax*: tiers of kind dax are not available");
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++)
        dax_row(grid, found.gl_pathv[i]);
    globfree(&found);
}

/* File systems that are mounted with -o dax: persistent memory that is mapped directly. */
static void check_fsdax(struct berth_grid *grid)
{
    FILE *mounts = fopen("/proc/self/mounts", "re");
    char directory[512], options[1024];
    int any = 0;

    while (mounts && fscanf(mounts, "%*s %511s %*s %1023s %*d %*d", directory, options) == 2) {
        char *rest = options, *option;

        while ((option = strsep(&rest, ","))) {
            if (strcmp(option, "dax") != 0 && strcmp(option, "dax=always") != 0)
                continue;
            berth__doctor_row(grid, BERTH_FINDING_OK, "fsdax", "%s", directory);
            any = 1;
        }
    }
    if (mounts)
        fclose(mounts);
    if (!any)
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "fsdax",
                          "no file system is mounted with dax: tiers of kind file use the page "
                          "cache");
}

static void check_cuda_devices(struct berth_grid *grid)
{
    glob_t found;
    size_t count = 0;

    if (glob("/dev/nvidia[0-9]*", 0, NULL, &found) == 0) {
        count = found.gl_pathc;
        globfree(&found);
    }
    if (count > 0)
        berth__doctor_row(grid, BERTH_FINDING_OK, "CUDA devices", "%zu", count);
    else
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "CUDA devices",
                          "no /dev/nvidia*: device tiers are not available");
}

static void check_limits(struct berth_grid *grid)
{
    struct rlimit limit;
    char size[BERTH_QUANTITY_TEXT_MAX];

    if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        berth__doctor_row(grid, BERTH_FINDING_OK, "address space", "not limited");
    else
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "address space",
                          "limited to %s (ulimit -v): far host tiers get less, or are off",
                          berth__quantity_format(limit.rlim_cur, size));
}

void berth__doctor_machine(struct berth_grid *grid)
{
    check_kernel(grid);
    check_map_sync(grid);
    check_userfaultfd(grid);
    check_limits(grid);
    check_huge_pages(grid);
    check_numa(grid);
    check_node_memory(grid);
    check_dax(grid);
    check_fsdax(grid);
    check_cuda_devices(grid);
}
