/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program of one thread does: it keeps rights for itself while it changes its user, or
 * begins a user namespace. Prints each answer. With "-t" it waits first until it is no longer
 * alone, and prints how many threads there are at the end. "forked": a child does it, made while
 * another thread has the lock of the loader's list. "count": it asks how many threads it has.
 * "watch": one of several threads does. "limits": it allows all its threads few system calls.
 * "cloned": the function of a child made by clone() returns. "copied": children that are made
 * without handlers ask how many threads there were as they came. "beside": such children of a
 * program with other threads ask how many they have themselves, once they have allocated.
 *
 * usage: alone [-t] rights|user|mounts|forked|cloned|copied|beside|count|watch|limits
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <link.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OTHER 65534
#define BLOCK ((size_t)200000)
#define WAIT_STEPS 10000
#define CHILD_SECONDS 20

/* Not known to the compiler. */
static void *volatile nowhere;

static void show(const char *what, long answer)
{
    printf("%s %ld %s\n", what, answer, answer < 0 ? strerror(errno) : "");
}

static int count_entries(DIR *tasks)
{
    int count = -2; /* . and .. */

    while (readdir(tasks))
        count++;
    return count;
}

static int count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count;

    if (!tasks)
        return -1;
    count = count_entries(tasks);
    closedir(tasks);
    return count;
}

static bool has_company;

static void await_company(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    for (int i = 0; count_threads() < 3 && i < WAIT_STEPS; i++)
        nanosleep(&pause, NULL);
}

/* Again, if it was there at first. */
static void invite(void)
{
    char *volatile p = malloc(BLOCK);

    free(p);
    if (has_company)
        await_company();
}

/* By the number of links of its directory, and by what the kernel says of the process. */
static void count_by_files(void)
{
    int proc = open("/proc/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st = {0};
    char line[1024] = "";
    const char *field;
    FILE *file;

    show("stat", stat("/proc/self/task", &st));
    show("threads", (long)st.st_nlink - 2);
    invite();
    show("fstatat", fstatat(proc, "self/task/", &st, 0));
    show("threads", (long)st.st_nlink - 2);
    invite();
    file = fopen("/proc/self/stat", "r");
    line[fread(line, 1, sizeof(line) - 1, file)] = '\0';
    fclose(file);
    field = strrchr(line, ')');
    for (int i = 2; field && i < 20; i++)
        field = strchr(field + 1, ' ');
    show("threads", field ? strtol(field, NULL, 10) : -1);
    /* Of the descriptor, which newer kernels answer. */
    show("descriptor", fstatat(proc, nowhere, &st, AT_EMPTY_PATH));
    close(proc);
    /* What is asked is the kernel's to answer otherwise. */
    show("no path", stat(nowhere, &st));
    show("no structure", stat("/proc/self/task", nowhere));
}

static void *wait_twice(void *context)
{
    pthread_barrier_wait(context);
    pthread_barrier_wait(context);
    return NULL;
}

/* The more there are, the less it matters who they are: all stay. */
static void watch_itself(void)
{
    pthread_barrier_t barrier;
    pthread_t threads[2];
    FILE *file;
    int before;

    pthread_barrier_init(&barrier, NULL, 3);
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, wait_twice, &barrier);
    pthread_barrier_wait(&barrier);
    before = count_threads();
    file = fopen("/proc/self/stat", "r");
    show("went", before - count_threads());
    fclose(file);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

/* What a thread that serves a socket does is forbidden to all. */
static void limit_calls(void)
{
    static const unsigned forbidden[] = {SYS_poll,    SYS_ppoll, SYS_epoll_wait, SYS_accept4,
                                         SYS_recvmsg, SYS_clone, SYS_clone3};
    struct sock_filter code[2 * sizeof(forbidden) / sizeof(forbidden[0]) + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    struct sock_fprog program = {.len = 1, .filter = code};
    DIR *tasks = opendir("/proc/self/task");
    long r;

    for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
        code[program.len++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, forbidden[i], 0, 1);
        code[program.len++] =
            (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    }
    code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    show("privileges", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    show("question", prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL));
    r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
    show("filter", r);
    show("threads", tasks ? count_entries(tasks) : -1);
    closedir(tasks);
}

static long take_right(unsigned right)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    long r = syscall(SYS_capget, &header, data);

    if (r == 0) {
        data[0].effective |= 1U << right;
        r = syscall(SYS_capset, &header, data);
    }
    return r;
}

static void change_rights(void)
{
    const gid_t group = OTHER;

    show("keep", prctl(PR_SET_KEEPCAPS, 1));
    show("setresuid", setresuid(OTHER, OTHER, OTHER));
    show("capset", take_right(CAP_SETGID));
    show("setgroups", setgroups(1, &group));
    show("setresgid", setresgid(OTHER, OTHER, OTHER));
    show("user", (long)getuid());
    show("groups", getgroups(0, NULL));
}

/* In the loader's list for as long as a child needs. */
static int stay_in_list(struct dl_phdr_info *info, size_t size, void *context)
{
    pthread_barrier_t *barrier = context;

    (void)info;
    (void)size;
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    return 1;
}

static void *walk_list(void *context)
{
    dl_iterate_phdr(stay_in_list, context);
    return NULL;
}

static void change_in_child(void)
{
    pthread_barrier_t barrier;
    pthread_t thread;
    int status = -1;
    pid_t child;

    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, walk_list, &barrier);
    pthread_barrier_wait(&barrier);
    child = fork();
    if (child == 0) {
        alarm(CHILD_SECONDS);
        _exit(setresgid(OTHER, OTHER, OTHER) != 0 || setuid(OTHER) != 0);
    }
    waitpid(child, &status, 0);
    show("child", status);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}

