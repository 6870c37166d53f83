/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/table_sweep.h"

#include "alloc/file_call.h"
#include "tools/berth/tool.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define UNUSED_S (7 * 24 * 3600)

#define PREFIX "policy-"
#define SUFFIX ".table"
#define VARIABLE "BERTH_POLICY="

/* Whether the environment at `path` has the table. What cannot be read is of programs that keep
 * others out, as those do that ignore the variable. */
static bool names_table(const char *path, const char *table)
{
    FILE *file = fopen(path, "re");
    char *entry = NULL;
    bool found = false;
    size_t room = 0;

    if (!file)
        return false;
    while (!found && getdelim(&entry, &room, '\0', file) > 0)
        found = strncmp(entry, VARIABLE, strlen(VARIABLE)) == 0 &&
                strcmp(entry + strlen(VARIABLE), table) == 0;
    free(entry);
    fclose(file);
    return found;
}

/* Processes of other users have no business with our tables. */
static bool is_used(const char *table)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    bool used = !processes;

    while (!used && (entry = readdir(processes))) {
        char path[64];
        struct stat st;

        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof(path), "/proc/%.20s/environ", entry->d_name);
        used = berth__stat(path, &st) == 0 && st.st_uid == berth__geteuid() &&
               names_table(path, table);
    }
    if (processes)
        closedir(processes);
    return used;
}

static bool is_table(const char *name)
{
    size_t length = strlen(name);

    return length > strlen(PREFIX SUFFIX) && strncmp(name, PREFIX, strlen(PREFIX)) == 0 &&
           strcmp(name + length - strlen(SUFFIX), SUFFIX) == 0;
}

void berth__table_sweep(const char *directory)
{
    time_t oldest = time(NULL) - UNUSED_S;
    DIR *tables = opendir(directory);
    struct dirent *entry;

    while (tables && (entry = readdir(tables))) {
        struct stat st;
        char *path;

        if (!is_table(entry->d_name))
            continue;
        path = berth__tool_format("%s/%s", directory, entry->d_name);
        if (berth__lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_mtime < oldest &&
            !is_used(path))
            berth__unlink(path);
        free(path);
    }
    if (tables)
        closedir(tables);
}
