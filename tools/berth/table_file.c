/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/table_file.h"

#include "alloc/file_call.h"
#include "ipc/address.h"
#include "tools/berth/table_sweep.h"
#include "tools/berth/tool.h"
#include "tools/berth/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* FNV-1a: names a file; equality is checked byte by byte. */
static uint64_t hash_of(const void *bytes, size_t size)
{
    const unsigned char *byte = bytes;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ byte[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static int read_all(int fd, char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = read(fd, bytes, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        bytes += n;
        size -= (size_t)n;
    }
    return 0;
}

int berth__table_file_read(const char *path, void **ret_bytes, size_t *ret_size)
{
    /* A named pipe that nobody writes to must not hold the tool up. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;
    void *bytes = NULL;
    int r = 0;

    if (fd < 0)
        return -errno;
    if (berth__fstat(fd, &st) < 0)
        r = -errno;
    else if (!S_ISREG(st.st_mode) || st.st_size == 0)
        r = -EINVAL;
    else if (st.st_size > UINT32_MAX)
        r = -EFBIG; /* no table is that large */
    if (r == 0) {
        bytes = berth__tool_realloc(NULL, (size_t)st.st_size);
        r = read_all(fd, bytes, (size_t)st.st_size);
    }
    close(fd);
    if (r < 0) {
        free(bytes);
        return r;
    }
    *ret_bytes = bytes;
    *ret_size = (size_t)st.st_size;
    return 0;
}

/* 1 if the file has these bytes, 0 if others, -ENOENT if there is none. */
static int compare(const char *path, const void *bytes, size_t size)
{
    void *found = NULL;
    size_t found_size = 0;
    int r = berth__table_file_read(path, &found, &found_size);

    if (r == 0)
        r = found_size == size && memcmp(found, bytes, size) == 0;
    else if (r != -ENOENT)
        r = 0;
    free(found);
    return r;
}

int berth__table_file_keep(const void *bytes, size_t size, char **ret_path)
{
    char directory[PATH_MAX], why[BERTH_ADDRESS_WHY_MAX];
    char *path;
    int r;

    if (berth__address_directory(berth__geteuid(), getenv("XDG_RUNTIME_DIR"), true, directory,
                                 why) < 0) {
        berth__tool_fail("run: the policy cannot be kept for the program, which runs without it: "
                         "%s",
                         why);
        *ret_path = NULL;
        return 0;
    }
    for (unsigned other = 0;; other++) {
        path = other ? berth__tool_format("%s/policy-%016" PRIx64 "-%u.table", directory,
                                          hash_of(bytes, size), other)
                     : berth__tool_format("%s/policy-%016" PRIx64 ".table", directory,
                                          hash_of(bytes, size));
        r = compare(path, bytes, size);
        if (r != 0)
            break;
        free(path);
    }
    if (r == -ENOENT)
        r = berth__whole_file_replace(path, 0600, bytes, size);
    else
        utimensat(AT_FDCWD, path, NULL, 0); /* it was asked for just now */
    if (r >= 0) {
        berth__table_sweep(directory);
        *ret_path = path;
        return 0;
    }
    berth__tool_fail("run: %s: %s", path, strerror(-r));
    free(path);
    return BERTH_EXIT_RUN_REFUSED;
}

int berth__table_file_seal(const void *bytes, size_t size)
{
    int fd = memfd_create("berth-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int r = fd < 0 ? -errno : berth__whole_file_write(fd, bytes, size);

    if (r == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        r = -errno;
    if (r == 0)
        return fd;
    berth__tool_fail("policy apply: a memory file cannot be made: %s", strerror(-r));
    if (fd >= 0)
        close(fd);
    return -1;
}
