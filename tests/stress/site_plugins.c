/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: plug-ins whose frames differ follow one another at one address, in several threads at once,
 * and allocate: whatever is kept of the last one must not be used to read the stack. Arguments: the
 * plug-ins, three of them. It ends, or it crashes.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLUGINS 3
#define ROUNDS 1000

static char **paths;

static void *open_and_close(void *argument)
{
    uintptr_t first = (uintptr_t)argument;

    for (unsigned i = 0; i < ROUNDS; i++) {
        void *library = dlopen(paths[(first + i) % PLUGINS], RTLD_NOW | RTLD_LOCAL);
        void *(*allocate)(size_t size, int depth);

        if (!library)
            return argument;
        *(void **)&allocate = dlsym(library, "plugin_allocate");
        for (int depth = 0; allocate && depth < 6; depth++) {
            char *p = allocate(70000 + i, depth);

            if (p)
                memset(p, 1, 100);
            free(p);
        }
        dlclose(library);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[PLUGINS];
    int failed = 0;

    if (argc != PLUGINS + 1)
        return 2;
    paths = argv + 1;
    for (uintptr_t i = 0; i < PLUGINS; i++)
        if (pthread_create(&threads[i], NULL, open_and_close, (void *)(i + PLUGINS)) != 0)
            return 2;
    for (int i = 0; i < PLUGINS; i++) {
        void *result = NULL;

        pthread_join(threads[i], &result);
        failed |= result != NULL;
    }
    if (failed)
        fprintf(stderr, "a plug-in could not be opened\n");
    return failed;
}
