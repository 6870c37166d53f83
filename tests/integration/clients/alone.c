/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a program of one thread does: it keeps rights for itself while it changes its user, or
 * begins a user namespace. Prints each answer. With "-t" it waits first until it is no longer
 * alone, and prints how many threads there are at the end. "forked": a child does it, made while
 * another thread has the lock of the loader's list.
 *
 * usage: alone [-t] rights|user|mounts|forked
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <link.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OTHER 65534
#define BLOCK ((size_t)200000)
#define WAIT_STEPS 10000
#define CHILD_SECONDS 20

static void show(const char *what, long answer)
{
    printf("%s %ld %s\n", what, answer, answer < 0 ? strerror(errno) : "");
}

static int count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = -2; /* . and .. */

    if (!tasks)
        return -1;
    while (readdir(tasks))
        count++;
    closedir(tasks);
    return count;
}

static void await_company(void)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    for (int i = 0; count_threads() < 3 && i < WAIT_STEPS; i++)
        nanosleep(&pause, NULL);
    fprintf(stderr, "%d threads\n", count_threads());
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

int main(int argc, char **argv)
{
    const char *what = argv[argc - 1];
    char *block = malloc(BLOCK);

    if (!block)
        return 1;
    memset(block, 7, BLOCK);
    if (argc > 2)
        await_company();
    if (strcmp(what, "rights") == 0) {
        change_rights();
    } else if (strcmp(what, "forked") == 0) {
        change_in_child();
    } else if (strcmp(what, "user") == 0) {
        show("unshare", unshare(CLONE_NEWUSER));
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
