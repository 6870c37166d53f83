/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that has functions, or variables, of all the names that Berth's libraries import: test
 * shadow.py writes the header that this includes, from the libraries' tables. Whoever calls one of
 * them ends it.
 *
 * Nothing here may call the C library by a name that could be among them: what is needed is looked
 * up, or spelled out. "ready" is written once blocks are placed; an end of input ends the program.
 * With an argument it takes a tenth of the rounds before that: for emulated processors.
 */
#include "shadow_names.h"

#include <stddef.h>

typedef unsigned long word;

#define BLOCKS 200
#define ROUNDS 20
#define LARGE ((size_t)96 << 10)

extern void *malloc(size_t size);
extern void *realloc(void *p, size_t size);
extern void free(void *p);
extern int fork(void);
extern int wait(int *status);
extern int berth_persist(const char *name, size_t size, void **ret_p, unsigned *ret_state)
    __attribute__((weak));
extern int berth_persist_commit(void *p) __attribute__((weak));
extern void _exit(int status) __attribute__((noreturn));

static long kernel(long number, word a, word b, word c)
{
    long r;

    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(number), "D"(a), "S"(b), "d"(c)
                     : "rcx", "r11", "memory");
    return r;
}

static void say(const char *text)
{
    size_t size = 0;

    while (text[size])
        size++;
    kernel(1, 1, (word)text, size);
}

/* What the header's functions do. */
void shadow_called(const char *name)
{
    kernel(1, 2, (word) "called: ", 8);
    for (; *name; name++)
        kernel(1, 2, (word)name, 1);
    kernel(1, 2, (word) "\n", 1);
    _exit(99);
}

static void fill(volatile word *p, size_t size, word seed)
{
    for (size_t i = 0; i < size / sizeof(word); i += 64)
        p[i] = seed + i;
}

static void verify(const volatile word *p, size_t size, word seed)
{
    for (size_t i = 0; i < size / sizeof(word); i += 64)
        if (p[i] != seed + i) {
            say("wrong bytes\n");
            _exit(98);
        }
}

static size_t size_of(word number)
{
    return number % 3 ? 16 + number * 40 : LARGE + number * 4096;
}

static word *blocks[BLOCKS];

static void churn(void)
{
    for (word i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(size_of(i));
        fill(blocks[i], size_of(i), i);
    }
    for (word i = 0; i < BLOCKS; i++) {
        verify(blocks[i], size_of(i), i);
        blocks[i] = realloc(blocks[i], 2 * size_of(i));
        verify(blocks[i], size_of(i), i);
        free(blocks[i]);
    }
}

#ifdef HAS_DLSYM
static void *on_thread(void *unused)
{
    (void)unused;
    for (word i = 0; i < 100; i++) {
        size_t size = size_of(i);
        word *p = malloc(size);

        fill(p, size, i);
        verify(p, size, i);
        free(p);
    }
    return NULL;
}

extern void *dlsym(void *handle, const char *name);

static void run_threads(void)
{
    int (*create)(word *, void *, void *(*)(void *), void *);
    int (*join)(word, void **);
    word thread[4];

    *(void **)&create = dlsym((void *)-1, "pthread_create");
    *(void **)&join = dlsym((void *)-1, "pthread_join");
    for (int i = 0; i < 4; i++)
        if (create(&thread[i], NULL, on_thread, NULL) != 0)
            _exit(97);
    for (int i = 0; i < 4; i++)
        join(thread[i], NULL);
}
#else
static void run_threads(void)
{
}
#endif

static void run_child(word *kept)
{
    int status = -1;
    int pid = fork();

    if (pid == 0) {
        verify(kept, LARGE, 7);
        churn();
        _exit(0);
    }
    if (pid < 0 || wait(&status) != pid || status != 0) {
        say("the child failed\n");
        _exit(96);
    }
}

static void persist(void)
{
    unsigned state;
    void *p;

    if (!berth_persist)
        return;
    if (berth_persist("block", LARGE, &p, &state) != 0) {
        say("nothing persists\n");
        _exit(95);
    }
    fill(p, LARGE, 3);
    if (berth_persist_commit(p) != 0)
        _exit(94);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? ROUNDS / 10 : ROUNDS;
    word *kept = malloc(LARGE);
    char byte;

    (void)argv;
    fill(kept, LARGE, 7);
    for (int i = 0; i < rounds; i++)
        churn();
    run_threads();
    run_child(kept);
    persist();
    say("ready\n");
    while (kernel(0, 0, (word)&byte, 1) > 0)
        churn();
    verify(kept, LARGE, 7);
    free(kept);
    say("done\n");
    return 0;
}
