/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/uffd.h"

#include "pmem/move_fault.h"
#include "pmem/window.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of newer kernels than the headers may be of (include/uapi/linux/userfaultfd.h). */
#define FEATURE_PAGEFAULT_FLAG_WP (UINT64_C(1) << 0)
#define FEATURE_EVENT_REMOVE (UINT64_C(1) << 3)
#define FEATURE_WP_HUGETLBFS_SHMEM (UINT64_C(1) << 12)
#define FEATURE_WP_UNPOPULATED (UINT64_C(1) << 13)
#define FEATURE_MOVE (UINT64_C(1) << 16)
#define NEW_DESCRIPTOR _IO(0xAA, 0x00) /* USERFAULTFD_IOC_NEW of /dev/userfaultfd */

struct move_request { /* struct uffdio_move */
    uint64_t to, from, size, mode;
    int64_t done;
};
#define MOVE_PAGES _IOWR(UFFDIO, 0x05, struct move_request)
#define MOVE_ALLOW_HOLES (UINT64_C(1) << 1)

/* Ranges that are watched at once: each watcher has few, because it holds writers back. */
#define RANGES_MAX 64

int (*berth__move_inject)(enum berth_move_call call);

struct watched_range {
    uintptr_t start, end; /* start 0 = free */
};

static struct {
    pthread_mutex_t lock; /* held for a few instructions; a forked child starts with none taken */
    struct watched_range range[RANGES_MAX];
} watched = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void forget_in_child(void)
{
    memset(watched.range, 0, sizeof(watched.range));
    pthread_mutex_init(&watched.lock, NULL);
}

static void handle_forks(void)
{
    pthread_atfork(NULL, NULL, forget_in_child);
}

/* 0; -EBUSY: part of it is watched; -ENOSPC: too much is. */
static int take_range(uintptr_t start, uintptr_t end)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct watched_range *free_one = NULL;
    int r = 0;

    pthread_once(&once, handle_forks);
    pthread_mutex_lock(&watched.lock);
    for (int i = 0; i < RANGES_MAX && r == 0; i++) {
        struct watched_range *range = &watched.range[i];

        if (range->start == 0)
            free_one = range;
        else if (range->start < end && start < range->end)
            r = -EBUSY;
    }
    if (r == 0 && !free_one)
        r = -ENOSPC;
    if (r == 0)
        *free_one = (struct watched_range){start, end};
    pthread_mutex_unlock(&watched.lock);
    return r;
}

static void give_range(uintptr_t start)
{
    pthread_mutex_lock(&watched.lock);
    for (int i = 0; i < RANGES_MAX; i++)
        if (watched.range[i].start == start)
            watched.range[i].start = 0;
    pthread_mutex_unlock(&watched.lock);
}

/* One that tells of the kernel's own writes too, so without UFFD_USER_MODE_ONLY. -errno. */
static int open_descriptor(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    int device, r;

    if (fd >= 0)
        return fd;
    r = -errno;
    device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0)
        return r;
    fd = ioctl(device, NEW_DESCRIPTOR, O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        fd = -errno;
    close(device);
    return fd;
}

/* The handshake happens once per descriptor, and enables just what was asked for. */
static int shake_hands(int fd, uint64_t *features)
{
    struct uffdio_api api = {.api = UFFD_API, .features = *features};

    if (ioctl(fd, UFFDIO_API, &api) < 0)
        return -errno;
    *features = api.features;
    return 0;
}

static int ask_features(uint64_t *ret)
{
    int fd = open_descriptor();
    int r;

    if (fd < 0)
        return fd;
    *ret = 0;
    r = shake_hands(fd, ret);
    close(fd);
    return r;
}

static int explain(int r, char *why, size_t why_size)
{
    if (r == -EPERM || r == -EACCES)
        snprintf(why, why_size,
                 "this user may not hold back what system calls write: that takes CAP_SYS_PTRACE, "
                 "vm.unprivileged_userfaultfd = 1 or access to /dev/userfaultfd");
    else if (r == -ENOSYS)
        snprintf(why, why_size, "this kernel has no userfaultfd");
    else if (r == -ENOTSUP)
        snprintf(why, why_size, "this kernel's userfaultfd cannot hold writers back (Linux 5.7)");
    else
        snprintf(why, why_size, "userfaultfd: %s", strerrordesc_np(-r));
    return r == -EACCES ? -EPERM : r;
}

int berth__uffd_open(struct berth_uffd *uffd, char *why, size_t why_size)
{
    const uint64_t useful = FEATURE_PAGEFAULT_FLAG_WP | FEATURE_EVENT_REMOVE |
                            FEATURE_WP_HUGETLBFS_SHMEM | FEATURE_WP_UNPOPULATED | FEATURE_MOVE;
    uint64_t features = 0;
    int r = berth__move_fault(BERTH_CALL_UFFD_OPEN);
    int fd;

    if (r == 0)
        r = ask_features(&features);
    if (r == 0 && !(features & FEATURE_PAGEFAULT_FLAG_WP))
        r = -ENOTSUP;
    if (r < 0)
        return explain(r, why, why_size);
    fd = open_descriptor();
    if (fd < 0)
        return explain(fd, why, why_size);
    features &= useful;
    r = shake_hands(fd, &features);
    if (r < 0) {
        close(fd);
        return explain(r, why, why_size);
    }
    *uffd = (struct berth_uffd){
        .fd = fd,
        .shared_memory = features & FEATURE_WP_HUGETLBFS_SHMEM,
        .untouched = features & FEATURE_WP_UNPOPULATED,
        .takes_pages = (features & FEATURE_MOVE) && berth__move_fault(BERTH_CALL_UFFD_OFFER) == 0,
        .tells_removal = features & FEATURE_EVENT_REMOVE,
    };
    return 0;
}

