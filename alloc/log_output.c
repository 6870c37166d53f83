/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/log_output.h"

#include "alloc/file_call.h"
#include "alloc/sandbox.h"
#include "alloc/types.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* What the kernel's signal mask has, which is less than the C library's. */
#define KERNEL_SIGSET_SIZE (_NSIG / 8)

/*
 * What stderr was when the process began. Written once, before there are threads, and then read
 * only. UNKNOWN: nobody has looked, as in tools; NONE: it was closed.
 */
enum origin { UNKNOWN = 0, NONE, KNOWN };
BERTH_SHARED struct berth_log_origin {
    enum origin origin;
    dev_t device, special_device;
    ino_t inode;
} berth__log_origin;

void berth__log_output_remember(void)
{
    int saved_errno = errno;
    struct stat st;

    if (berth__log_origin.origin != UNKNOWN)
        return;
    berth__log_origin.origin = NONE;
    if (berth__fstat(STDERR_FILENO, &st) == 0) {
        berth__log_origin.device = st.st_dev;
        berth__log_origin.special_device = st.st_rdev;
        berth__log_origin.inode = st.st_ino;
        berth__log_origin.origin = KNOWN;
    }
    errno = saved_errno;
}

static bool is_as_remembered(const struct stat *st)
{
    const struct berth_log_origin *origin = &berth__log_origin;

    return origin->origin == UNKNOWN ||
           (origin->origin == KNOWN && st->st_dev == origin->device &&
            st->st_ino == origin->inode && st->st_rdev == origin->special_device);
}

/* A program's data are neither; a log that it has opened since then is. */
static bool is_for_lines(const struct stat *st)
{
    int flags = fcntl(STDERR_FILENO, F_GETFL);

    if (S_ISCHR(st->st_mode))
        return isatty(STDERR_FILENO);
    return S_ISREG(st->st_mode) && flags >= 0 && (flags & O_APPEND);
}

static bool takes_at_once(void)
{
    struct pollfd stderr_now = {.fd = STDERR_FILENO, .events = POLLOUT};
    const struct timespec none = {0};

    return syscall(SYS_ppoll, &stderr_now, 1, &none, NULL, 0) == 1 && stderr_now.revents == POLLOUT;
}

/* Room that was seen may be gone again: newer kernels are told not to wait for it. */
static void write_pipe(const char *line, size_t size)
{
    struct iovec piece = {.iov_base = (char *)line, .iov_len = size};

    if (takes_at_once() &&
        syscall(SYS_pwritev2, STDERR_FILENO, &piece, 1UL, -1L, -1L, RWF_NOWAIT) < 0 &&
        (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
        syscall(SYS_write, STDERR_FILENO, line, size);
}

static void write_by_kind(mode_t mode, const char *line, size_t size)
{
    if (S_ISFIFO(mode))
        write_pipe(line, size);
    else if (S_ISSOCK(mode))
        syscall(SYS_sendto, STDERR_FILENO, line, size, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0);
    else if (S_ISREG(mode) || (S_ISCHR(mode) && takes_at_once()))
        syscall(SYS_write, STDERR_FILENO, line, size);
}

/* What writing may raise, all on this thread: a pipe without readers, a file as large as any may
 * be, a terminal that is another job's. */
static void fill_raised(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGPIPE);
    sigaddset(set, SIGXFSZ);
    sigaddset(set, SIGTTOU);
}

/* Takes the signals back that were not pending before. */
static void take_back(const sigset_t *raised, const sigset_t *pending)
{
    const struct timespec none = {0};
    sigset_t ours = *raised;

    for (int number = 1; number < _NSIG; number++)
        if (sigismember(&ours, number) && sigismember(pending, number))
            sigdelset(&ours, number);
    while (syscall(SYS_rt_sigtimedwait, &ours, NULL, &none, KERNEL_SIGSET_SIZE) > 0)
        ;
}

void berth__log_output(const char *line, size_t size)
{
    sigset_t raised, pending, before;
    struct stat st;

    /* It would be ended for any call but those that it makes itself. */
    if (berth__sandbox_is_on()) {
        syscall(SYS_write, STDERR_FILENO, line, size);
        return;
    }
    if (berth__fstat(STDERR_FILENO, &st) < 0 || (!is_as_remembered(&st) && !is_for_lines(&st)))
        return;
    fill_raised(&raised);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &raised, &before);
    errno = 0;
    write_by_kind(st.st_mode, line, size);
    /* Else any that is pending now was sent to the program. */
    if (errno == EPIPE || errno == EFBIG)
        take_back(&raised, &pending);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
