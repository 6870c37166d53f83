/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork(): the only place where a fork can still be refused; forkpty() and daemon(), which fork
 * within the C library; and its relatives that run no handlers, _Fork(), clone() of a new address
 * space, and the system calls by way of syscall(). vfork() and posix_spawn() borrow the parent's,
 * are meant for an exec, and stay the C library's.
 *
 * __register_atfork() and the old pthread_atfork(), so that no handler is registered before Berth's
 * own.
 */
#include "pmem/fork.h"
#include "alloc/file_call.h"
#include "alloc/sandbox.h"
#include "hooks/side_stack.h"
#include "ipc/control.h"

#include <dlfcn.h>
#include <errno.h>
#include <pty.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* libberth.so's, when that is preloaded. */
#pragma weak berth__control_wanted
#pragma weak berth__control_unwanted
#pragma weak berth__control_impossible

/* The C library's own names for fork() and clone(). */
extern pid_t __fork(void);
extern int __clone(int (*run)(void *), void *stack, int flags, void *argument, ...);

/* What pthread_atfork() calls, of which each program and library has a copy of its own. */
BERTH_EXPORT int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                                   void *library);
typedef __typeof__(__register_atfork) *register_atfork_fn;

/* Of the folder of a process's threads: two, and one for each of them. */
#define LINKS_ALONE 3

static pid_t (*next_fork)(void);
static _Atomic(register_atfork_fn) next_register;
/* A library's function of this name that is not the C library's, and may mean something else. */
static int (*strange_clone)(int (*run)(void *), void *stack, int flags, void *argument);

/* _Fork() may be called in a signal handler, where nothing can be looked up. */
__attribute__((constructor)) static void find_next(void)
{
    void *next_clone = dlsym(RTLD_NEXT, "clone");

    if (next_clone != (void *)__clone)
        *(void **)&strange_clone = next_clone;
    *(void **)&next_fork = dlsym(RTLD_NEXT, "_Fork");
}

/* Any library's constructor may be the first to call, and jemalloc's first allocation calls too. */
static register_atfork_fn find_next_register(void)
{
    register_atfork_fn next = atomic_load_explicit(&next_register, memory_order_relaxed);

    if (!next) {
        *(void **)&next = dlsym(RTLD_NEXT, "__register_atfork");
        atomic_store_explicit(&next_register, next, memory_order_relaxed);
    }
    return next;
}

/*
 * Handlers that prepare run in the reverse order: what is registered before Berth's would run while
 * its thread has jemalloc locked, and allocates where it may natively.
 */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                      void *library)
{
    register_atfork_fn next = find_next_register();
    int saved_errno = errno;

    if (!next)
        return ENOMEM;
    berth__fork_set_handlers();
    errno = saved_errno;
    return next(prepare, parent, child, library);
}

/*
 * Programs of the time when there was one pthread_atfork() for all still call that, which asks the
 * C library within itself. Such handlers are never unregistered. Under the old version alone: what
 * Berth itself calls by this name is its own copy, whatever a library before it exports.
 */
#ifdef __x86_64__
extern void *__dso_handle __attribute__((visibility("hidden")));

BERTH_EXPORT int berth__old_atfork(void (*prepare)(void), void (*parent)(void),
                                   void (*child)(void));
__asm__(".symver berth__old_atfork, pthread_atfork@GLIBC_2.2.5, remove");

int berth__old_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    return __register_atfork(prepare, parent, child, __dso_handle);
}
#endif

static int finish(struct berth_fork *attempt, int pid)
{
    if (berth__fork_end(attempt, pid) == 0)
        return pid;
    errno = ENOMEM;
    return -1;
}

static int refuse(void)
{
    errno = ENOMEM;
    return -1;
}

static bool end_threads(void)
{
    return &berth__control_unwanted && berth__control_unwanted && berth__control_unwanted();
}

/* In the parent; a child begins its own when it first needs some. */
static void start_threads(bool were_there)
{
    int saved_errno = errno;

    if (were_there)
        berth__control_wanted();
    errno = saved_errno;
}

/*
 * Whether any other thread is there, whose locks a child will find as they are where the C
 * library's fork() does not look after them. Berth's own count, too. A sandbox may forbid to ask,
 * and there is nothing to begin there.
 */
static bool is_beside_others(void)
{
    int saved_errno = errno;
    struct stat st;
    bool alone = !berth__sandbox_is_on() && berth__stat("/proc/self/task", &st) == 0 &&
                 st.st_nlink <= LINKS_ALONE;

    errno = saved_errno;
    return !alone;
}

