/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that keeps the list of fork handlers itself, as Firefox does, and forks by clone().
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HANDLERS_MAX 64
#define STACK_SIZE ((size_t)256 << 10)
#define BLOCK ((size_t)200000)

static struct {
    void (*prepare)(void);
    void (*parent)(void);
    void (*child)(void);
} handlers[HANDLERS_MAX];
static int count;
static char *block;
static char stack[STACK_SIZE] __attribute__((aligned(64)));

/* The C library's pthread_atfork() calls this. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);

int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso)
{
    (void)dso;
    if (count == HANDLERS_MAX)
        return 12;
    handlers[count].prepare = prepare;
    handlers[count].parent = parent;
    handlers[count++].child = child;
    return 0;
}

static int run_child(void *context)
{
    (void)context;
    for (int i = 0; i < count; i++)
        if (handlers[i].child)
            handlers[i].child();
    for (int i = 0; i < 100; i++)
        free(memset(malloc(BLOCK), i, BLOCK));
    memset(block, 2, BLOCK);
    return 5;
}

int main(void)
{
    int status = -1;
    int wrong = 0;

    block = malloc(BLOCK);
    if (!block)
        return 1;
    for (int round = 0; round < 3; round++) {
        pid_t pid;

        memset(block, 1, BLOCK);
        for (int i = count - 1; i >= 0; i--)
            if (handlers[i].prepare)
                handlers[i].prepare();
        pid = clone(run_child, stack + STACK_SIZE, SIGCHLD, NULL);
        for (int i = 0; i < count; i++)
            if (handlers[i].parent)
                handlers[i].parent();
        wrong += waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 5;
        for (size_t i = 0; i < BLOCK; i++)
            wrong += block[i] != 1;
    }
    printf("%d\n", wrong);
    return 0;
}
