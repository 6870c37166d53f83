/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asks for blocks by known paths, and says "ready" and the addresses of two of them; ends when its
 * stdin does. Built with debug information, without, as a position-dependent program, and with
 * UNRELATED code in front, which moves every function, or a LABEL, which is no function.
 *
 *   asker [[FILE=]PLUGIN]...  opens each library, has it ask, and closes it again; a FILE takes the
 *                             library's place first
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QUIET __attribute__((noinline))
/* A call must not become a jump: its frame is looked for. */
#define HERE(p) __asm__ volatile("" ::"r"(p) : "memory")

#ifdef UNRELATED
int unrelated(int n);
QUIET int unrelated(int n)
{
    for (int i = 0; i < n; i++) {
        __asm__ volatile("" : "+r"(n));
        n ^= i * 7 + n / 3;
    }
    return n;
}
#endif

#ifdef LABEL
__asm__(".text\n.globl a_label\n.type a_label, @function\na_label:\n");
#endif

/* Two callers of equal depth through one wrapper, which stack depth does not tell apart. */
static QUIET void *wrapper(size_t size)
{
    void *p = malloc(size);

    HERE(p);
    return p;
}

static QUIET void *keep_weights(void)
{
    void *p = wrapper(3 << 20);

    memset(p, 1, 3 << 20);
    HERE(p);
    return p;
}

static inline __attribute__((always_inline)) void *innermost(size_t size)
{
    void *p = wrapper(size);

    HERE(p);
    return p;
}

static inline __attribute__((always_inline)) void *within(size_t size)
{
    return innermost(2 * size);
}

QUIET void *run_forward(void);
QUIET void *run_forward(void)
{
    void *p = within(100000);

    HERE(p);
    return p;
}

static int use_plugin(char *path)
{
    char *next = strchr(path, '=');
    void *(*ask)(size_t);
    void *library;

    if (next) {
        *next++ = '\0';
        if (rename(path, next) < 0)
            return 1;
        path = next;
    }
    library = dlopen(path, RTLD_NOW);

    if (!library)
        return 1;
    *(void **)&ask = dlsym(library, "plugin_ask");
    printf("plugin %p\n", ask(500000));
    return dlclose(library);
}

int main(int argc, char **argv)
{
    void *weights[4], *kept;

#ifdef UNRELATED
    if (unrelated(argc) == 12345)
        return 1;
#endif
    for (int i = 0; i < 4; i++)
        weights[i] = keep_weights();
    kept = run_forward();
    for (int i = 0; i < 50; i++)
        free(run_forward());
    for (int i = 1; i < argc; i++)
        if (use_plugin(argv[i]) != 0)
            return 1;
    printf("weights %p\nforward %p\nready\n", weights[0], kept);
    fflush(stdout);
    return getchar() != EOF;
}