/* In a child that was. */
static void stay_without_threads(bool was_beside_others)
{
    if (was_beside_others && &berth__control_impossible && berth__control_impossible)
        berth__control_impossible();
}

BERTH_EXPORT pid_t fork(void)
{
    struct berth_fork attempt;

    if (berth__fork_begin(&attempt) < 0)
        return refuse();
    return finish(&attempt, __fork());
}

/*
 * The next function of this name, found when it is called, as neither may be called in a signal
 * handler; NULL with errno. A library's own function may mean something else.
 */
static void *find_forking(const char *name, bool *ret_is_strange)
{
    void *next = dlsym(RTLD_NEXT, name);
    Dl_info found, c_library;

    if (!next)
        errno = ENOSYS;
    *ret_is_strange = next && dladdr(next, &found) && dladdr((const void *)__fork, &c_library) &&
                      found.dli_fbase != c_library.dli_fbase;
    return next;
}

/*
 * The C library's own fork within it runs the handlers, which could refuse nothing: a child without
 * its copies would end by itself, when its parent has been told that it runs.
 */
BERTH_EXPORT int forkpty(int *master, char *name, const struct termios *settings,
                         const struct winsize *size)
{
    __typeof__(forkpty) *next;
    struct berth_fork attempt;
    bool is_strange;
    int forked, pid;

    *(void **)&next = find_forking("forkpty", &is_strange);
    if (!next)
        return -1;
    if (BERTH_UNLIKELY(is_strange))
        return next(master, name, settings, size);
    if (berth__fork_begin(&attempt) < 0)
        return refuse();
    forked = next(master, name, settings, size);
    pid = finish(&attempt, forked);
    /* The child was ended after all. */
    if (forked > 0 && pid < 0)
        close(*master);
    return pid;
}

/*
 * daemon(), with as many arguments as a library's own might have. The parent ends in there: that a
 * copy could not be filled is the one refusal that it misses.
 */
BERTH_EXPORT long berth__fork_daemon(long stays_in_folder, long keeps_streams, long third,
                                     long fourth) __asm__("daemon");

long berth__fork_daemon(long stays_in_folder, long keeps_streams, long third, long fourth)
{
    __typeof__(berth__fork_daemon) *next;
    struct berth_fork attempt;
    bool is_strange;

    *(void **)&next = find_forking("daemon", &is_strange);
    if (!next)
        return -1;
    if (BERTH_UNLIKELY(is_strange))
        return next(stays_in_folder, keeps_streams, third, fourth);
    if (berth__fork_begin(&attempt) < 0)
        return refuse();
    return finish(&attempt, (int)next(stays_in_folder, keeps_streams, third, fourth));
}

BERTH_EXPORT pid_t _Fork(void)
{
    struct berth_fork attempt;
    bool beside_others;
    pid_t pid = -1;

    /* A library's constructor may come before ours. */
    if (!next_fork)
        find_next();
    if (!next_fork) {
        errno = ENOSYS;
        return -1;
    }
    if (berth__fork_is_prepared())
        return next_fork();
    if (berth__fork_begin(&attempt) < 0)
        return refuse();
    errno = ENOMEM;
    beside_others = is_beside_others();
    if (berth__fork_fill(&attempt) == 0)
        pid = next_fork();
    if (pid == 0) {
        berth__fork_take(&attempt);
        stay_without_threads(beside_others);
    }
    return finish(&attempt, pid);
}

/* What a cloned child runs; on the caller's stack, of which the child has a copy. */
struct clone_start {
    struct berth_fork attempt;
    int (*run)(void *);
    void *argument;
    char *stack; /* where the child's grows down from */
    char *first; /* the lowest address of the one that it begins on, or NULL: it begins there */
    bool beside_others;
    int answer;
};

/* What taking copies needs. */
#define FIRST_STACK_SIZE ((size_t)64 << 10)

static void run_clone(void *context)
{
    struct clone_start *start = context;

    start->answer = start->run(start->argument);
}

/*
 * What the child's function returns ends its thread, and is the process's exit status only where
 * that is the last one: Berth's own must not outlive it.
 */
static int start_clone(void *context)
{
    struct clone_start *start = context;

    berth__fork_take(&start->attempt);
    stay_without_threads(start->beside_others);
    berth__fork_end(&start->attempt, 0);
    if (start->first)
        berth__side_stack_enter(run_clone, start, start->stack - (uintptr_t)start->stack % 16);
    else
        run_clone(start);
    end_threads();
    return start->answer;
}

