/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/private_library.h"

#include "alloc/file_call.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * The loader names a library for good by the path that it was opened by. Whoever reads the list
 * later may open that: so its number is one that few programs come to, and that needs no larger
 * table of descriptors than the usual one.
 */
#define NUMBERS_USUAL 1024
#define NUMBERS_LAST 16

void (*berth__private_library_lift)(void *handle);

static int lowest_number(void)
{
    struct rlimit limit = {.rlim_cur = NUMBERS_USUAL};

    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur > NUMBERS_USUAL)
        limit.rlim_cur = NUMBERS_USUAL;
    return limit.rlim_cur > NUMBERS_LAST ? (int)limit.rlim_cur - NUMBERS_LAST : 0;
}

/* 0 or negative errno; a file that ends too soon is no library. */
static int read_at(int fd, void *p, size_t size, off_t at)
{
    ssize_t n = pread(fd, p, size, at);

    return n < 0 ? -errno : (size_t)n == size ? 0 : -ENOEXEC;
}

/* The first entry of the dynamic section of the file; 0: there is none. Or negative errno. */
static off_t find_dynamic(int fd)
{
    ElfW(Ehdr) head;
    int r = read_at(fd, &head, sizeof(head), 0);

    if (r == 0 && memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
        return -ENOEXEC;
    for (unsigned i = 0; r == 0 && i < head.e_phnum; i++) {
        ElfW(Phdr) part;

        r = read_at(fd, &part, sizeof(part), (off_t)(head.e_phoff + i * sizeof(part)));
        if (r == 0 && part.p_type == PT_DYNAMIC)
            return (off_t)part.p_offset;
    }
    return r;
}

/*
 * In the place of its name: the word that what it defines is meant by its own calls, whatever comes
 * first in the program. The loader asks for either in the dynamic section alone.
 */
static int make_private(int fd)
{
    static const ElfW(Dyn) symbolic = {.d_tag = DT_SYMBOLIC};
    off_t at = find_dynamic(fd);
    ElfW(Dyn) entry = {.d_tag = DT_DEBUG};
    int r = at < 0 ? (int)at : at == 0 ? -ENOEXEC : 0;

    for (; r == 0 && entry.d_tag != DT_NULL; at += (off_t)sizeof(entry)) {
        r = read_at(fd, &entry, sizeof(entry), at);
        if (r == 0 && entry.d_tag == DT_SONAME)
            return pwrite(fd, &symbolic, sizeof(symbolic), at) == sizeof(symbolic) ? 0 : -EIO;
    }
    return r == 0 ? -ENOEXEC : r;
}

/*
 * How large the copy becomes, or negative errno. A path that the program loaded by may be another
 * file's by now; and beyond RLIMIT_FSIZE the kernel would send SIGXFSZ instead of an error.
 */
static off_t size_of_copy(int fd)
{
    struct rlimit limit;
    struct stat st;

    if (berth__fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -ENOEXEC;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        (rlim_t)st.st_size > limit.rlim_cur)
        return -EFBIG;
    return st.st_size;
}

static int copy_all(int from, int to)
{
    off_t size = size_of_copy(from), at = size < 0 ? size : find_dynamic(from);

    if (at < 0)
        return (int)at;
    while (size > 0) {
        ssize_t n = sendfile(to, from, NULL, (size_t)size);

        if (n <= 0)
            return n < 0 ? -errno : -ENOEXEC;
        size -= n;
    }
    return 0;
}

/*
 * The loader knows a file by its inode, too: the bytes as a file of their own, or negative errno.
 * What is no file is not waited for, and no terminal becomes the program's.
 */
static int copy_file(const char *path)
{
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), low, copy = -1, r = -errno;

    if (from < 0)
        return r;
    low = memfd_create("berth-library", MFD_CLOEXEC);
    r = low < 0 ? -errno : copy_all(from, low);
    if (r == 0)
        r = make_private(low);
    if (r == 0) {
        copy = fcntl(low, F_DUPFD_CLOEXEC, lowest_number());
        r = copy < 0 ? -errno : 0;
    }
    if (low >= 0)
        close(low);
    close(from);
    return r < 0 ? r : copy;
}

/*
 * A path to the descriptor that nothing was loaded by: the loader compares paths before it opens
 * anything. A program that opens such files does not write them with a dot. The path is this
 * thread's, for the process has no descriptors once its first thread has ended; and by its number,
 * for a debugger that is told of the library now opens it, too.
 */
static int name_copy(int fd, char *path, size_t size)
{
    char thread[128];
    ssize_t n = readlink("/proc/thread-self", thread, sizeof(thread));
    int used = snprintf(path, size, "/proc/%.*s/", n < 0 ? 0 : (int)n, thread);

    if (n < 0)
        return -errno;
    for (;;) {
        void *loaded;

        if ((size_t)used + sizeof("./fd/1234567890") > size)
            return -ENAMETOOLONG;
        used += snprintf(path + used, size - (size_t)used, "./");
        snprintf(path + used, size - (size_t)used, "fd/%d", fd);
        loaded = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
        if (!loaded)
            return 0;
        dlclose(loaded);
    }
}

static void *open_copy(const char *name, void *original, int flags, char *why, size_t why_size)
{
    struct link_map *map = NULL;
    char path[256];
    void *copy;
    int fd, r;

    dlinfo(original, RTLD_DI_LINKMAP, &map);
    fd = map ? copy_file(map->l_name) : -ENOENT;
    r = fd < 0 ? fd : name_copy(fd, path, sizeof(path));
    copy = r < 0 ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL | flags);
    if (fd >= 0)
        close(fd);
    if (r < 0) {
        snprintf(why, why_size, "%s cannot be copied (%s)", name, strerrordesc_np(-r));
    } else if (!copy) {
        const char *reason = dlerror();

        snprintf(why, why_size, "%s", reason ? reason : "its copy cannot be loaded");
    }
    return copy;
}

/* RTLD_LOCAL: none of its names may come to serve the program. */
void *berth__private_library_open(const char *name, int flags, char *why, size_t why_size)
{
    void *theirs = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    void *original = theirs ? theirs : dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    void *handle = NULL;

    if (!original) {
        const char *reason = dlerror();

        snprintf(why, why_size, "%s", reason ? reason : name);
        return NULL;
    }
    handle = open_copy(name, original, flags, why, why_size);
    /* First of all: what is open already would not be bound at once. */
    dlclose(original);
    if (!handle && !theirs) {
        handle = dlopen(name, RTLD_NOW | RTLD_LOCAL | flags);
        if (!handle)
            dlerror();
    }
    if (handle && berth__private_library_lift)
        berth__private_library_lift(handle);
    return handle;
}
