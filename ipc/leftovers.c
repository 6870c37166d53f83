/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/leftovers.h"

#include "ipc/address.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

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
        unlink(path);
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

void berth__leftovers_sweep(const char *directory, unsigned most)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;

    while (stream && most > 0 && (entry = readdir(stream))) {
        uint64_t start = 0;
        pid_t pid = 0;

        if (berth__address_parse(entry->d_name, &pid, &start) < 0)
            continue;
        berth__leftovers_still_runs(directory, entry->d_name, pid, start);
        most--;
    }
    if (stream)
        closedir(stream);
}
