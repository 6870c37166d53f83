/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel says about files, and about who runs.
 *
 * The C library's functions for that may be another preloaded library's: fakeroot's ask a daemon,
 * hold a semaphore meanwhile, which a thread that ends by its process's execve() never gives back,
 * and answer what is not so; fakechroot's have other files. These are the system calls, with errno
 * as theirs: any thread, at any time.
 */
#ifndef BERTH_FILE_CALL_H
#define BERTH_FILE_CALL_H

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>

int berth__fstat(int fd, struct stat *ret);
int berth__stat(const char *path, struct stat *ret);
int berth__lstat(const char *path, struct stat *ret);
int berth__chmod(const char *path, mode_t mode);
int berth__fchmod(int fd, mode_t mode);
int berth__mkdir(const char *path, mode_t mode);
int berth__unlink(const char *path);
int berth__rename(const char *from, const char *to);
uid_t berth__geteuid(void);
/* A socket's name is a file, too, in the folder that the calls above have made. */
int berth__bind(int fd, const struct sockaddr *address, socklen_t size);
int berth__connect(int fd, const struct sockaddr *address, socklen_t size);

#endif
