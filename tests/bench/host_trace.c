/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded, writes what a program allocates on the host to the file that HOST_TRACE names, in the
 * columns that `berth trace replay` reads. Of one process: children write nothing.
 *
 * Each call is one line and one write(): a benchmark's recorder need not be fast, and nothing is
 * lost when the program ends in any way.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* glibc's own, under names that nobody interposes. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *block);

#define OFF (-2)
static int file = -1; /* not opened yet; OFF: nothing is written */
static pid_t owner;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t calls;

/* With the lock held. */
static void file_open(void)
{
    static const char header[] = "Thread,Time,Action,Pointer,Size,Stream\n";
    const char *path = getenv("HOST_TRACE");

    file = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : OFF;
    owner = getpid();
    if (file < 0 || write(file, header, sizeof(header) - 1) < 0)
        file = OFF;
}

/* A free is told before it is made, an allocation after: no address is ever two blocks at once. */
static void note(const char *action, const void *block, size_t size)
{
    int kept_errno = errno, length;
    char line[128];

    if (!block)
        return;
    pthread_mutex_lock(&lock);
    if (file == -1)
        file_open();
    if (file != OFF && owner == getpid()) {
        length = snprintf(line, sizeof(line), "0,%.6f,%s,%p,%zu,0\n", (double)calls++ / 1e6, action,
                          block, size);
        if (write(file, line, (size_t)length) != length)
            file = OFF;
    }
    pthread_mutex_unlock(&lock);
    errno = kept_errno;
}

void *malloc(size_t size)
{
    void *block = __libc_malloc(size);

    note("allocate", block, size);
    return block;
}

void *calloc(size_t count, size_t size)
{
    void *block = __libc_calloc(count, size);

    note("allocate", block, count * size);
    return block;
}

void *realloc(void *block, size_t size)
{
    void *moved;

    if (block && size > 0)
        note("free", block, 0);
    moved = __libc_realloc(block, size);
    /* A failed one leaves the block, whose size is not known here: such a trace ends with it. */
    note("allocate", moved, size);
    return moved;
}

void *memalign(size_t alignment, size_t size)
{
    void *block = __libc_memalign(alignment, size);

    note("allocate", block, size);
    return block;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    void *block = memalign(alignment, size);

    if (!block)
        return ENOMEM;
    *ret = block;
    return 0;
}

void free(void *block)
{
    note("free", block, 0);
    __libc_free(block);
}
