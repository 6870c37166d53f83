/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/waiter.h"

#include "alloc/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of Linux 5.16 and 6.7, by the same number on all machines. */
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_futex_wait
#define SYS_futex_wait 455
#endif

#define ARGUMENT_COUNT 4

struct search {
    uintptr_t start, end;
    int threads; /* the folder of their folders */
    int result;
};

/* The call that a thread waits in. */
struct call {
    long number;
    unsigned long argument[ARGUMENT_COUNT];
};

/* "202 0x7f0a 0x80 ..."; "running" and "-1 ..." are of threads that are in no call. */
static bool parse(const char *text, struct call *ret)
{
    char *rest;

    ret->number = strtol(text, &rest, 10);
    for (int i = 0; i < ARGUMENT_COUNT; i++)
        ret->argument[i] = strtoul(rest, &rest, 16);
    return rest != text && ret->number >= 0;
}

/* A futex_waitv() has its words in a list, which may lie in a page that is held back. */
static bool waits_there(const struct search *search, const struct call *call)
{
    unsigned long flags;

    switch (call->number) {
    case SYS_futex:
    case SYS_restart_syscall: /* as that of a thread that was stopped meanwhile */
        flags = call->argument[1];
        break;
    case SYS_futex_wait:
        flags = call->argument[3];
        break;
    default:
        return call->number == SYS_futex_waitv;
    }
    return !(flags & FUTEX_PRIVATE_FLAG) && call->argument[0] >= search->start &&
           call->argument[0] < search->end;
}

/* A thread that has ended waits for nothing, nor is it known where the kernel does not tell. */
static bool look_at_thread(void *context, const char *thread)
{
    struct search *search = context;
    char path[64], text[256];
    struct call call;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "%.12s/syscall", thread);
    fd = openat(search->threads, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        search->result = errno == ENOENT || errno == ESRCH ? 0 : -errno;
        return search->result == 0;
    }
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    search->result = parse(text, &call) && waits_there(search, &call);
    return search->result == 0;
}

int berth__waiter_find(const void *p, size_t size)
{
    struct search search = {.start = (uintptr_t)p, .end = (uintptr_t)p + size};
    int saved_errno = errno;

    search.threads = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (search.threads < 0) {
        search.result = -errno;
    } else {
        berth__folder_read(search.threads, look_at_thread, &search);
        close(search.threads);
    }
    errno = saved_errno;
    return search.result;
}
