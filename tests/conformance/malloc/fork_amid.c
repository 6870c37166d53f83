/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that is interrupted amid fork() by a signal whose handler forks, too: at each of the
 * fork's handlers that it has registered itself, one of which was before the first block is asked
 * for, one between an allocator's own and what follows, one last. The first is registered, where
 * there is such a way, past what a preloaded library has in the place of pthread_atfork(): it runs
 * while the allocator is locked.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK ((size_t)200000)
#define STAGES 9

/* At which of its handlers the program is interrupted; STAGES: at none. */
static volatile sig_atomic_t stage = STAGES;
static volatile sig_atomic_t handled, wrong;
static char *block;

static void reach(int here)
{
    if (stage != here)
        return;
    stage = STAGES; /* the fork in the signal's handler passes here, too */
    raise(SIGUSR1);
}

static void first_prepare(void)
{
    reach(0);
}
static void first_parent(void)
{
    reach(1);
}
static void first_child(void)
{
    reach(2);
}
static void second_prepare(void)
{
    reach(3);
}
static void second_parent(void)
{
    reach(4);
}
static void second_child(void)
{
    reach(5);
}
static void last_prepare(void)
{
    reach(6);
}
static void last_parent(void)
{
    reach(7);
}
static void last_child(void)
{
    reach(8);
}

typedef int register_fn(void (*)(void), void (*)(void), void (*)(void), void *);

/* The C library's own: a preloaded library's has no version. */
static register_fn *find_register(void)
{
    static const char *const versions[] = {"GLIBC_2.3.2", "GLIBC_2.17"};
    register_fn *found = NULL;

    for (int i = 0; i < 2 && !found; i++) {
        void *function = dlvsym(RTLD_NEXT, "__register_atfork", versions[i]);

        memcpy(&found, &function, sizeof(found));
    }
    return found;
}

/* Before any library's constructor. */
static void begin(void)
{
    find_register()(first_prepare, first_parent, first_child, NULL);
    free(malloc(1));
    pthread_atfork(second_prepare, second_parent, second_child);
}

__attribute__((section(".preinit_array"), used)) static void (*const preinit)(void) = begin;

static void use_memory(int fill)
{
    for (int i = 0; i < 20; i++)
        free(memset(malloc(BLOCK + (size_t)i), fill, BLOCK));
    for (int i = 0; i < 200; i++)
        free(memset(malloc(100), fill, 100));
    memset(block, fill, BLOCK);
}

static void await(pid_t pid)
{
    int status = -1;

    wrong += pid <= 0 || waitpid(pid, &status, 0) != pid || status != 0;
}

/* Its child asks for memory, as it may where the fork under way is the program's own. */
static void handle(int number)
{
    pid_t pid = fork();

    (void)number;
    if (pid == 0) {
        alarm(60);
        use_memory(2);
        _exit(block[0] != 2);
    }
    await(pid);
    handled++;
}

int main(void)
{
    struct sigaction action = {.sa_handler = handle};

    alarm(100);
    pthread_atfork(last_prepare, last_parent, last_child);
    sigaction(SIGUSR1, &action, NULL);
    block = malloc(BLOCK);
    if (!block)
        return 1;
    for (int i = 0; i <= STAGES; i++) {
        int before = handled;
        sigset_t blocked;
        pid_t pid;

        memset(block, 1, BLOCK);
        stage = i;
        pid = fork();
        if (pid == 0) {
            alarm(60);
            use_memory(3);
            _exit(wrong || (i % 3 == 2 && handled == before));
        }
        await(pid);
        use_memory(4);
        for (size_t at = 0; at < BLOCK; at++)
            wrong += block[at] != 4;
        sigprocmask(SIG_BLOCK, NULL, &blocked);
        wrong += sigismember(&blocked, SIGUSR1) != 0;
    }
    printf("%d %d\n", (int)wrong, (int)handled);
    return 0;
}
