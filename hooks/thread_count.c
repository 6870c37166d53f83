/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls by which a program finds out whether it has threads: browsers begin no sandbox where there
 * are any, and Python warns of forks. Berth's two are not the program's: they end for the call
 * (ipc/control.h).
 *
 * The C library is asked first. Only where its answer could be about threads are the arguments
 * looked at, which are sound then.
 */
/* Each name has the structure of its own width here, and is not renamed to the other. */
#undef _FILE_OFFSET_BITS
#include "alloc/options.h"
#include "alloc/sandbox.h"
#include "hooks/real_module.h"
#include "ipc/control.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* A directory of tasks has so many links when there is one: "." and "..", too. */
#define LINKS_OF_ONE 3

_Static_assert(sizeof(struct stat) == sizeof(struct stat64), "sizes have 64 bits");

/*
 * X(name, parameters, arguments): stat(2) by the names of <sys/stat.h>, and by those that the
 * programs of a C library before 2.33 have; and fopen(3).
 */
#define STATS(X)                                                                                   \
    X(stat, (const char *path, struct stat *st), (path, st))                                       \
    X(stat64, (const char *path, struct stat64 *st), (path, st))                                   \
    X(fstatat, (int fd, const char *path, struct stat *st, int flags), (fd, path, st, flags))      \
    X(fstatat64, (int fd, const char *path, struct stat64 *st, int flags), (fd, path, st, flags))  \
    X(__xstat, (int version, const char *path, struct stat *st), (version, path, st))              \
    X(__xstat64, (int version, const char *path, struct stat64 *st), (version, path, st))          \
    X(__fxstatat, (int version, int fd, const char *path, struct stat *st, int flags),             \
      (version, fd, path, st, flags))                                                              \
    X(__fxstatat64, (int version, int fd, const char *path, struct stat64 *st, int flags),         \
      (version, fd, path, st, flags))
#define OPENS(X)                                                                                   \
    X(fopen, (const char *path, const char *mode), (path, mode))                                   \
    X(fopen64, (const char *path, const char *mode), (path, mode))

/* What comes after this library. */
struct function {
    _Atomic(void *) address;
    /* The same where it is not the C library's: a library may mean something else by the name. */
    _Atomic(void *) strange;
};

static struct {
#define X(name, parameters, arguments) struct function name;
    STATS(X)
    OPENS(X)
#undef X
} next;

static __attribute__((noinline, cold)) void *look_up(struct function *function, const char *name)
{
    void *address = berth__real_module_next_own(name);
    void *usual;

    berth__real_module_symbols("libc.so.", &name, &usual, 1);
    if (address != usual)
        atomic_store_explicit(&function->strange, address, memory_order_relaxed);
    atomic_store_explicit(&function->address, address, memory_order_release);
    return address;
}

static inline void *find(struct function *function, const char *name)
{
    void *address = atomic_load_explicit(&function->address, memory_order_acquire);

    return BERTH_LIKELY(address != NULL) ? address : look_up(function, name);
}

static inline void *strange(const struct function *function)
{
    return atomic_load_explicit(&function->strange, memory_order_relaxed);
}

/* In a forked child the loader's list may be locked for ever. */
__attribute__((constructor)) static void find_all(void)
{
#define X(name, parameters, arguments) find(&next.name, #name);
    STATS(X)
    OPENS(X)
#undef X
}

/* Whether it is the directory of the process's tasks, by whatever descriptor of /proc. */
static bool is_of_tasks(const char *path)
{
    static const char name[] = "self/task";
    size_t length = strlen(path);

    while (length > 0 && path[length - 1] == '/')
        length--;
    return length >= sizeof(name) - 1 &&
           memcmp(path + length - (sizeof(name) - 1), name, sizeof(name) - 1) == 0;
}

/*
 * Whether an answer counts threads of Berth's, which are ended then: it is to be asked for again.
 * <sys/stat.h> promises the compiler a path; Linux 6.11 and later answer without one, of the
 * descriptor (AT_EMPTY_PATH).
 */
static __attribute__((noinline, cold)) bool counts_ours(const char *path)
{
    __asm__("" : "+r"(path));
    return path && is_of_tasks(path) && berth__control_pause();
}

/* Where the threads are wanted in any case. */
static void start_again(void)
{
    int saved_errno = errno;

    if (berth__option(BERTH_OPTION_CONTROL) == BERTH_CONTROL_ALWAYS)
        berth__control_start();
    errno = saved_errno;
}

/* Where it is another's, all is as if this library were not there: that may have more parameters.
 */
#define X(name, parameters, arguments)                                                             \
    BERTH_EXPORT int name parameters;                                                              \
    int name parameters                                                                            \
    {                                                                                              \
        int(*function) parameters;                                                                 \
        int r;                                                                                     \
                                                                                                   \
        *(void **)&function = strange(&next.name);                                                 \
        if (BERTH_UNLIKELY(function != NULL))                                                      \
            return function arguments;                                                             \
        *(void **)&function = find(&next.name, #name);                                             \
        if (strange(&next.name))                                                                   \
            return function arguments;                                                             \
        if (!function) {                                                                           \
            errno = ENOSYS;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        r = function arguments;                                                                    \
        if (r == 0 && S_ISDIR(st->st_mode) && st->st_nlink > LINKS_OF_ONE && counts_ours(path)) {  \
            r = function arguments;                                                                \
            start_again();                                                                         \
        }                                                                                          \
        return r;                                                                                  \
    }
STATS(X)
#undef X

/* Whether the program has threads of its own: then it is not alone without Berth's two, either. */
static bool has_others(void)
{
    int saved_errno = errno;
    struct stat st;
    int (*function)(const char *, struct stat *);
    bool has;

    *(void **)&function = find(&next.stat, "stat");
    has = function && !strange(&next.stat) && function("/proc/self/task", &st) == 0 &&
          st.st_nlink > LINKS_OF_ONE + 2;
    errno = saved_errno;
    return has;
}

/*
 * What the file says is made when it is read. Until then the threads stay away, unless they were
 * asked for in any case: nothing tells when it was read. A program with threads of its own reads it
 * again and again, to watch itself, and keeps what they do for it.
 */
static void leave_out_ours(const char *path)
{
    if (path[0] == '/' && strcmp(path, "/proc/self/stat") == 0 &&
        berth__option(BERTH_OPTION_CONTROL) != BERTH_CONTROL_ALWAYS && !berth__sandbox_is_on() &&
        !has_others())
        berth__control_pause();
}

#define X(name, parameters, arguments)                                                             \
    BERTH_EXPORT FILE *name parameters;                                                            \
    FILE *name parameters                                                                          \
    {                                                                                              \
        FILE *(*function)parameters;                                                               \
        FILE *file;                                                                                \
                                                                                                   \
        *(void **)&function = strange(&next.name);                                                 \
        if (BERTH_UNLIKELY(function != NULL))                                                      \
            return function arguments;                                                             \
        *(void **)&function = find(&next.name, #name);                                             \
        if (strange(&next.name))                                                                   \
            return function arguments;                                                             \
        if (!function) {                                                                           \
            errno = ENOSYS;                                                                        \
            return NULL;                                                                           \
        }                                                                                          \
        file = function arguments;                                                                 \
        if (file)                                                                                  \
            leave_out_ours(path);                                                                  \
        return file;                                                                               \
    }
OPENS(X)
#undef X
