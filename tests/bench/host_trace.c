/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded, writes what a program allocates on the host to the file that HOST_TRACE names, in the
 * columns that `berth trace replay` reads. Of one process: children write nothing.
 *
 * With HOST_TRACE_OF, only aligned blocks that a library asks for whose path contains that, and
 * frees of blocks that are so aligned, be they such or others: PyTorch's tensors are what `libc10.`
 * asks for.
 *
 * Each call is one line and one write(): a benchmark's recorder need not be fast, and nothing is
 * lost when the program ends in any way.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
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
/* HOST_TRACE_OF; empty: all blocks; NULL: not read yet. */
static const char *_Atomic library;
#define ALIGNED 64 /* such blocks are at multiples of this */

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

static const char *library_read(void)
{
    const char *name = atomic_load(&library);

    if (!name) {
        name = getenv("HOST_TRACE_OF");
        name = name ? name : "";
        atomic_store(&library, name);
    }
    return name;
}

/* Whether it is told what is asked for from there. Without the lock: the loader has its own. */
static bool is_meant(const void *caller)
{
    const char *name = library_read();
    Dl_info info;

    return *name == '\0' || (caller && dladdr(caller, &info) != 0 && strstr(info.dli_fname, name));
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

static void note_plain(const void *block, size_t size)
{
    if (is_meant(NULL))
        note("allocate", block, size);
}

static void note_free(const void *block)
{
    if (is_meant(NULL) || (uintptr_t)block % ALIGNED == 0)
        note("free", block, 0);
}

void *malloc(size_t size)
{
    void *block = __libc_malloc(size);

    note_plain(block, size);
    return block;
}

void *calloc(size_t count, size_t size)
{
    void *block = __libc_calloc(count, size);

    note_plain(block, count * size);
    return block;
}

void *realloc(void *block, size_t size)
{
    void *moved;

    if (block && size > 0)
        note_free(block);
    moved = __libc_realloc(block, size);
    /* A failed one leaves the block, whose size is not known here: such a trace ends with it. */
    note_plain(moved, size);
    return moved;
}

static void *aligned(size_t alignment, size_t size, const void *caller)
{
    void *block = __libc_memalign(alignment, size);

    if (is_meant(caller))
        note("allocate", block, size);
    return block;
}

void *memalign(size_t alignment, size_t size)
{
    return aligned(alignment, size, __builtin_return_address(0));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return aligned(alignment, size, __builtin_return_address(0));
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    void *block = aligned(alignment, size, __builtin_return_address(0));

    if (!block)
        return ENOMEM;
    *ret = block;
    return 0;
}

void free(void *block)
{
    note_free(block);
    __libc_free(block);
}