static int allocate_as_child(void *context)
{
    (void)context;
    invite();
    return 3;
}

/* What it returns is the child's exit status, and what the parent has yet to print stays its. */
static void return_from_child(void)
{
    char *stack = malloc(BLOCK);
    int status = -1;
    pid_t child = clone(allocate_as_child, stack + BLOCK, SIGCHLD, NULL);

    waitpid(child, &status, 0);
    show("cloned", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    free(stack);
}

/* The parent waits meanwhile, as the flags say. */
static int count_in_child(void *context)
{
    char path[64];
    DIR *tasks;

    (void)context;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)getppid());
    tasks = opendir(path);
    return tasks ? count_entries(tasks) : 99;
}

static void show_count(pid_t child)
{
    int status = -1;

    waitpid(child, &status, 0);
    show("threads", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    invite();
    show("company", !has_company || count_threads() == 3);
}

static void count_in_children(void)
{
    const int flags = CLONE_VFORK | SIGCHLD;
    char *stack = malloc(BLOCK);

    show_count(clone(count_in_child, stack + BLOCK, flags, NULL));
#ifdef __x86_64__
    pid_t child = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);

    if (child == 0)
        _exit(count_in_child(NULL));
    show_count(child);
#endif
    free(stack);
}

static int allocate_and_count(void *context)
{
    char *volatile p = malloc(BLOCK);
    int count;

    (void)context;
    count = p ? count_threads() : 99;
    free(p);
    return count;
}

static void show_own_count(const char *what, pid_t child)
{
    int status = -1;

    waitpid(child, &status, 0);
    show(what, WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* To make a thread the C library takes a lock, which its own fork() alone has free in a child: the
 * other thread may have it at that moment, and a child that makes one waits for ever. */
static void count_beside_others(void)
{
    char *stack = malloc(BLOCK);
    pthread_barrier_t barrier;
    pthread_t thread;
    pid_t child;

    pthread_barrier_init(&barrier, NULL, 2);
    pthread_create(&thread, NULL, wait_twice, &barrier);
    pthread_barrier_wait(&barrier);
    show_own_count("cloned", clone(allocate_and_count, stack + BLOCK, SIGCHLD, NULL));
    child = _Fork();
    if (child == 0)
        _exit(allocate_and_count(NULL));
    show_own_count("forked", child);
#ifdef __x86_64__
    child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0)
        _exit(allocate_and_count(NULL));
    show_own_count("by system call", child);
#endif
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    free(stack);
}

int main(int argc, char **argv)
{
    const char *what = argv[argc - 1];
    char *block = malloc(BLOCK);

    if (!block)
        return 1;
    memset(block, 7, BLOCK);
    if (argc > 2) {
        await_company();
        has_company = true;
        fprintf(stderr, "%d threads\n", count_threads());
    }
    if (strcmp(what, "rights") == 0) {
        change_rights();
    } else if (strcmp(what, "forked") == 0) {
        change_in_child();
    } else if (strcmp(what, "cloned") == 0) {
        puts("once");
        return_from_child();
    } else if (strcmp(what, "copied") == 0) {
        count_in_children();
    } else if (strcmp(what, "beside") == 0) {
        count_beside_others();
    } else if (strcmp(what, "count") == 0) {
        count_by_files();
    } else if (strcmp(what, "watch") == 0) {
        watch_itself();
    } else if (strcmp(what, "limits") == 0) {
        limit_calls();
    } else if (strcmp(what, "user") == 0) {
        show("unshare", unshare(CLONE_NEWUSER));
        invite();
        show("unshare", syscall(SYS_unshare, CLONE_NEWUSER));
        show("unshare", unshare(CLONE_NEWNS | CLONE_NEWPID));
    } else {
        int fd = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

        show("setns", setns(fd, CLONE_NEWNS));
        close(fd);
    }
    for (int i = 0; i < 100; i++)
        free(memset(malloc(BLOCK), i, BLOCK));
    for (size_t i = 0; i < BLOCK; i++)
        if (block[i] != 7)
            return 2;
    free(block);
    puts("end");
    return 0;
}
