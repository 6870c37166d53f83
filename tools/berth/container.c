/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/container.h"

#include "alloc/file_call.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The number that the process has where it lives: the last one of proc(5)'s NSpid; 0: not told. */
static pid_t inner_pid(pid_t pid)
{
    char *path = berth__tool_format("/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    long inner = 0;

    free(path);
    while (file && getline(&line, &room, file) > 0) {
        const char *last = strrchr(line, '\t');

        if (strncmp(line, "NSpid:", 6) != 0)
            continue;
        inner = last ? strtol(last + 1, NULL, 10) : 0;
        break;
    }
    free(line);
    if (file)
        fclose(file);
    return (pid_t)inner;
}

/* What the process was started with as $XDG_RUNTIME_DIR; the caller frees it. NULL: nothing. */
static char *runtime_directory(pid_t pid)
{
    static const char name[] = "XDG_RUNTIME_DIR=";
    char *path = berth__tool_format("/proc/%d/environ", (int)pid);
    FILE *file = fopen(path, "re");
    char *text = NULL, *found = NULL;
    size_t room = 0;

    free(path);
    while (file && !found && getdelim(&text, &room, '\0', file) > 0)
        if (strncmp(text, name, sizeof(name) - 1) == 0)
            found = berth__tool_strdup(text + sizeof(name) - 1);
    free(text);
    if (file)
        fclose(file);
    return found;
}

/* Whether the directory, which is taken over, is to be trusted and has the socket. */
static int take_directory(char *directory, uid_t owner, struct berth_process *ret)
{
    char why[BERTH_ADDRESS_WHY_MAX];
    char *path = berth__tool_format("%s/%s", directory, ret->name);
    struct stat st;
    int found = berth__address_check(directory, owner, why) == 0 && berth__lstat(path, &st) == 0 &&
                S_ISSOCK(st.st_mode);

    free(path);
    if (found)
        ret->directory = directory;
    else
        free(directory);
    return found;
}

/* In the directories for processes without a runtime directory; the user's number may be another
 * there. */
static int take_fallback(pid_t pid, uid_t owner, struct berth_process *ret)
{
    char *pattern = berth__tool_format("/proc/%d/root/tmp/berth-[0-9]*", (int)pid);
    glob_t list;
    int found = 0;

    if (glob(pattern, GLOB_NOSORT, NULL, &list) == 0) {
        for (size_t i = 0; i < list.gl_pathc && !found; i++)
            found = take_directory(berth__tool_strdup(list.gl_pathv[i]), owner, ret);
        globfree(&list);
    }
    free(pattern);
    return found;
}

int berth__container_find(pid_t pid, struct berth_process *ret)
{
    char *self = berth__tool_format("/proc/%d", (int)pid);
    char *runtime = runtime_directory(pid);
    pid_t inner = inner_pid(pid);
    struct stat st;
    char state;
    int found = 0;

    memset(ret, 0, sizeof(*ret));
    ret->pid = pid;
    if (inner > 0 && berth__stat(self, &st) == 0 &&
        berth__address_start(pid, &ret->start, &state) == 0) {
        berth__address_name(inner, ret->start, ret->name);
        if (runtime && *runtime == '/')
            found = take_directory(berth__tool_format("%s/root%s/berth", self, runtime), st.st_uid,
                                   ret);
        if (!found)
            found = take_fallback(pid, st.st_uid, ret);
    }
    free(runtime);
    free(self);
    return found ? 0 : -ENOENT;
}
