/* SPDX-License-Identifier: Apache-2.0 */
/* A library that allocates and forks in its constructor, before those of the preload libraries have
 * run. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void *early_block[4];
size_t early_size(int i);
int early_child = -1; /* the wait status of a child that _Fork() made */

size_t early_size(int i)
{
    static const size_t sizes[] = {24, 3000, 70000, 1 << 20};

    return sizes[i];
}

/* What check_filled() expects, by rows: every process of the checks begins with this. */
static void fill(unsigned char *bytes, size_t size, unsigned seed)
{
    unsigned char row[256];

    for (size_t at = 0; at < size; at += sizeof(row)) {
        size_t left = size - at;

        /* 7 * 256 is 0 in a byte: within a page, all rows are the same. */
        for (size_t i = 0; at % 4096 == 0 && i < sizeof(row); i++)
            row[i] = (unsigned char)(seed * 31 + i * 7 + (at >> 12));
        memcpy(bytes + at, row, left < sizeof(row) ? left : sizeof(row));
    }
}

__attribute__((constructor)) static void allocate(void)
{
    pid_t pid;

    for (unsigned k = 0; k < 4; k++) {
        early_block[k] = malloc(early_size((int)k));
        if (early_block[k])
            fill(early_block[k], early_size((int)k), k);
    }
    pid = _Fork();
    if (pid == 0)
        _exit(3);
    if (pid > 0)
        waitpid(pid, &early_child, 0);
}
