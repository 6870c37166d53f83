/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forks with the handlers of the library that it is linked with (early_atfork.c), and with those of
 * another, which it opens and closes again each time.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 10
#define BLOCK ((size_t)200000)

typedef const int *calls_fn(void);
extern const int *early_atfork_calls(void);

static char *block;
static int wrong;

static void expect(const int *calls, int prepare, int parent, int child)
{
    wrong += calls[0] != prepare || calls[1] != parent || calls[2] != child;
}

/* The child's memory is its own, and it may fork. `late`: the handlers of the library opened, or
 * NULL. */
static void fork_once(int before, const int *late)
{
    int status = -1;
    pid_t pid;

    memset(block, 1, BLOCK);
    pid = fork();
    if (pid == 0) {
        expect(early_atfork_calls(), before + 1, before, 1);
        if (late)
            expect(late, 1, 0, 1);
        wrong += block[0] != 1;
        free(memset(malloc(BLOCK), 2, BLOCK));
        memset(block, 2, BLOCK);
        pid = fork();
        if (pid == 0)
            _exit(0);
        wrong += pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
        _exit(wrong);
    }
    wrong += pid < 0 || waitpid(pid, &status, 0) != pid || status != 0;
    expect(early_atfork_calls(), before + 1, before + 1, 0);
    if (late)
        expect(late, 1, 1, 0);
    for (size_t i = 0; i < BLOCK; i++)
        wrong += block[i] != 1;
}

int main(int argc, char **argv)
{
    block = malloc(BLOCK);
    if (argc != 2 || !block)
        return 1;
    for (int i = 0; i < ROUNDS; i++) {
        void *library = dlopen(argv[1], RTLD_NOW);
        void *function = library ? dlsym(library, "early_atfork_calls") : NULL;
        calls_fn *calls;

        if (!function)
            return 1;
        memcpy(&calls, &function, sizeof(calls));
        wrong += calls == early_atfork_calls;
        fork_once(2 * i, calls());
        dlclose(library);
        /* Closed and gone: a handler of it that was still registered would be called there. */
        wrong += dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) != NULL;
        fork_once(2 * i + 1, NULL);
    }
    printf("%d\n", wrong);
    return 0;
}
