/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/address.h"

#include "alloc/file_call.h"
#include "ipc/user_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads /proc/PID/stat; its second field may hold any character, so fields count from its ")". */
static int read_stat(pid_t pid, char *text, size_t text_size, char **ret_rest)
{
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), pid ? "/proc/%d/stat" : "/proc/self/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -ESRCH : -errno;
    n = read(fd, text, text_size - 1);
    close(fd);
    if (n <= 0)
        return -ESRCH;
    text[n] = '\0';
    *ret_rest = strrchr(text, ')');
    return *ret_rest && (*ret_rest)[1] == ' ' ? 0 : -EIO;
}

int berth__address_start(pid_t pid, uint64_t *ret_start, char *ret_state)
{
    char text[1024];
    char *field = NULL;
    int r = read_stat(pid, text, sizeof(text), &field);

    if (r < 0)
        return r;
    field += 2; /* the third field, the state */
    if (ret_state)
        *ret_state = *field;
    for (int number = 3; number < 22; number++) {
        field = strchr(field, ' ');
        if (!field)
            return -EIO;
        field++;
    }
    *ret_start = strtoull(field, NULL, 10);
    return 0;
}

int berth__address_check(const char *path, uid_t uid, char why[BERTH_ADDRESS_WHY_MAX])
{
    struct stat st;

    if (berth__lstat(path, &st) < 0) {
        int r = -errno;

        snprintf(why, BERTH_ADDRESS_WHY_MAX, "%s: %s", path, strerror(-r));
        return r;
    }
    if (!S_ISDIR(st.st_mode)) {
        snprintf(why, BERTH_ADDRESS_WHY_MAX, "%s is not a directory", path);
        return -EPERM;
    }
    if (st.st_uid != uid) {
        snprintf(why, BERTH_ADDRESS_WHY_MAX, "%s belongs to uid %u; expected uid %u", path,
                 (unsigned)st.st_uid, (unsigned)uid);
        return -EPERM;
    }
    if (st.st_mode & 077) {
        snprintf(why, BERTH_ADDRESS_WHY_MAX, "%s is open to others (mode %04o); expected 0700",
                 path, (unsigned)(st.st_mode & 07777));
        return -EPERM;
    }
    return 0;
}

/* $XDG_RUNTIME_DIR/berth, if that variable names a directory of `uid`'s: the standard's rule. */
static bool runtime_directory(uid_t uid, const char *runtime, char ret[PATH_MAX])
{
    struct stat st;
    int n;

    if (!runtime || runtime[0] != '/')
        return false;
    if (berth__stat(runtime, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != uid)
        return false;
    n = snprintf(ret, PATH_MAX, "%s/berth", runtime);
    return n > 0 && n < PATH_MAX;
}

static int use_directory(const char *path, uid_t uid, bool make, char why[BERTH_ADDRESS_WHY_MAX])
{
    if (make && berth__mkdir(path, 0700) < 0 && errno != EEXIST) {
        int r = -errno;

        snprintf(why, BERTH_ADDRESS_WHY_MAX, "%s: %s", path, strerror(-r));
        return r;
    }
    return berth__address_check(path, uid, why);
}

static void name_fallback(uid_t outer, unsigned index, char ret[PATH_MAX])
{
    if (index == 0)
        snprintf(ret, PATH_MAX, "/tmp/berth-%u", (unsigned)outer);
    else
        snprintf(ret, PATH_MAX, "/tmp/berth-%u-%u", (unsigned)outer, index);
}

void berth__address_fallback(uid_t uid, unsigned index, char ret[PATH_MAX])
{
    name_fallback(berth__user_map_outer(uid), index, ret);
}

/* Where none can be used, what is said is of the first one. */
int berth__address_directory(uid_t uid, const char *runtime, bool make, char ret[PATH_MAX],
                             char why[BERTH_ADDRESS_WHY_MAX])
{
    uid_t outer = berth__user_map_outer(uid);
    char path[PATH_MAX], other_why[BERTH_ADDRESS_WHY_MAX];
    unsigned next = 0;
    int first, r;

    if (!runtime_directory(uid, runtime, ret))
        name_fallback(outer, next++, ret);
    r = first = use_directory(ret, uid, make, why);
    while (next < BERTH_ADDRESS_FALLBACKS && r == -EPERM) {
        name_fallback(outer, next++, path);
        r = use_directory(path, uid, make, other_why);
        if (r == 0)
            strcpy(ret, path);
    }
    return r == 0 ? 0 : first;
}

const char *berth__address_name(pid_t pid, uint64_t start, char name[BERTH_ADDRESS_NAME_MAX])
{
    snprintf(name, BERTH_ADDRESS_NAME_MAX, "%d-%" PRIu64 ".sock", (int)pid, start);
    return name;
}

int berth__address_parse(const char *name, pid_t *ret_pid, uint64_t *ret_start)
{
    char again[BERTH_ADDRESS_NAME_MAX];
    uint64_t start = 0;
    int pid = 0;

    if (sscanf(name, "%9d-%20" SCNu64, &pid, &start) != 2 || pid <= 0)
        return -EINVAL;
    if (strcmp(berth__address_name(pid, start, again), name) != 0)
        return -EINVAL;
    *ret_pid = pid;
    *ret_start = start;
    return 0;
}

int berth__address_make(const char *directory, const char *name, struct sockaddr_un *ret,
                        int *ret_directory_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int n = snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", directory, name);
    int fd = -1;

    if (n >= (int)sizeof(address.sun_path)) {
        fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
            return -errno;
        /* The thread's own descriptors: the control thread does not share the process's. */
        n = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/thread-self/fd/%d/%s", fd,
                     name);
    }
    if (n < 0 || n >= (int)sizeof(address.sun_path)) {
        if (fd >= 0)
            close(fd);
        return -ENAMETOOLONG;
    }
    *ret = address;
    *ret_directory_fd = fd;
    return 0;
}

bool berth__address_answers(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool answers = fd < 0 ||
                   berth__connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
                   (errno != ECONNREFUSED && errno != ENOENT);

    if (fd >= 0)
        close(fd);
    return answers;
}
