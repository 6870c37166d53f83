/* SPDX-License-Identifier: Apache-2.0 */
/* Each name has the structure of its own width here, and is not renamed to the other. */
#undef _FILE_OFFSET_BITS
#include "points.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A wait in Berth's libraries lasts a minute at most. */
#define PATIENCE_S 150
/* So often is the thread seen asleep before it is taken to wait. */
#define SLEEPS 20
#define CALLERS_MAX 256

/* Whatever it is built for: what is asked for here is done in the asking. */
#define MUST(condition) ((condition) ? (void)0 : abort())

/* The situation that the calling thread is watched in, or NULL. */
static __thread const char *watched __attribute__((tls_model("initial-exec")));
static _Atomic pid_t watched_thread; /* 0: it has come to its end */
static atomic_bool has_failed;

/* As /proc has it. */
static char state_of(pid_t thread)
{
    char path[64], text[64] = "";
    const char *state;
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)thread);
    fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return 0;
    if (syscall(SYS_read, fd, text, sizeof(text) - 1) < 0)
        text[0] = '\0';
    syscall(SYS_close, fd);
    state = strchr(text, ')');
    return state && state[1] ? state[2] : 0;
}

void points_await_wait(void)
{
    unsigned seen = 0;
    pid_t thread;

    while (seen < SLEEPS && (thread = atomic_load(&watched_thread)) != 0) {
        seen += state_of(thread) == 'S';
        sched_yield();
    }
}

/* Not by a stream, which may be what is waited for. */
__attribute__((format(printf, 1, 2))) static void say(const char *format, ...)
{
    char line[512];
    va_list args;
    int n;

    atomic_store(&has_failed, true);
    va_start(args, format);
    n = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    MUST(n > 0 && (size_t)n < sizeof(line));
    MUST(syscall(SYS_write, STDOUT_FILENO, line, (size_t)n) == n);
}

void situation_fail(const char *what, int line)
{
    say("FAILED line %d: %s\n", line, what);
}

/* Whether the call of this caller was told of in this situation. */
static bool was_told(const void *caller)
{
    static struct {
        const char *situation;
        const void *caller;
    } told[CALLERS_MAX];
    static unsigned count; /* one thread is watched at a time */

    for (unsigned i = 0; i < count; i++)
        if (told[i].situation == watched && told[i].caller == caller)
            return true;
    MUST(count < CALLERS_MAX);
    told[count].situation = watched;
    told[count++].caller = caller;
    return false;
}

static void tell(const char *name, const void *caller)
{
    Dl_info info = {0};
    const char *module = "?";
    int saved_errno = errno;

    if (was_told(caller))
        return;
    if (dladdr(caller, &info) != 0 && info.dli_fname)
        module = strrchr(info.dli_fname, '/') ? strrchr(info.dli_fname, '/') + 1 : info.dli_fname;
    /* The simulated driver has files where a driver has a device. */
    if (strncmp(module, "libcuda.", 8) == 0 && strncmp(name, "pthread_", 8) != 0)
        return;
    say("FAILED %s: %s() of %s+%#lx\n", watched, name, module,
        (unsigned long)((const char *)caller - (const char *)info.dli_fbase));
    errno = saved_errno;
}

/* What a call was that is over. */
struct point {
    int cancel_state;
};

/* The thread does not end in the call, whatever was told of it: what comes next is seen, too. */
static struct point begin(const char *name, const void *caller)
{
    struct point point;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &point.cancel_state);
    if (watched && point.cancel_state == PTHREAD_CANCEL_ENABLE)
        tell(name, caller);
    return point;
}

static void end(struct point point)
{
    int saved_errno = errno;

    pthread_setcancelstate(point.cancel_state, NULL);
    errno = saved_errno;
}

/* X(type, name, parameters, number of the system call, arguments): calls that are one. */
#define SYSTEM_CALLS(X)                                                                            \
    X(ssize_t, read, (int fd, void *to, size_t size), SYS_read, fd, to, size)                      \
    X(ssize_t, write, (int fd, const void *from, size_t size), SYS_write, fd, from, size)          \
    X(ssize_t, pread64, (int fd, void *to, size_t size, off64_t at), SYS_pread64, fd, to, size,    \
      at)                                                                                          \
    X(ssize_t, pwrite64, (int fd, const void *from, size_t size, off64_t at), SYS_pwrite64, fd,    \
      from, size, at)                                                                              \
    X(int, close, (int fd), SYS_close, fd)                                                         \
    X(int, fsync, (int fd), SYS_fsync, fd)                                                         \
    X(int, fdatasync, (int fd), SYS_fdatasync, fd)                                                 \
    X(int, msync, (void *p, size_t size, int flags), SYS_msync, p, size, flags)                    \
    X(int, fallocate64, (int fd, int mode, off64_t at, off64_t size), SYS_fallocate, fd, mode, at, \
      size)                                                                                        \
    X(ssize_t, getrandom, (void *to, size_t size, unsigned flags), SYS_getrandom, to, size, flags) \
    X(pid_t, waitpid, (pid_t pid, int *status, int flags), SYS_wait4, pid, status, flags, NULL)    \
    X(int, nanosleep, (const struct timespec *time, struct timespec *rest), SYS_nanosleep, time,   \
      rest)                                                                                        \
    X(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), SYS_sendmsg, fd,        \
      message, flags)                                                                              \
    X(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), SYS_recvmsg, fd, message,     \
      flags)

