/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints 200000 bytes through a buffer that malloc made, and returns from main with most of them
 * still in the buffer. An atexit handler and a destructor allocate once more after that.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *kept;

static void at_exit(void)
{
    kept = realloc(kept, 300000);
    memset(kept, 1, 300000);
    free(kept);
    kept = malloc(100);
}

__attribute__((destructor)) static void last(void)
{
    free(kept);
    kept = malloc(80000);
    memset(kept, 2, 80000);
    free(kept);
}

int main(void)
{
    size_t room = 150000;

    atexit(at_exit);
    kept = malloc(200000);
    setvbuf(stdout, malloc(room), _IOFBF, room);
    for (int i = 0; i < 200000; i++)
        putchar('a' + i % 26);
    return 0;
}
