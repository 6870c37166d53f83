/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/library.h"

#include "tools/berth/tool.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int tool_directory(char ret[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", ret, PATH_MAX - 1);
    char *slash;

    if (n <= 0)
        return -ENOENT;
    ret[n] = '\0';
    slash = strrchr(ret, '/');
    if (!slash)
        return -ENOENT;
    *slash = '\0';
    return 0;
}

/* Whether `directory`/`relative` has the library; its path without links, if so. */
static bool look_in(const char *directory, const char *relative, const char *name,
                    char ret[PATH_MAX])
{
    char candidate[2 * PATH_MAX], resolved[PATH_MAX];

    snprintf(candidate, sizeof(candidate), "%s/%s/%s", directory, relative, name);
    if (!realpath(candidate, resolved))
        return false;
    memcpy(ret, resolved, PATH_MAX);
    return true;
}

int berth__library_find(const char *name, char ret[PATH_MAX])
{
    char directory[PATH_MAX], build[PATH_MAX];

    if (tool_directory(directory) == 0) {
        if (look_in(directory, BERTH_INSTALLED_LIBRARIES, name, ret))
            return 0;
        /* A build tree is known by what meson leaves in it. */
        if (look_in(directory, BERTH_BUILD_ROOT, "meson-private", build) &&
            (look_in(directory, BERTH_BUILD_LIBRARIES, name, ret) ||
             look_in(directory, BERTH_BUILD_VIRTUAL, name, ret) ||
             look_in(directory, BERTH_BUILD_TOOL, name, ret)))
            return 0;
    }
    snprintf(ret, PATH_MAX, "%s/%s", BERTH_PKGLIBDIR, name);
    return access(ret, R_OK) == 0 ? 0 : -ENOENT;
}

/* Whether a `separators`-joined list holds `item`. */
static bool list_has(const char *list, const char *separators, const char *item)
{
    size_t length = strlen(item);

    while (*list) {
        size_t n = strcspn(list, separators);

        if (n == length && memcmp(list, item, n) == 0)
            return true;
        list += n;
        list += strspn(list, separators);
    }
    return false;
}

int berth__library_preload(const char *command, const char *name)
{
    const char *before = getenv("LD_PRELOAD");
    char path[PATH_MAX];
    char *list;

    if (berth__library_find(name, path) < 0) {
        berth__tool_fail("%s: %s does not exist; expected Berth's library there", command, path);
        return -ENOENT;
    }
    /* The dynamic linker splits LD_PRELOAD at these, and expands $; there is no way to quote. */
    if (strpbrk(path, " \t\n:;$")) {
        berth__tool_fail("%s: LD_PRELOAD cannot name '%s'; expected a path without spaces, "
                         "colons, semicolons and $",
                         command, path);
        return -EINVAL;
    }
    if (before && list_has(before, " :", path))
        return 0;
    list = before && *before ? berth__tool_format("%s:%s", before, path) : berth__tool_strdup(path);
    setenv("LD_PRELOAD", list, 1);
    free(list);
    return 0;
}
