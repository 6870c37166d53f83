/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/leftovers.h"

#include "alloc/file_call.h"
#include "alloc/folder.h"
#include "ipc/address.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Longer than any process takes from one system call to the next but one. */
#define UNSEEN_SECONDS 600

/* A process of another PID namespace may share the directory: what answers is not removed. */
static void remove_silent(const char *directory, const char *name)
{
    char path[PATH_MAX + BERTH_ADDRESS_NAME_MAX];
    struct sockaddr_un address;
    int directory_fd;

    if (berth__address_make(directory, name, &address, &directory_fd) < 0)
        return;
    if (!berth__address_answers(&address)) {
        snprintf(path, sizeof(path), "%s/%s", directory, name);
        berth__unlink(path);
    }
    if (directory_fd >= 0)
        close(directory_fd);
}

bool berth__leftovers_still_runs(const char *directory, const char *name, pid_t pid, uint64_t start)
{
    uint64_t found = 0;
    char state = '?';
    int r = berth__address_start(pid, &found, &state);

    if (r == 0 && found == start && state != 'X')
        return true;
    /* Only a process that certainly is gone: /proc may hide others (hidepid). */
    if (r == 0 || (kill(pid, 0) < 0 && errno == ESRCH))
        remove_silent(directory, name);
    return false;
}

struct sweep {
    const char *directory;
    unsigned most;
};

/*
 * Whether `name` is of a socket that does not listen yet, and will not any more: that is a matter
 * of moments. `bare` gets what the socket was to be called.
 */
static bool is_unseen(const char *directory, const char *name, char bare[BERTH_ADDRESS_NAME_MAX])
{
    char path[PATH_MAX + BERTH_ADDRESS_NAME_MAX];
    size_t length = strlen(name), suffix = strlen(BERTH_ADDRESS_UNSEEN);
    struct stat st;

    if (length <= suffix || length - suffix >= BERTH_ADDRESS_NAME_MAX ||
        strcmp(name + length - suffix, BERTH_ADDRESS_UNSEEN) != 0)
        return false;
    memcpy(bare, name, length - suffix);
    bare[length - suffix] = '\0';
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    return berth__lstat(path, &st) == 0 && time(NULL) - st.st_mtime > UNSEEN_SECONDS;
}

static bool sweep_one(void *context, const char *name)
{
    struct sweep *sweep = context;
    char bare[BERTH_ADDRESS_NAME_MAX];
    uint64_t start = 0;
    pid_t pid = 0;

    if (sweep->most == 0)
        return false;
    if (berth__address_parse(is_unseen(sweep->directory, name, bare) ? bare : name, &pid, &start) ==
        0) {
        berth__leftovers_still_runs(sweep->directory, name, pid, start);
        sweep->most--;
    }
    return true;
}

void berth__leftovers_sweep(const char *directory, unsigned most)
{
    struct sweep sweep = {directory, most};
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return;
    berth__folder_read(fd, sweep_one, &sweep);
    close(fd);
}
