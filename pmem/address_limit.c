/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/address_limit.h"

#include "alloc/file_call.h"
#include "alloc/sandbox.h"
#include "pmem/window.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The number that the kernel gives the first user namespace in /proc (PROC_USER_INIT_INO). */
#define FIRST_NAMESPACE 0xEFFFFFFDu

/* What the process has, in bytes; 0: it cannot be told. */
static uint64_t address_bytes(void)
{
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    char text[64] = "";

    if (fd < 0)
        return 0;
    if (read(fd, text, sizeof(text) - 1) < 0)
        text[0] = '\0';
    close(fd);
    return strtoull(text, NULL, 10) << BERTH_OS_PAGE_SHIFT;
}

/* The kernel asks for the right in the first user namespace: root of another one has it in vain. */
static bool may_exceed(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    struct stat st;

    return syscall(SYS_capget, &header, data) == 0 &&
           (data[CAP_TO_INDEX(CAP_SYS_RESOURCE)].effective & CAP_TO_MASK(CAP_SYS_RESOURCE)) &&
           berth__stat("/proc/self/ns/user", &st) == 0 && st.st_ino == FIRST_NAMESPACE;
}

/* A limit is looked up at every fork: the rest only where nothing more can be mapped. */
static bool binds(void)
{
    struct rlimit limit;
    void *p;

    if (berth__sandbox_is_on() || getrlimit(RLIMIT_AS, &limit) < 0 ||
        limit.rlim_max == RLIM_INFINITY)
        return false;
    p = mmap(NULL, BERTH_OS_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p != MAP_FAILED) {
        munmap(p, BERTH_OS_PAGE);
        return false;
    }
    return address_bytes() > limit.rlim_max && !may_exceed();
}

bool berth__address_limit_binds(void)
{
    int saved_errno = errno;
    bool r = binds();

    errno = saved_errno;
    return r;
}

/* Past the program's own setrlimit(), and Berth's (hooks/rlimit.c). */
static bool set_limit(const struct rlimit *to)
{
    return syscall(SYS_prlimit64, 0, RLIMIT_AS, to, NULL) == 0;
}

void berth__address_limit_lift(struct berth_address_limit *ret)
{
    static const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    struct rlimit most;

    ret->lifted = false;
    if (berth__sandbox_is_on() || getrlimit(RLIMIT_AS, &ret->before) < 0 ||
        ret->before.rlim_cur == RLIM_INFINITY)
        return;
    most = (struct rlimit){ret->before.rlim_max, ret->before.rlim_max};
    ret->lifted = (ret->before.rlim_max != RLIM_INFINITY && set_limit(&none)) || set_limit(&most);
}

void berth__address_limit_restore(const struct berth_address_limit *limit)
{
    if (limit->lifted)
        set_limit(&limit->before);
}