#define DEFINE(type, name, parameters, ...)                                                        \
    type name parameters                                                                           \
    {                                                                                              \
        struct point point = begin(#name, __builtin_return_address(0));                            \
        type r = (type)syscall(__VA_ARGS__);                                                       \
                                                                                                   \
        end(point);                                                                                \
        return r;                                                                                  \
    }
SYSTEM_CALLS(DEFINE)
#undef DEFINE

/* X(name): those of its parameters. */
#define OPENS(X)                                                                                   \
    X(open)                                                                                        \
    X(open64)
#define OPENS_AT(X)                                                                                \
    X(openat)                                                                                      \
    X(openat64)

static int open_at(const char *name, const void *caller, int at, const char *path, int flags,
                   va_list args)
{
    bool has_mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    struct point point = begin(name, caller);
    mode_t mode = has_mode ? va_arg(args, mode_t) : 0;
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);

    end(point);
    return fd;
}

#define DEFINE(name)                                                                               \
    int name(const char *path, int flags, ...)                                                     \
    {                                                                                              \
        va_list args;                                                                              \
        int fd;                                                                                    \
                                                                                                   \
        va_start(args, flags);                                                                     \
        fd = open_at(#name, __builtin_return_address(0), AT_FDCWD, path, flags, args);             \
        va_end(args);                                                                              \
        return fd;                                                                                 \
    }
OPENS(DEFINE)
#undef DEFINE

#define DEFINE(name)                                                                               \
    int name(int at, const char *path, int flags, ...)                                             \
    {                                                                                              \
        va_list args;                                                                              \
        int fd;                                                                                    \
                                                                                                   \
        va_start(args, flags);                                                                     \
        fd = open_at(#name, __builtin_return_address(0), at, path, flags, args);                   \
        va_end(args);                                                                              \
        return fd;                                                                                 \
    }
OPENS_AT(DEFINE)
#undef DEFINE

/* These answer with the error. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *rest)
{
    struct point point = begin("clock_nanosleep", __builtin_return_address(0));
    int saved_errno = errno, r;

    r = syscall(SYS_clock_nanosleep, clock, flags, time, rest) < 0 ? errno : 0;
    errno = saved_errno;
    end(point);
    return r;
}

int posix_fallocate64(int fd, off64_t at, off64_t size)
{
    struct point point = begin("posix_fallocate", __builtin_return_address(0));
    int saved_errno = errno, r;

    r = syscall(SYS_fallocate, fd, 0, at, size) < 0 ? errno : 0;
    errno = saved_errno;
    end(point);
    return r;
}

/* X(name, parameters, arguments): those that are more than a system call. */
#define WAITS(X)                                                                                   \
    X(pthread_cond_wait, (pthread_cond_t * condition, pthread_mutex_t * mutex),                    \
      (condition, mutex))                                                                          \
    X(pthread_cond_timedwait,                                                                      \
      (pthread_cond_t * condition, pthread_mutex_t * mutex, const struct timespec *until),         \
      (condition, mutex, until))                                                                   \
    X(pthread_cond_clockwait,                                                                      \
      (pthread_cond_t * condition, pthread_mutex_t * mutex, clockid_t clock,                       \
       const struct timespec *until),                                                              \
      (condition, mutex, clock, until))                                                            \
    X(pthread_join, (pthread_t thread, void **result), (thread, result))

#define DEFINE(name, parameters, arguments)                                                        \
    int name parameters                                                                            \
    {                                                                                              \
        struct point point_ = begin(#name, __builtin_return_address(0));                           \
        static _Atomic(void *) found;                                                              \
        int(*next) parameters;                                                                     \
        int r;                                                                                     \
                                                                                                   \
        if (!atomic_load(&found))                                                                  \
            atomic_store(&found, dlsym(RTLD_NEXT, #name));                                         \
        *(void **)&next = atomic_load(&found);                                                     \
        r = next arguments;                                                                        \
        end(point_);                                                                               \
        return r;                                                                                  \
    }
WAITS(DEFINE)
#undef DEFINE

/* A situation that a thread is in. */
struct attempt {
    const struct situation *situation;
    bool is_done, has_survived;
};

static void *run_cancelled(void *context)
{
    struct attempt *attempt = context;

    atomic_store(&watched_thread, gettid());
    MUST(pthread_cancel(pthread_self()) == 0);
    watched = attempt->situation->name;
    attempt->situation->run();
    watched = NULL;
    atomic_store(&watched_thread, 0);
    attempt->is_done = true;
    pthread_testcancel();
    attempt->has_survived = true;
    return NULL;
}

static void run(const struct situation *situation)
{
    struct attempt attempt = {.situation = situation};
    pthread_t thread;
    void *result;

    /* Until it has a number of its own. */
    atomic_store(&watched_thread, getpid());
    if (situation->begin)
        situation->begin();
    MUST(pthread_create(&thread, NULL, run_cancelled, &attempt) == 0);
    MUST(pthread_join(thread, &result) == 0);
    atomic_store(&watched_thread, 0);
    if (!attempt.is_done)
        say("FAILED %s: the thread has ended on its way\n", situation->name);
    else if (attempt.has_survived || result != PTHREAD_CANCELED)
        say("FAILED %s: the thread was told in vain\n", situation->name);
    /* What it might have kept, others need. */
    situation->run();
    if (situation->end)
        situation->end();
}

int situations_run(const struct situation *situations, size_t count, int argc, char **argv)
{
    unsigned ran = 0;

    alarm(PATIENCE_S);
    for (size_t i = 0; i < count; i++)
        for (int j = 1; j < (argc > 1 ? argc : 2); j++)
            if (argc <= 1 || strcmp(argv[j], situations[i].name) == 0) {
                run(&situations[i]);
                ran++;
            }
    printf("%u situations\n", ran);
    return atomic_load(&has_failed) || ran == 0;
}