/*
 * Where the child begins. A stack of which it will have a copy is the parent's until then: it
 * begins on another one, which stays its own for as long as it runs.
 */
static char *begin_stack(struct clone_start *start)
{
    void *first = MAP_FAILED;

    if (BERTH_SIDE_STACKS && berth__fork_copies(start->stack - 1))
        first = mmap(NULL, FIRST_STACK_SIZE, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    start->first = first != MAP_FAILED ? first : NULL;
    return start->first ? start->first + FIRST_STACK_SIZE : start->stack;
}

static void end_stack(const struct clone_start *start)
{
    int saved_errno = errno;

    if (start->first)
        munmap(start->first, FIRST_STACK_SIZE);
    errno = saved_errno;
}

/*
 * clone() and the system calls run no handlers, by which a child has every lock of jemalloc's free.
 * A program with one thread need not care, and knows nothing of Berth's, which may have one just
 * then: they end before, and begin again in the parent. _Fork() is for children that allocate
 * nothing, and for signals' handlers, which could wait for what they interrupted.
 */
BERTH_EXPORT int clone(int (*run)(void *), void *stack, int flags, void *argument, ...)
{
    struct clone_start start = {.run = run, .argument = argument, .stack = stack};
    char *begin;
    void *extra[3]; /* read by the kernel as the flags say */
    va_list list;
    bool were_there;
    int pid = -1;

    if (BERTH_UNLIKELY(strange_clone != NULL))
        return strange_clone(run, stack, flags, argument);
    va_start(list, argument);
    for (int i = 0; i < 3; i++)
        extra[i] = va_arg(list, void *);
    va_end(list);
    if ((flags & CLONE_VM) || !run || !stack || berth__fork_is_prepared())
        return __clone(run, stack, flags, argument, extra[0], extra[1], extra[2]);
    begin = begin_stack(&start);
    if (berth__fork_begin_clone(&start.attempt, (unsigned)flags, begin) < 0) {
        end_stack(&start);
        return refuse();
    }
    were_there = end_threads();
    errno = ENOMEM;
    start.beside_others = is_beside_others();
    if (berth__fork_fill(&start.attempt) == 0)
        pid = __clone(start_clone, begin, flags, &start, extra[0], extra[1], extra[2]);
    end_stack(&start);
    pid = finish(&start.attempt, pid);
    start_threads(were_there);
    return pid;
}

#ifdef __x86_64__
/* Five arguments at most; the answer is the kernel's. */
static long kernel_fork(long number, const long a[5])
{
    register long fourth __asm__("r10") = a[3];
    register long fifth __asm__("r8") = a[4];
    long r;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    return r;
}

/* Where syscall_x86_64.S goes to. The child returns on a copy of the stack. */
__attribute__((visibility("hidden"))) long berth__fork_syscall(long number, long a0, long a1,
                                                               long a2, long a3, long a4);

/* What the system call says of the child. */
static uint64_t flags_of(long number, const long a[5])
{
    if (number == SYS_clone)
        return (uint64_t)a[0];
    return number == SYS_clone3 ? *(const uint64_t *)(uintptr_t)a[0] : 0;
}

static long fork_unprepared(long number, const long a[5])
{
    struct berth_fork attempt;
    bool were_there, beside_others;
    long pid = -ENOMEM;

    if (berth__fork_begin_clone(&attempt, flags_of(number, a), &attempt + 1) < 0)
        return refuse();
    were_there = end_threads();
    beside_others = is_beside_others();
    if (berth__fork_fill(&attempt) == 0)
        pid = kernel_fork(number, a);
    if (pid == 0) {
        berth__fork_take(&attempt);
        stay_without_threads(beside_others);
    }
    if (pid < 0)
        errno = (int)-pid;
    pid = finish(&attempt, pid < 0 ? -1 : (int)pid);
    if (pid != 0)
        start_threads(were_there);
    return pid;
}

long berth__fork_syscall(long number, long a0, long a1, long a2, long a3, long a4)
{
    const long a[5] = {a0, a1, a2, a3, a4};
    long pid;

    if (!berth__fork_is_prepared())
        return fork_unprepared(number, a);
    pid = kernel_fork(number, a);
    if (pid < 0)
        errno = (int)-pid;
    return pid < 0 ? -1 : pid;
}
#endif
