/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/file_copy.h"

#include "alloc/log.h"
#include "alloc/readable.h"
#include "alloc/sandbox.h"
#include "alloc/stats.h"
#include "pmem/memory_room.h"
#include "pmem/window.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* A shared block needs space at the first write after all: the filesystem must have room for every
 * page, now. */
static bool has_room(const struct berth_tier_file *file, uint64_t size)
{
    struct statvfs fs;

    return fstatvfs(file->fd, &fs) == 0 && (uint64_t)fs.f_bavail * fs.f_frsize >= size;
}

/*
 * What a device's piece begins is the piece's to the end, because the kernel takes it away whole or
 * not at all.
 */
static size_t whole_pieces(const struct berth_tier_file *file, size_t size)
{
    uintptr_t end = file->base + size;

    return ((end + file->piece - 1) & ~(uintptr_t)(file->piece - 1)) - file->base;
}

/* How far the window is used. */
static size_t used_of(const struct berth_tier_file *file)
{
    return whole_pieces(file, berth__window_used(file->id));
}

/* How far it has memory behind it, which may be much less. */
static size_t backed_of(const struct berth_tier_file *file)
{
    size_t limit = used_of(file);
    size_t offset = 0, end = 0;
    size_t size;

    for (; berth__page_set_next(&file->committed, limit, &offset, &size); offset += size)
        end = offset + size;
    return end > 0 ? whole_pieces(file, end) : 0;
}

/* Takes space for every page that the tier has put memory behind. */
static int allocate_all(const struct berth_tier_file *file, int fd)
{
    size_t limit = used_of(file);
    size_t offset = 0;
    size_t size;

    for (; berth__page_set_next(&file->committed, limit, &offset, &size); offset += size) {
        int r = berth__tier_file_allocate(fd, offset, size);

        if (r < 0)
            return r;
    }
    return 0;
}

/* Others may have the space when it is wanted; a child that could not be made at all is worse. */
static void say_shared(const struct berth_tier_file *file)
{
    static _Atomic int said;

    berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_FORK,
                    "the child's copy of tier %s, which is over its fork-copy-max, shares blocks "
                    "with its parent's: should the filesystem fill up before they are written to, "
                    "the kernel ends the one that writes (SIGBUS)",
                    file->tier->name);
}

/* A copy that costs nothing yet. */
static int begin_sharing(const struct berth_tier_file *file, uint64_t size,
                         struct berth_file_copy *copy)
{
    if (!berth__tier_file_has_descriptor(file) || ioctl(copy->fd, FICLONE, file->fd) < 0)
        return -EFBIG;
    if (!has_room(file, size))
        return -ENOSPC;
    copy->clone = true;
    say_shared(file);
    return 0;
}

/*
 * A copy beside the original. Blocks that the two share would be written elsewhere by whoever is
 * first, the parent too, and a filesystem that is full by then is a SIGBUS: only what may not be
 * copied is shared.
 */
static int begin_in_directory(const struct berth_tier_file *file, uint64_t size,
                              struct berth_file_copy *ret)
{
    struct berth_file_copy copy = {.fd = berth__tier_file_open(file->tier->path)};
    int r;

    if (copy.fd < 0)
        return copy.fd;
    if (size > file->fork_copy_max)
        r = begin_sharing(file, size, &copy);
    else if (file->asks_room && !berth__memory_room_for(size))
        r = -ENOMEM;
    else
        r = allocate_all(file, copy.fd);
    if (r < 0) {
        close(copy.fd);
        return r;
    }
    *ret = copy;
    return 0;
}

static int begin_in_memory(const struct berth_tier_file *file, struct berth_file_copy *ret)
{
    struct berth_file_copy copy = {.in_memory = true};
    int r;

    copy.fd = berth__tier_file_open_memory();
    if (copy.fd < 0)
        return copy.fd;
    r = allocate_all(file, copy.fd);
    if (r < 0) {
        close(copy.fd);
        return r;
    }
    *ret = copy;
    return 0;
}

/*
 * Memory for every page that the tier has put memory behind, as allocate_all() takes space: a lack
 * of it is seen here, where the kernel can say so (Linux 5.14), and may be asked.
 */
static int populate_all(const struct berth_tier_file *file, const struct berth_file_copy *copy)
{
    size_t offset = 0;
    size_t size;

    if (berth__sandbox_is_on())
        return 0;
    for (; berth__page_set_next(&file->committed, copy->mapping_size, &offset, &size);
         offset += size)
        if (madvise((char *)copy->mapping + offset, size, MADV_POPULATE_WRITE) < 0 &&
            errno != EINVAL)
            return errno == EFAULT ? -ENOMEM : -errno;
    return 0;
}

/*
 * Without a descriptor. Shared, so that the child's pages can be given back as those of a file. As
 * large as it must be: the process may have few addresses left (RLIMIT_AS).
 */
