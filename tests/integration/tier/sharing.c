/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parent and child write over all that they had when the child was forked, after the filesystem was
 * filled: says "ready", waits for a line, and says "all right" once both have verified their bytes.
 */

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCKS 24
#define SIZE ((size_t)1 << 20)
#define STEP 512

static unsigned char *blocks[BLOCKS];

static unsigned char value(int block, size_t at, int seed)
{
    return (unsigned char)((size_t)block * 7 + at / STEP + (size_t)seed);
}

static void fill(int seed)
{
    for (int i = 0; i < BLOCKS; i++)
        for (size_t at = 0; at < SIZE; at += STEP)
            blocks[i][at] = value(i, at, seed);
}

static void verify(int seed)
{
    for (int i = 0; i < BLOCKS; i++)
        for (size_t at = 0; at < SIZE; at += STEP)
            if (blocks[i][at] != value(i, at, seed)) {
                fprintf(stderr, "byte %zu of block %d is wrong\n", at, i);
                _exit(1);
            }
}

/* What was written goes to the disk, so that the next write is the first again. */
static void write_twice(int seed)
{
    for (int i = 0; i < 2; i++) {
        fill(seed + i);
        sync();
        verify(seed + i);
    }
}

int main(void)
{
    int status = -1, end[2];
    pid_t child;
    char byte;

    for (int i = 0; i < BLOCKS; i++)
        blocks[i] = malloc(SIZE);
    fill(1);
    if (pipe(end) < 0 || (child = fork()) < 0)
        return 2;
    if (child == 0) {
        close(end[1]);
        while (read(end[0], &byte, 1) > 0)
            ;
        verify(1);
        write_twice(5);
        _exit(0);
    }
    close(end[0]);
    puts("ready");
    fflush(stdout);
    if (read(STDIN_FILENO, &byte, 1) < 0)
        return 3;
    write_twice(11);
    close(end[1]);
    if (waitpid(child, &status, 0) != child || status != 0)
        return 4;
    write_twice(17);
    puts("all right");
    return 0;
}
