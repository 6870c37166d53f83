/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs every check, or those that are named, each in a child; prints "ok NAME" or "FAILED NAME",
 * and "N checks ran" at the end; exits 1 if one failed.
 *
 * With --list it prints the names. With --alone NAME... it runs these itself, one after the other,
 * up to the first that fails: what a tier does in a process that nobody has forked is seen in no
 * other way. With --groups it prints the names of those that one process may run so in a line.
 *
 * It may be copied elsewhere together with what lies in its folder.
 */
#include "check.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * A check that has had no processor time for so long hangs, or one that has had more of it than so
 * much. Whatever else the machine does, one that goes on is waited for: an alarm clock ended checks
 * where forty programs shared two processors.
 */
#define CHECK_SECONDS 120

static bool wanted(const char *name, int count, char **names)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return count == 0;
}

/* In clock ticks, with that of the children that it has waited for; -1 where nobody tells. */
static long processor_time(pid_t pid)
{
    long user, system, childrens_user, childrens_system;
    char path[64], text[512];
    const char *rest;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    /* Its name, in parentheses, may have any character. */
    rest = strrchr(text, ')');
    if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld %ld %ld",
                        &user, &system, &childrens_user, &childrens_system) != 4)
        return -1;
    return user + system + childrens_user + childrens_system;
}

/* Returns when it has ended, or is ended. Where a kernel has no such descriptors, it is waited for.
 */
static void watch(pid_t pid)
{
    long before = 0, now, most = CHECK_SECONDS * sysconf(_SC_CLK_TCK);
    struct pollfd ended = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    int r;

    if (ended.fd < 0)
        return;
    while ((r = poll(&ended, 1, CHECK_SECONDS * 1000)) == 0 || (r < 0 && errno == EINTR)) {
        now = processor_time(pid);
        if (r < 0 || (now > before && now < most)) {
            before = r < 0 ? before : now;
            continue;
        }
        dprintf(1, "it hangs: %ld of %ld ticks\n", now, most);
        kill(pid, SIGKILL);
        break;
    }
    close(ended.fd);
}

static bool run(const struct check *check)
{
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        check->run();
        _exit(0);
    }
    if (pid > 0)
        watch(pid);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        dprintf(1, "ok %s\n", check->name);
        return true;
    }
    dprintf(1, "FAILED %s (status 0x%x)\n", check->name, (unsigned)status);
    return false;
}

/* Of some lists, each check leaves the process as it found it. */
static const struct {
    const struct check *checks;
    bool together;
} lists[] = {
    {basic_checks, true},    {family_checks, true},   {align_checks, true},  {fork_checks, false},
    {thread_checks, false},  {load_checks, false},    {je_checks, true},     {finding_checks, true},
    {hostile_checks, false}, {process_checks, false}, {limit_checks, false},
};
#define LIST_COUNT (sizeof(lists) / sizeof(lists[0]))

static int print_names(void)
{
    for (size_t i = 0; i < LIST_COUNT; i++)
        for (const struct check *check = lists[i].checks; check->name; check++)
            dprintf(1, "%s\n", check->name);
    return 0;
}

static int print_groups(void)
{
    for (size_t i = 0; i < LIST_COUNT; i++)
        for (const struct check *check = lists[i].checks; check->name; check++)
            dprintf(1, "%s%s", check->name, lists[i].together && check[1].name ? " " : "\n");
    return 0;
}

static const struct check *find(const char *name)
{
    for (size_t i = 0; i < LIST_COUNT; i++)
        for (const struct check *check = lists[i].checks; check->name; check++)
            if (strcmp(check->name, name) == 0)
                return check;
    return NULL;
}

/* Rules that ask for the number in a thread's sequence are to be met by each check. */
static void begin_sequence(void)
{
    int (*step)(void);

    *(void **)&step = dlsym(RTLD_DEFAULT, "berth_step");
    if (step)
        step();
}

static int run_alone(char **names)
{
    for (; *names; names++) {
        const struct check *check = find(*names);

        if (!check) {
            dprintf(2, "%s is none of the checks\n", *names);
            return 1;
        }
        alarm(CHECK_SECONDS);
        check->run();
        dprintf(1, "ok %s\n", check->name);
        begin_sequence();
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    int failed = 0, ran = 0;

    if (argc == 2 && strcmp(argv[1], "--list") == 0)
        return print_names();
    if (argc == 2 && strcmp(argv[1], "--groups") == 0)
        return print_groups();
    if (argc > 2 && strcmp(argv[1], "--alone") == 0)
        return run_alone(argv + 2);
    for (size_t i = 0; i < LIST_COUNT; i++)
        for (const struct check *check = lists[i].checks; check->name; check++) {
            if (!wanted(check->name, argc - 1, argv + 1))
                continue;
            ran++;
            failed += !run(check);
        }
    dprintf(1, "%d checks ran\n", ran);
    return failed ? 1 : 0;
}