void berth__uffd_close(struct berth_uffd *uffd)
{
    if (uffd->fd >= 0)
        close(uffd->fd);
    uffd->fd = -1;
}

int berth__uffd_watch(const struct berth_uffd *uffd, void *address, size_t size, int mode)
{
    struct uffdio_register request = {
        .range = {.start = (uintptr_t)address, .len = size},
        .mode = (mode & BERTH_UFFD_FOR_WRITES ? UFFDIO_REGISTER_MODE_WP : 0) |
                (mode & BERTH_UFFD_FOR_MISSING ? UFFDIO_REGISTER_MODE_MISSING : 0),
    };
    int r = take_range((uintptr_t)address, (uintptr_t)address + size);

    if (r < 0)
        return r;
    r = berth__move_fault(BERTH_CALL_UFFD_REGISTER);
    if (r == 0 && ioctl(uffd->fd, UFFDIO_REGISTER, &request) < 0)
        r = -errno;
    if (r < 0)
        give_range((uintptr_t)address);
    return r;
}

void berth__uffd_unwatch(const struct berth_uffd *uffd, void *address, size_t size)
{
    struct uffdio_range range = {.start = (uintptr_t)address, .len = size};

    /*
     * Fails where something else is mapped there by now, which the kernel does not watch. Kernels
     * before 6.0 leave the pages' protection to the next write, which then passes.
     */
    ioctl(uffd->fd, UFFDIO_UNREGISTER, &range);
    ioctl(uffd->fd, UFFDIO_WAKE, &range);
    give_range((uintptr_t)address);
}

int berth__uffd_protect(const struct berth_uffd *uffd, void *address, size_t size, bool on)
{
    struct uffdio_writeprotect request = {
        .range = {.start = (uintptr_t)address, .len = size},
        .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
    };
    int r = berth__move_fault(on ? BERTH_CALL_UFFD_PROTECT : BERTH_CALL_UFFD_UNPROTECT);

    if (r < 0)
        return r;
    while (ioctl(uffd->fd, UFFDIO_WRITEPROTECT, &request) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

int berth__uffd_read(const struct berth_uffd *uffd, struct berth_uffd_where *ret_where)
{
    struct uffd_msg message;
    int r = berth__move_fault(BERTH_CALL_UFFD_READ);
    ssize_t n;

    if (r < 0)
        return r;
    n = read(uffd->fd, &message, sizeof(message));
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? BERTH_UFFD_NOTHING : -errno;
    if (n != (ssize_t)sizeof(message))
        return -EIO;
    if (message.event == UFFD_EVENT_REMOVE) {
        ret_where->start = (uintptr_t)message.arg.remove.start;
        ret_where->end = (uintptr_t)message.arg.remove.end;
        return BERTH_UFFD_REMOVED;
    }
    if (message.event != UFFD_EVENT_PAGEFAULT ||
        !(message.arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP))
        return BERTH_UFFD_OTHER;
    ret_where->start = (uintptr_t)message.arg.pagefault.address;
    ret_where->end = ret_where->start + 1;
    return BERTH_UFFD_WRITE;
}

/* Half of it, in OS pages. */
static size_t half_of(size_t size)
{
    return (size / BERTH_OS_PAGE + 1) / 2 * BERTH_OS_PAGE;
}

int berth__uffd_take_pages(const struct berth_uffd *uffd, void *to, void *from, size_t size,
                           size_t *ret_done)
{
    size_t done = 0, part = size;
    int r = berth__move_fault(BERTH_CALL_UFFD_TAKE);

    while (r == 0 && done < size) {
        struct move_request request = {
            .to = (uintptr_t)to + done,
            .from = (uintptr_t)from + done,
            .size = part < size - done ? part : size - done,
            .mode = MOVE_ALLOW_HOLES,
        };

        if (ioctl(uffd->fd, MOVE_PAGES, &request) < 0)
            r = errno == EINTR ? 0 : -errno;
        if (request.done > 0)
            done += (size_t)request.done;
        /* A part was moved, and the kernel wants to be asked for the rest. */
        if (r == -EAGAIN && request.done > 0)
            r = 0;
        /* It moves pages of one mapping at a time; advice (madvise(2)) for some makes several. */
        if (r == 0)
            part = size - done;
        if (r == -EINVAL && request.size > BERTH_OS_PAGE) {
            part = half_of(request.size);
            r = 0;
        }
    }
    *ret_done = done;
    return r;
}
