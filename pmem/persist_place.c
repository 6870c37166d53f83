/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/persist_place.h"

#include "alloc/file_call.h"
#include "pmem/dax_device.h"
#include "pmem/file_pages.h"
#include "pmem/memory_room.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Programs expect low descriptor numbers for their own files. */
#define DESCRIPTOR_MIN 900
#define FILE_GRANULE_MIN ((uint64_t)4096)
/* A signal interrupts an allocation and undoes it: pieces, so that it ends. */
#define PIECE_MAX ((uint64_t)64 << 20)
#define PIECE_MIN ((uint64_t)64 << 10)

#define refuse(r, ...) (snprintf(why, why_size, __VA_ARGS__), (r))

static int move_out_of_the_way(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, DESCRIPTOR_MIN);

    if (high < 0)
        return fd;
    close(fd);
    return high;
}

static bool has_map_sync(const struct berth_persist_place *place)
{
#ifdef MAP_SYNC
    void *p = mmap(NULL, place->granule, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, place->fd, 0);

    if (p != MAP_FAILED) {
        munmap(p, place->granule);
        return true;
    }
#endif
    return false;
}

/* The kernel maps no page of a device for a process without huge pages, and tells it by SIGBUS. */
static int find_device(struct berth_persist_place *place, dev_t number, char *why, size_t why_size)
{
    struct berth_dax_device device;
    int r = berth__dax_device_read(number, &device, why, why_size);

    if (r < 0)
        return refuse(-EINVAL, "it is neither a regular file nor a dax device");
    if (device.alignment > (uint64_t)sysconf(_SC_PAGESIZE) &&
        prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0)
        return refuse(-ENOTSUP, "the program has turned huge pages off (PR_SET_THP_DISABLE), "
                                "without which the device cannot be mapped");
    place->size = device.size;
    place->granule = device.alignment;
    return 0;
}

static int find_kind(struct berth_persist_place *place, char *why, size_t why_size)
{
    struct stat st;

    if (berth__fstat(place->fd, &st) < 0)
        return refuse(-errno, "it cannot be looked at: %s", strerrordesc_np(errno));
    place->device = st.st_dev;
    place->inode = st.st_ino;
    if (S_ISREG(st.st_mode)) {
        place->size = (uint64_t)st.st_size;
        place->granule = (uint64_t)sysconf(_SC_PAGESIZE);
        if (place->granule < FILE_GRANULE_MIN)
            place->granule = FILE_GRANULE_MIN;
        place->is_direct = has_map_sync(place);
        if (!place->is_direct)
            berth__file_pages_single(place->fd);
        return 0;
    }
    if (!S_ISCHR(st.st_mode))
        return refuse(-EINVAL, "it is neither a regular file nor a dax device");
    place->is_device = true;
    place->is_direct = true;
    return find_device(place, st.st_rdev, why, why_size);
}

int berth__persist_place_open(const char *path, bool read_only, struct berth_persist_place *ret,
                              char *why, size_t why_size)
{
    struct berth_persist_place place = {.read_only = read_only};
    int r;

    place.fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    if (place.fd < 0)
        return refuse(-errno, "it cannot be opened: %s", strerrordesc_np(errno));
    place.fd = move_out_of_the_way(place.fd);
    r = find_kind(&place, why, why_size);
    if (r == 0 && !(place.path = strdup(path)))
        r = refuse(-ENOMEM, "there is no memory");
    if (r < 0) {
        close(place.fd);
        return r;
    }
    *ret = place;
    return 0;
}

/* The directory that a file of this path lies in. */
static int directory_of(const char *path, char directory[PATH_MAX])
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;

    if (length >= PATH_MAX)
        return -ENAMETOOLONG;
    if (!slash)
        strcpy(directory, ".");
    else if (length == 0)
        strcpy(directory, "/");
    else
        snprintf(directory, PATH_MAX, "%.*s", (int)length, path);
    return 0;
}

/* A filesystem that has no files without a name; one that is left over by a kill is seen as such.
 */
static int open_temporary(const char *path, struct berth_persist_place *place)
{
    if (asprintf(&place->temporary, "%s.new-XXXXXX", path) < 0) {
        place->temporary = NULL;
        return -ENOMEM;
    }
    place->fd = mkostemp(place->temporary, O_CLOEXEC);
    return place->fd < 0 ? -errno : 0;
}