static int begin_in_mapping(const struct berth_tier_file *file, struct berth_file_copy *ret)
{
    struct berth_file_copy copy = {.fd = -1, .in_memory = true, .mapping_size = backed_of(file)};
    int r;

    if (copy.mapping_size > 0) {
        copy.mapping = mmap(NULL, copy.mapping_size, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (copy.mapping == MAP_FAILED)
            return -errno;
    }
    r = populate_all(file, &copy);
    if (r < 0)
        berth__file_copy_drop(&copy);
    else
        *ret = copy;
    return r;
}

/*
 * A copy in ordinary memory: where no file can be had for it, or none of that size (RLIMIT_FSIZE),
 * without one.
 */
static int begin_outside(const struct berth_tier_file *file, uint64_t size, bool with_file,
                         struct berth_file_copy *ret)
{
    int r = -EBADF;

    if (size > file->fork_copy_max)
        return -EFBIG;
    if (size > 0 && !berth__sandbox_is_on() && !berth__memory_room_for(size))
        return -ENOMEM;
    if (with_file)
        r = begin_in_memory(file, ret);
    return r == 0 || r == -ENOMEM || r == -ENOSPC ? r : begin_in_mapping(file, ret);
}

int berth__file_copy_begin(const struct berth_tier_file *file, bool shares_descriptors,
                           struct berth_file_copy *ret)
{
    uint64_t size =
        atomic_load_explicit(&berth__tier_stats[file->id].reserved, memory_order_relaxed);
    int r;

    /* A sandbox may forbid to make a file. */
    if (shares_descriptors || berth__sandbox_is_on()) {
        r = begin_outside(file, size, false, ret);
        ret->shares_descriptors = r == 0;
        return r;
    }
    if (file->is_foreign || file->in_memory)
        return begin_outside(file, size, true, ret);
    r = begin_in_directory(file, size, ret);
    if (r == 0 || (r == -EFBIG && size > file->fork_copy_max))
        return r;
    berth__log(BERTH_LOG_INFO, BERTH_TOPIC_FORK,
               "the child's copy of tier %s is made in memory: %s: %s", file->tier->name,
               file->tier->path, strerrordesc_np(-r));
    return begin_outside(file, size, true, ret);
}

/*
 * A second mapping of what lies in a tier's window, to be read: the program may have protected what
 * is there, a guard page for one (mprotect). All of it is protected as its first page is, which a
 * sandbox may forbid to change. NULL where there can be none: reserved huge pages, too many
 * mappings.
 */
static char *view_begin(const char *from, size_t size)
{
    char *view = mremap((void *)from, 0, size, MREMAP_MAYMOVE);

    if (view == MAP_FAILED)
        return NULL;
    if (berth__sandbox_is_on() ? berth__is_readable(view) : mprotect(view, size, PROT_READ) == 0)
        return view;
    munmap(view, size);
    return NULL;
}

static int write_readable(int fd, const char *from, size_t size, size_t offset)
{
    while (size > 0) {
        ssize_t n = pwrite(fd, from, size, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        from += n;
        offset += (size_t)n;
        size -= (size_t)n;
    }
    return 0;
}

static int write_all(int fd, const char *from, size_t size, size_t offset)
{
    int r = write_readable(fd, from, size, offset);
    char *view = r == -EFAULT ? view_begin(from, size) : NULL;

    if (!view)
        return r;
    r = write_readable(fd, view, size, offset);
    munmap(view, size);
    return r;
}

/*
 * Whether the filesystem's SEEK_DATA knows of pages that were written through a mapping. One whose
 * data lives elsewhere (FUSE, network) may not, and the child would read zeros.
 */
static bool knows_holes(const struct berth_tier_file *file)
{
    struct statfs fs;

    if (file->is_foreign || fstatfs(file->fd, &fs) < 0)
        return false;
    switch (fs.f_type) {
    case TMPFS_MAGIC:
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
        return true;
    default:
        return false;
    }
}

/* Copies the parts of [offset, end) that were ever written; the rest reads as zero on both sides.
 */
static int copy_written(const struct berth_tier_file *file, int fd, size_t offset, size_t end)
{
    bool known = berth__tier_file_has_descriptor(file);

    while (offset < end) {
        off_t data = known ? lseek(file->fd, (off_t)offset, SEEK_DATA) : -1;
        off_t hole = data < 0 ? -1 : lseek(file->fd, data, SEEK_HOLE);
        size_t stop;
        int r;

        if (known && data < 0 && errno == ENXIO)
            return 0;
        if (data < 0 || hole < 0) {
            data = (off_t)offset;
            hole = (off_t)end;
        }
        if ((size_t)data >= end)
            return 0;
        stop = (size_t)hole < end ? (size_t)hole : end;
        r = write_all(fd, (const char *)file->base + data, stop - (size_t)data, (size_t)data);
        if (r < 0)
            return r;
        offset = stop;
    }
    return 0;
}

/* Other threads may have let the tier grow since the copy was begun. */
static int fit_mapping(const struct berth_tier_file *file, struct berth_file_copy *copy)
{
    uint64_t size =
        atomic_load_explicit(&berth__tier_stats[file->id].reserved, memory_order_relaxed);
    struct berth_file_copy larger;
    int r;

    if (backed_of(file) <= copy->mapping_size)
        return populate_all(file, copy);
    if (size > file->fork_copy_max)
        return -EFBIG;
    r = begin_in_mapping(file, &larger);
    if (r < 0)
        return r;
    larger.shares_descriptors = copy->shares_descriptors;
    berth__file_copy_drop(copy);
    *copy = larger;
    return 0;
}

/* To copy what cannot be read would end the program. */
static int copy_readable(char *to, const char *from, size_t size)
{
    for (size_t at = 0; at < size; at += BERTH_OS_PAGE) {
        if (!berth__is_readable(from + at))
            return -EFAULT;
        memcpy(to + at, from + at, BERTH_OS_PAGE);
    }
    return 0;
}

static int copy_to_memory(char *to, const char *from, size_t size)
{
    char *view = view_begin(from, size);

    if (!view)
        return copy_readable(to, from, size);
    memcpy(to, view, size);
    munmap(view, size);
    return 0;
}

static int fill_mapping(const struct berth_tier_file *file, struct berth_file_copy *copy)
{
    size_t offset = 0;
    size_t size;
    int r = fit_mapping(file, copy);

    for (; r == 0 && berth__page_set_next(&file->committed, copy->mapping_size, &offset, &size);
         offset += size)
        r = copy_to_memory((char *)copy->mapping + offset, (const char *)file->base + offset, size);
    return r;
}

static int fill(const struct berth_tier_file *file, struct berth_file_copy *copy)
{
    size_t limit = used_of(file);
    size_t offset = 0;
    size_t size;
    bool holes;
    int r;

    if (copy->fd < 0)
        return fill_mapping(file, copy);
    holes = knows_holes(file);
    if (copy->clone && ioctl(copy->fd, FICLONE, file->fd) == 0)
        return 0;
    /* Other threads may have allocated since the copy was begun. */
    r = allocate_all(file, copy->fd);
    if (r < 0)
        return r;
    for (; berth__page_set_next(&file->committed, limit, &offset, &size); offset += size) {
        r = holes ? copy_written(file, copy->fd, offset, offset + size)
                  : write_all(copy->fd, (const char *)file->base + offset, size, offset);
        if (r < 0)
            return r;
    }
    return 0;
}

static int fill_or_replace(const struct berth_tier_file *file, struct berth_file_copy *copy)
{
    uint64_t size =
        atomic_load_explicit(&berth__tier_stats[file->id].reserved, memory_order_relaxed);
    struct berth_file_copy other;
    int r = fill(file, copy);

    if (r == 0 || r == -EFAULT || copy->in_memory)
        return r;
    /* What was enough when the copy was begun no longer is. */
    r = begin_outside(file, size, true, &other);
    if (r < 0)
        return r;
    berth__file_copy_drop(copy);
    *copy = other;
    return fill(file, copy);
}

int berth__file_copy_fill(const struct berth_tier_file *file, struct berth_file_copy *copy)
{
    /* What is committed is read below: no other thread may take it away meanwhile. */
    bool is_held = file->is_foreign && berth__chunks_hold(file->chunks);
    int r = fill_or_replace(file, copy);

    if (is_held)
        berth__chunks_let_go(file->chunks);
    return r;
}

void berth__file_copy_drop(struct berth_file_copy *copy)
{
    if (copy->fd >= 0)
        close(copy->fd);
    if (copy->mapping)
        munmap(copy->mapping, copy->mapping_size);
    copy->fd = -1;
    copy->mapping = NULL;
}

/*
 * What lies behind the mapping was taken by a thread that the child does not have; but it must not
 * be the parent's any more.
 */
static int take_mapping(struct berth_tier_file *file, struct berth_file_copy *copy, size_t used)
{
    char *base = (char *)file->base;
    size_t size = copy->mapping_size;

    if (copy->mapping &&
        mremap(copy->mapping, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, base) == MAP_FAILED)
        return -errno;
    copy->mapping = NULL;
    if (used > size &&
        mmap(base + size, used - size, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return -errno;
    return 0;
}

/* The parent's descriptor is closed now, so that there is one for a tier that begins anew; or it
 * is no business of the child's. */
static int take_without_file(struct berth_tier_file *file, struct berth_file_copy *copy)
{
    size_t used = used_of(file);
    int fd;

    file->fd = -1;
    if (used > 0)
        return take_mapping(file, copy, used);
    if (copy->shares_descriptors)
        return 0;
    fd = berth__tier_file_open_again(file);
    if (fd >= 0 && berth__tier_file_adopt(file, fd) < 0)
        close(fd);
    return 0;
}

static int take(struct berth_tier_file *file, struct berth_file_copy *copy)
{
    size_t used = used_of(file);
    int r;

    if (!copy->shares_descriptors && berth__tier_file_has_descriptor(file))
        close(file->fd);
    berth__tier_file_release(file);
    if (copy->fd < 0)
        return take_without_file(file, copy);
    r = berth__tier_file_adopt(file, copy->fd);
    if (r < 0 || used == 0)
        return r;
    return berth__tier_file_map(file, (void *)file->base, used);
}

int berth__file_copy_take(struct berth_tier_file *file, struct berth_file_copy *copy)
{
    int r = take(file, copy);

    if (r == 0)
        berth__tier_file_serve(file);
    return r;
}
