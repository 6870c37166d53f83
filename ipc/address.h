/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a process's socket is: <directory>/<pid>-<starttime>.sock.
 *
 * The start time (field 22 of /proc/PID/stat, in clock ticks since boot) tells a process from a
 * later one with the same id. The directory is $XDG_RUNTIME_DIR/berth where that variable names a
 * directory of ours, else /tmp/berth-<uid>; it is used only if it is a real directory, ours, and
 * closed to others, and if it is not the next one is taken of /tmp/berth-<uid>, /tmp/berth-<uid>-1,
 * and so on. <uid>
 * is what the user is called outside the user namespace, so that those who share /tmp but not the
 * namespace take different ones, and find each other's; where namespaces lie in one another that
 * says less than it seems, and others may put anything into /tmp. Nothing here allocates.
 */
#ifndef BERTH_IPC_ADDRESS_H
#define BERTH_IPC_ADDRESS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

/* Room for "<pid>-<starttime>.sock", and what is behind it while the socket does not listen yet. */
#define BERTH_ADDRESS_NAME_MAX 64
#define BERTH_ADDRESS_UNSEEN ".new"
/* Room for any reason that is given here. */
#define BERTH_ADDRESS_WHY_MAX (PATH_MAX + 128)

/* How many directories in /tmp are tried: more are in the way only if somebody means it. */
#define BERTH_ADDRESS_FALLBACKS 8

/* The start time of a process and its state letter; `pid` 0 is this process. -ESRCH: none such. */
int berth__address_start(pid_t pid, uint64_t *ret_start, char *ret_state);

/*
 * The directory for `uid`. `runtime` is the value of $XDG_RUNTIME_DIR, or NULL (it is not read
 * here: in a thread beside a program that changes its environment nobody may). `make`: it is made
 * if it is not there. 0, or negative errno with one sentence in `why`: -ENOENT when it is not
 * there, -EPERM when it cannot be trusted.
 */
int berth__address_directory(uid_t uid, const char *runtime, bool make, char ret[PATH_MAX],
                             char why[BERTH_ADDRESS_WHY_MAX]);

/* The directory number `index` in /tmp for `uid`, which may not be there, nor be its own. */
void berth__address_fallback(uid_t uid, unsigned index, char ret[PATH_MAX]);

/* Whether `path` is a real directory, `uid`'s, and closed to others. Answers as above. */
int berth__address_check(const char *path, uid_t uid, char why[BERTH_ADDRESS_WHY_MAX]);

/* Writes the socket's name; returns `name`. */
const char *berth__address_name(pid_t pid, uint64_t start, char name[BERTH_ADDRESS_NAME_MAX]);
/* The reverse. -EINVAL for a name that berth__address_name() does not make. */
int berth__address_parse(const char *name, pid_t *ret_pid, uint64_t *ret_start);

/*
 * The address to bind or connect to. A path that does not fit in a sockaddr_un goes through an open
 * descriptor of the directory: *ret_directory_fd, to be closed by the caller after use, else -1.
 */
int berth__address_make(const char *directory, const char *name, struct sockaddr_un *ret,
                        int *ret_directory_fd);

/* Whether somebody listens there; also where that cannot be found out. Does not wait. */
bool berth__address_answers(const struct sockaddr_un *address);

#endif