int berth__persist_place_make(const char *path, struct berth_persist_place *ret, char *why,
                              size_t why_size)
{
    struct berth_persist_place place = {0};
    char directory[PATH_MAX];
    int r;

    r = directory_of(path, directory);
    if (r < 0)
        return refuse(r, "the path is too long");
    place.fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    r = place.fd < 0 ? -errno : 0;
    if (r == -EOPNOTSUPP || r == -EISDIR || r == -EINVAL)
        r = open_temporary(path, &place);
    if (r < 0) {
        free(place.temporary);
        return refuse(r, "no file can be made in its directory: %s", strerrordesc_np(-r));
    }
    (void)berth__file_pages_in_place(place.fd);
    place.fd = move_out_of_the_way(place.fd);
    r = find_kind(&place, why, why_size);
    if (r == 0 && !(place.path = strdup(path)))
        r = refuse(-ENOMEM, "there is no memory");
    if (r < 0) {
        berth__persist_place_close(&place);
        return r;
    }
    *ret = place;
    return 0;
}

static void drop_temporary(struct berth_persist_place *place)
{
    if (place->temporary)
        berth__unlink(place->temporary);
    free(place->temporary);
    place->temporary = NULL;
}

int berth__persist_place_publish(struct berth_persist_place *place)
{
    char self[32], directory[PATH_MAX];
    int fd, r = 0;

    if (fsync(place->fd) < 0)
        return -errno;
    snprintf(self, sizeof(self), "/proc/self/fd/%d", place->fd);
    if (linkat(AT_FDCWD, place->temporary ? place->temporary : self, AT_FDCWD, place->path,
               place->temporary ? 0 : AT_SYMLINK_FOLLOW) < 0)
        return -errno;
    drop_temporary(place);
    if (directory_of(place->path, directory) < 0)
        return 0;
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    /* Some filesystems have nothing to write there. */
    if (fsync(fd) < 0 && errno != EINVAL)
        r = -errno;
    close(fd);
    return r;
}

void berth__persist_place_close(struct berth_persist_place *place)
{
    if (place->fd >= 0 && berth__persist_place_verify(place) == 0)
        close(place->fd);
    drop_temporary(place);
    free(place->path);
    place->fd = -1;
    place->path = NULL;
}

