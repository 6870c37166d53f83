/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/pmem/machine_fixture.h"

#include "pmem/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/mempolicy.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define must(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition, strerror(errno));   \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static char root[] = "/tmp/berth-machine-XXXXXX";

static struct {
    unsigned wait, times, failed;
    int error, argument;
} failing[MACHINE_CALLS];

static int last_mode;
static unsigned long last_nodes, allowed_nodes;
static int pages_on = -1;

void machine_begin(void)
{
    strcpy(root + sizeof(root) - 7, "XXXXXX");
    must(mkdtemp(root));
    berth__sysfs_root = root;
    memset(failing, 0, sizeof(failing));
    last_mode = -1;
    allowed_nodes = 0;
    pages_on = -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *place)
{
    (void)st;
    (void)type;
    (void)place;
    return remove(path);
}

void machine_end(void)
{
    memset(failing, 0, sizeof(failing));
    allowed_nodes = 0;
    pages_on = -1;
    berth__sysfs_root = "/sys";
    nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void make_parents(char *path)
{
    for (char *slash = path + sizeof(root); (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        must(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
}

void machine_file(const char *path, const char *format, ...)
{
    char full[BERTH_SYSFS_PATH_MAX];
    va_list arguments;
    FILE *to;

    snprintf(full, sizeof(full), "%s/%s", root, path);
    make_parents(full);
    to = fopen(full, "we");
    must(to);
    va_start(arguments, format);
    vfprintf(to, format, arguments);
    va_end(arguments);
    must(fclose(to) == 0);
}

void machine_link(const char *path, const char *target)
{
    char full[BERTH_SYSFS_PATH_MAX];

    snprintf(full, sizeof(full), "%s/%s", root, path);
    make_parents(full);
    unlink(full);
    must(symlink(target, full) == 0);
}

void machine_node(unsigned node, uint64_t total, uint64_t available)
{
    char path[64];

    snprintf(path, sizeof(path), "devices/system/node/node%u/meminfo", node);
    machine_file(path,
                 "Node %u MemTotal: %12llu kB\nNode %u MemFree: %12llu kB\n"
                 "Node %u Active(file): 0 kB\nNode %u Inactive(file): 0 kB\n",
                 node, (unsigned long long)total << 10, node, (unsigned long long)available << 10,
                 node, node);
}

void machine_fail(enum machine_call call, unsigned nth, unsigned times, int error, int argument)
{
    failing[call].wait = nth;
    failing[call].times = times;
    failing[call].error = error;
    failing[call].argument = argument;
    failing[call].failed = 0;
}

unsigned machine_failures(enum machine_call call)
{
    return failing[call].failed;
}

int machine_policy(unsigned long *ret_nodes)
{
    *ret_nodes = last_nodes;
    return last_mode;
}

void machine_pages_on(int node)
{
    pages_on = node;
}

void machine_allow_nodes(unsigned long nodes)
{
    allowed_nodes = nodes;
}

static bool fails(enum machine_call call, bool meant)
{
    if (!meant || failing[call].times == 0)
        return false;
    if (failing[call].wait > 0) {
        failing[call].wait--;
        return false;
    }
    failing[call].times--;
    failing[call].failed++;
    errno = failing[call].error;
    return true;
}

static bool is_meant(enum machine_call call, int argument)
{
    return failing[call].argument == 0 || failing[call].argument == argument;
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/* A policy for nodes that this machine does not have cannot be set: it is only remembered. */
static long do_mbind(const long *a)
{
    int mode = (int)a[2] & ~MPOL_F_STATIC_NODES;

    if (fails(MACHINE_MBIND, is_meant(MACHINE_MBIND, mode)))
        return -1;
    last_mode = mode;
    last_nodes = a[3] ? *(const unsigned long *)a[3] : 0;
    if (allowed_nodes && last_nodes != 1)
        return 0;
    return __real_syscall(SYS_mbind, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* Like the C library's, it reads six words, though its callers give no more than the call has. */
__attribute__((no_sanitize_address)) long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list arguments;

    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_mbind)
        return do_mbind(a);
    if (number == SYS_get_mempolicy && allowed_nodes && a[4] == MPOL_F_MEMS_ALLOWED) {
        memset((void *)a[1], 0, (size_t)a[2] / 8);
        *(unsigned long *)a[1] = allowed_nodes;
        return 0;
    }
    if (number == SYS_move_pages && pages_on >= 0) {
        for (long i = 0; i < a[1]; i++)
            ((int *)a[4])[i] = pages_on;
        return 0;
    }
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int __real_madvise(void *address, size_t size, int advice);
int __wrap_madvise(void *address, size_t size, int advice);

int __wrap_madvise(void *address, size_t size, int advice)
{
    if (fails(MACHINE_MADVISE, is_meant(MACHINE_MADVISE, advice)))
        return -1;
    return __real_madvise(address, size, advice);
}

int __real_mprotect(void *address, size_t size, int protection);
int __wrap_mprotect(void *address, size_t size, int protection);

int __wrap_mprotect(void *address, size_t size, int protection)
{
    return fails(MACHINE_MPROTECT, true) ? -1 : __real_mprotect(address, size, protection);
}

void *__real_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset);

void *__wrap_mmap64(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    bool meant = failing[MACHINE_MMAP].argument == 0 || (flags & failing[MACHINE_MMAP].argument);

    if (!fails(MACHINE_MMAP, meant))
        return __real_mmap64(address, size, protection, flags, fd, offset);
    /* As the kernel does it when the file refuses: what was there is gone. */
    if ((flags & MAP_FIXED) && fd >= 0)
        munmap(address, size);
    errno = failing[MACHINE_MMAP].error;
    return MAP_FAILED;
}

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);

int __wrap_open64(const char *path, int flags, ...)
{
    va_list arguments;
    int mode;

    va_start(arguments, flags);
    mode = va_arg(arguments, int);
    va_end(arguments);
    return fails(MACHINE_OPEN, true) ? -1 : __real_open64(path, flags, mode);
}

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);

int __wrap_flock(int fd, int operation)
{
    return fails(MACHINE_FLOCK, true) ? -1 : __real_flock(fd, operation);
}

int __real_fallocate64(int fd, int mode, off_t offset, off_t size);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size);

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t size)
{
    return fails(MACHINE_FALLOCATE, true) ? -1 : __real_fallocate64(fd, mode, offset, size);
}
