/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/process.h"

#include "alloc/file_call.h"
#include "ipc/leftovers.h"
#include "tools/berth/container.h"
#include "tools/berth/tool.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct process_list {
    struct berth_process *item;
    size_t count, size;
};

static void list_directory(struct process_list *list, const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;

    while (stream && (entry = readdir(stream))) {
        struct berth_process *process;
        uint64_t start = 0;
        pid_t pid = 0;

        if (berth__address_parse(entry->d_name, &pid, &start) < 0 ||
            !berth__leftovers_still_runs(directory, entry->d_name, pid, start))
            continue;
        if (list->count == list->size) {
            list->size = list->size ? list->size * 2 : 16;
            list->item = berth__tool_realloc(list->item, list->size * sizeof(*list->item));
        }
        process = &list->item[list->count++];
        process->pid = pid;
        process->start = start;
        process->directory = berth__tool_strdup(directory);
        berth__address_name(pid, start, process->name);
    }
    if (stream)
        closedir(stream);
}

/* Each is looked at only if it is its user's own. */
static void list_pattern(struct process_list *list, const char *pattern, const char *own)
{
    char why[BERTH_ADDRESS_WHY_MAX];
    glob_t found;
    struct stat st;

    if (glob(pattern, GLOB_NOSORT, NULL, &found) != 0)
        return;
    for (size_t i = 0; i < found.gl_pathc; i++) {
        const char *path = found.gl_pathv[i];

        if (strcmp(path, own) != 0 && berth__lstat(path, &st) == 0 &&
            berth__address_check(path, st.st_uid, why) == 0)
            list_directory(list, path);
    }
    globfree(&found);
}

/* The other places: without $XDG_RUNTIME_DIR, and for root those of all users. */
static void list_elsewhere(struct process_list *list, const char *own)
{
    char path[PATH_MAX], why[BERTH_ADDRESS_WHY_MAX];
    uid_t uid = berth__geteuid();

    if (uid == 0) {
        list_pattern(list, "/run/user/*/berth", own);
        list_pattern(list, "/tmp/berth-[0-9]*", own);
        return;
    }
    for (unsigned i = 0; i < BERTH_ADDRESS_FALLBACKS; i++) {
        berth__address_fallback(uid, i, path);
        if (strcmp(path, own) != 0 && berth__address_check(path, uid, why) == 0)
            list_directory(list, path);
    }
}

static int by_pid(const void *a, const void *b)
{
    const struct berth_process *one = a, *other = b;

    if (one->pid != other->pid)
        return one->pid < other->pid ? -1 : 1;
    return one->start < other->start ? -1 : one->start > other->start;
}

size_t berth__process_list(int everywhere, struct berth_process **ret_list)
{
    struct process_list list = {0};
    char directory[PATH_MAX], why[BERTH_ADDRESS_WHY_MAX];

    if (berth__address_directory(berth__geteuid(), getenv("XDG_RUNTIME_DIR"), false, directory,
                                 why) == 0)
        list_directory(&list, directory);
    if (everywhere)
        list_elsewhere(&list, directory);
    if (list.count > 1)
        qsort(list.item, list.count, sizeof(*list.item), by_pid);
    *ret_list = list.item;
    return list.count;
}

void berth__process_done(struct berth_process *process)
{
    free(process->directory);
    memset(process, 0, sizeof(*process));
}

void berth__process_free(struct berth_process *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        berth__process_done(&list[i]);
    free(list);
}

/* `pid` was not found. */
static void explain_missing(pid_t pid)
{
    int error = kill(pid, 0) < 0 ? errno : 0;

    if (error == ESRCH)
        berth__tool_fail("there is no process %d", (int)pid);
    else if (error == EPERM)
        berth__tool_fail("process %d is another user's; expected one of yours, or that you are "
                         "root",
                         (int)pid);
    else
        berth__tool_fail("process %d has no control socket; expected one that was started with "
                         "`berth run` and has placed memory or used CUDA, or with "
                         "-o control=always",
                         (int)pid);
}

/* The index that `pid` (0: any) has in the list, or -1; where no pid was named, after one line. */
static int choose(const struct berth_process *list, size_t count, pid_t pid)
{
    if (pid == 0 && count == 1)
        return 0;
    if (pid == 0) {
        if (count == 0)
            berth__tool_fail("no process under Berth was found; expected one that was started "
                             "with `berth run` and has placed memory or used CUDA, or with "
                             "-o control=always");
        else
            berth__tool_fail("%zu processes run under Berth; expected a PID (see `berth ps`)",
                             count);
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        if (list[i].pid == pid)
            return (int)i;
    return -1;
}

int berth__process_find(const char *text, struct berth_process *ret)
{
    struct berth_process *list = NULL;
    size_t count;
    char *end = NULL;
    long pid = 0;
    int index;

    if (text) {
        errno = 0;
        pid = strtol(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0' || pid <= 0 || pid > INT_MAX)
            return berth__tool_fail("'%s' is not a PID; expected a positive number", text);
    }
    count = berth__process_list(text != NULL, &list);
    index = choose(list, count, (pid_t)pid);
    if (index >= 0) {
        *ret = list[index];
        list[index].directory = NULL;
    }
    berth__process_free(list, count);
    if (index >= 0 || (pid > 0 && berth__container_find((pid_t)pid, ret) == 0))
        return 0;
    if (pid > 0)
        explain_missing((pid_t)pid);
    return BERTH_EXIT_FAILURE;
}

double berth__process_uptime(const struct berth_process *process)
{
    double up = 0, started = (double)process->start / (double)sysconf(_SC_CLK_TCK);
    FILE *file = fopen("/proc/uptime", "re");

    if (!file)
        return 0;
    if (fscanf(file, "%lf", &up) != 1)
        up = started;
    fclose(file);
    return up > started ? up - started : 0;
}