int berth__persist_place_lock(const struct berth_persist_place *place, enum berth_persist_lock lock,
                              int kind)
{
    struct flock range = {
        .l_type = (short)kind, .l_whence = SEEK_SET, .l_start = (off_t)lock, .l_len = 1};
    int r = berth__persist_place_verify(place);

    if (r < 0)
        return r;
    if (fcntl(place->fd, F_OFD_SETLK, &range) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
}

int berth__persist_place_verify(const struct berth_persist_place *place)
{
    struct stat st;

    if (berth__fstat(place->fd, &st) < 0 || st.st_dev != place->device || st.st_ino != place->inode)
        return -ESTALE;
    return 0;
}

int berth__persist_place_measure(struct berth_persist_place *place)
{
    struct stat st;

    if (place->is_device)
        return 0;
    if (berth__fstat(place->fd, &st) < 0)
        return -errno;
    if (st.st_dev != place->device || st.st_ino != place->inode)
        return -ESTALE;
    place->size = (uint64_t)st.st_size;
    return 0;
}

/*
 * Blocks that the file shares with a copy of it (cp --reflink, a snapshot of one file) are written
 * elsewhere, for which a full filesystem has no space: a SIGBUS. They are made the file's own while
 * an error can still be told. Most filesystems share none, and do not know of it.
 */
static int unshare_blocks(const struct berth_persist_place *place, int fd, uint64_t offset,
                          uint64_t size)
{
    if (place->is_device || place->read_only)
        return 0;
    while (fallocate(fd, FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                     (off_t)size) < 0) {
        if (errno == ENOSPC || errno == EDQUOT || errno == EIO)
            return -errno;
        if (errno != EINTR)
            break;
    }
    return 0;
}

void *berth__persist_place_map_head(const struct berth_persist_place *place, size_t size)
{
    int flags = MAP_SHARED;
    int r = unshare_blocks(place, place->fd, 0, size);
    void *p;

    if (r < 0) {
        errno = -r;
        return NULL;
    }
#ifdef MAP_SYNC
    if (place->is_direct && !place->is_device)
        flags = MAP_SHARED_VALIDATE | MAP_SYNC;
#endif
    p = mmap(NULL, size, PROT_READ, flags, place->fd, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, size, MADV_DONTFORK);
    return p;
}

/* The same file opened once more: through /proc, or by its path where there is none. -errno. */
static int open_again(const struct berth_persist_place *place)
{
    int flags = (place->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;
    char self[32];
    struct stat st;
    int fd;

    if (berth__persist_place_verify(place) < 0)
        return -ESTALE;
    snprintf(self, sizeof(self), "/proc/self/fd/%d", place->fd);
    fd = open(self, flags);
    if (fd < 0)
        fd = open(place->path, flags);
    if (fd < 0)
        return -errno;
    if (berth__fstat(fd, &st) < 0 || st.st_dev != place->device || st.st_ino != place->inode) {
        close(fd);
        return -ESTALE;
    }
    return fd;
}

int berth__persist_place_map(const struct berth_persist_place *place, uint64_t offset,
                             uint64_t size, int protection, void *address)
{
    int flags = MAP_SHARED | MAP_FIXED;
    int fd = open_again(place), r = 0;

    if (fd < 0)
        return fd;
#ifdef MAP_SYNC
    if (place->is_direct && !place->is_device)
        flags = MAP_SHARED_VALIDATE | MAP_SYNC | MAP_FIXED;
#endif
    if (!place->is_direct)
        berth__file_pages_single(fd);
    if (protection & PROT_WRITE)
        r = unshare_blocks(place, fd, offset, size);
    if (r == 0 && mmap(address, size, protection, flags, fd, (off_t)offset) == MAP_FAILED)
        r = -errno;
    else if (r == 0 && !place->is_direct)
        berth__file_pages_read_ahead(address, size);
    close(fd);
    return r;
}

int berth__persist_place_read(const struct berth_persist_place *place, uint64_t offset, void *to,
                              size_t size)
{
    char *at = to;

    if (berth__persist_place_verify(place) < 0)
        return -ESTALE;
    while (size > 0) {
        ssize_t n = pread(place->fd, at, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EINVAL;
        at += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return 0;
}

/* Beyond RLIMIT_FSIZE the kernel would send SIGXFSZ instead of an error. */
static bool is_over_limit(uint64_t end)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           end > limit.rlim_cur;
}

/* Where the filesystem cannot allocate: by writing. */
static int write_zeros(int fd, uint64_t offset, uint64_t size)
{
    static const char zeros[1 << 16];

    while (size > 0) {
        size_t piece = size < sizeof(zeros) ? (size_t)size : sizeof(zeros);
        ssize_t n = pwrite(fd, zeros, piece, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENOSPC;
        offset += (uint64_t)n;
        size -= (uint64_t)n;
    }
    return 0;
}

/* What cannot succeed must not fill the filesystem, or memory, of everybody else meanwhile. */
static bool has_space(int fd, uint64_t size)
{
    struct statvfs fs;

    if (berth__memory_room_is_asked(fd) && !berth__memory_room_for(size))
        return false;
    /* One that tells no size has no limit of its own. */
    return fstatvfs(fd, &fs) < 0 || fs.f_blocks == 0 || size / fs.f_frsize <= fs.f_bfree;
}

/* A piece that a signal interrupts begins anew: a program's timer may be faster than a large one.
 */
static int allocate(int fd, uint64_t offset, uint64_t size)
{
    uint64_t piece = PIECE_MAX;

    while (size > 0) {
        uint64_t now = size < piece ? size : piece;

        if (fallocate(fd, 0, (off_t)offset, (off_t)now) == 0) {
            offset += now;
            size -= now;
        } else if (errno == EOPNOTSUPP) {
            return write_zeros(fd, offset, size);
        } else if (errno != EINTR) {
            return -errno;
        } else if (piece > PIECE_MIN) {
            piece >>= 1;
        }
    }
    return 0;
}

int berth__persist_place_provide(struct berth_persist_place *place, uint64_t offset, uint64_t size,
                                 bool *ret_zero)
{
    uint64_t before = place->size, added = size;
    bool punched = true;
    int r;

    *ret_zero = false;
    if (place->is_device)
        return offset + size > place->size ? -ENOSPC : 0;
    if (is_over_limit(offset + size))
        return -EFBIG;
    /* What lies beyond the end is zero already; what was used before becomes so. */
    if (offset < before)
        punched = fallocate(place->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                            (off_t)size) == 0;
    if (!punched && errno != EOPNOTSUPP)
        return -errno;
    *ret_zero = punched;
    if (!punched)
        added = offset + size > before ? offset + size - before : 0;
    r = has_space(place->fd, added) ? allocate(place->fd, offset, size) : -ENOSPC;
    if (r < 0) {
        berth__persist_place_punch(place, offset, size);
        if (offset + size > before)
            berth__persist_place_cut(place, before);
        return r;
    }
    if (offset + size > place->size)
        place->size = offset + size;
    /* Where flushing caches is all that a commit does, the file's own metadata goes first. */
    return place->is_direct && fdatasync(place->fd) < 0 ? -errno : 0;
}

void berth__persist_place_punch(struct berth_persist_place *place, uint64_t offset, uint64_t size)
{
    if (!place->is_device && size > 0)
        (void)fallocate(place->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                        (off_t)size);
}

void berth__persist_place_cut(struct berth_persist_place *place, uint64_t size)
{
    struct stat st;

    if (place->is_device || berth__fstat(place->fd, &st) < 0 || (uint64_t)st.st_size <= size)
        return;
    if (ftruncate(place->fd, (off_t)size) == 0)
        place->size = size;
}
