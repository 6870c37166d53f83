/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel tells in the small files of /sys.
 *
 * Read by raw system calls: commits come here under malloc(), which is no cancellation point, and
 * from programs that wrap open(). No malloc, no stdio streams; keeps errno.
 */
#ifndef BERTH_PMEM_SYSFS_H
#define BERTH_PMEM_SYSFS_H

#include <stddef.h>
#include <stdint.h>

/* Where /sys is. A test that stands in for a machine puts a directory of its own here. */
extern const char *berth__sysfs_root;

/* Room for any path below it. */
#define BERTH_SYSFS_PATH_MAX 512

/*
 * The content of a file, its path from /sys on, without a newline at the end; what `size` has no
 * room for is cut. 0 or -errno.
 */
int berth__sysfs_text(const char *path, char *text, size_t size);

/*
 * The lines of such a file, however many, one after the other in `line`, which `take` may write to.
 * A line that `size` has no room for is left out. 0 or -errno.
 */
int berth__sysfs_lines(const char *path, char *line, size_t size,
                       void (*take)(char *line, void *context), void *context);

/* A file with one number in it, decimal or with 0x. 0, -errno, or -EINVAL for anything else. */
int berth__sysfs_number(const char *path, int64_t *ret);

/*
 * For paths that may be of any length: a directory of it is opened, then what is in that. The
 * descriptor or -errno; the caller closes it by berth__sysfs_close().
 */
int berth__sysfs_directory(const char *path);
int berth__sysfs_directory_in(int directory, const char *name);
void berth__sysfs_close(int directory);
/* The first two above, of a file in such a directory. */
int berth__sysfs_text_in(int directory, const char *name, char *text, size_t size);
int berth__sysfs_number_in(int directory, const char *name, int64_t *ret);

/* The last part of what a link in /sys points to. 0 or -errno. */
int berth__sysfs_link(const char *path, char *text, size_t size);

#endif
