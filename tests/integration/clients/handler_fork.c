/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork() by a signal's handler amid malloc() and free(), as by a program that starts another one to
 * show where it crashed. The processor's trap after each instruction sends the signals, so that all
 * places come in turn, those under the allocator's locks among them. Half of the children leave at
 * once; the others return from the handler, go on with what was interrupted, and use their memory.
 *
 * usage: handler_fork STEP COUNT: COUNT forks, at every STEP-th instruction
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define BLOCKS 48
#define CHILD_DONE 42
#define TRAP_FLAG 0x100
/* For a test that fails and does not hang: who waits for a lock of its own waits for ever. */
#define PATIENCE_S 240

static volatile unsigned long steps, until;
static unsigned long step;
static volatile int forks, wrong;
static int forks_max;
static volatile bool is_child;

/* Of slabs, and of blocks with pages of their own. */
static const size_t sizes[] = {24, 200, 1500, 9000, 40000, 300000};

static void fork_here(void)
{
    bool leaves = forks++ % 2 == 0;
    pid_t pid = fork();
    int status = 0;

    if (pid == 0 && leaves)
        _exit(CHILD_DONE);
    if (pid == 0) {
        is_child = true;
        return;
    }
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (pid < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != CHILD_DONE)
        wrong++;
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
    ucontext_t *interrupted = context;

    (void)signal;
    (void)info;
    if (++steps >= until) {
        until = steps + step;
        fork_here();
    }
    /* Children have no more of them. */
    if (is_child || forks >= forks_max)
        interrupted->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

static void set_trap_flag(bool on)
{
    uint64_t flags;

    __asm__ volatile("pushfq\n\tpop %0" : "=r"(flags));
    flags = on ? flags | TRAP_FLAG : flags & ~(uint64_t)TRAP_FLAG;
    __asm__ volatile("push %0\n\tpopfq" : : "r"(flags) : "cc", "memory");
}

static char *blocks[BLOCKS];

/* Each block has its number in its first byte and its last. */
static void renew(unsigned i, size_t size)
{
    free(blocks[i]);
    blocks[i] = malloc(size);
    if (!blocks[i])
        _exit(1);
    blocks[i][0] = (char)i;
    blocks[i][size - 1] = (char)i;
}

static void renew_all(bool traps)
{
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t size = sizes[i % (sizeof(sizes) / sizeof(sizes[0]))] + i;

        if (traps && !is_child)
            set_trap_flag(true);
        renew(i, size);
        set_trap_flag(false);
        if (blocks[i][0] != (char)i)
            _exit(2);
    }
}

/* It has what it needs for a child of its own, too. */
static void finish_child(void)
{
    int status = -1;
    pid_t pid;

    renew_all(false);
    pid = fork();
    if (pid == 0)
        _exit(CHILD_DONE);
    waitpid(pid, &status, 0);
    renew_all(false);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

    if (argc != 3)
        return 3;
    step = strtoul(argv[1], NULL, 10);
    forks_max = atoi(argv[2]);
    alarm(PATIENCE_S);
    sigaction(SIGTRAP, &action, NULL);
    renew_all(false);
    until = step;
    while (forks < forks_max) {
        renew_all(true);
        if (is_child)
            finish_child();
        step += 2; /* other places than in the last round */
    }
    renew_all(false);
    printf("%d forks, %d children wrong\n", forks, wrong);
    return wrong != 0;
}
