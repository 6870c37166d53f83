/* SPDX-License-Identifier: Apache-2.0 */
#include "folder.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void insist(int fact, const char *what)
{
    if (!fact) {
        perror(what);
        abort();
    }
}

char *folder_new(void)
{
    const char *root = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
    char *dir = NULL;

    insist(asprintf(&dir, "%s/berth-infer-XXXXXX", root) > 0, "asprintf");
    insist(mkdtemp(dir) != NULL, dir);
    return dir;
}

void folder_free(char *dir)
{
    char path[PATH_MAX];
    struct dirent *entry;
    DIR *list = opendir(dir);

    insist(list != NULL, dir);
    while ((entry = readdir(list))) {
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        if (entry->d_name[0] != '.')
            insist(unlink(path) == 0, path);
    }
    closedir(list);
    insist(rmdir(dir) == 0, dir);
    free(dir);
}

void folder_write(const char *dir, const char *name, const void *bytes, size_t size)
{
    char path[PATH_MAX];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "w");
    insist(file != NULL, path);
    insist(fwrite(bytes, 1, size, file) == size, path);
    insist(fclose(file) == 0, path);
}

void folder_write_text(const char *dir, const char *name, const char *text)
{
    folder_write(dir, name, text, strlen(text));
}

void folder_write_safetensors(const char *dir, const char *name, const char *header,
                              size_t data_size)
{
    size_t length = strlen(header), size = 8 + length + data_size;
    unsigned char *bytes = calloc(1, size);

    insist(bytes != NULL, "calloc");
    for (unsigned int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(length >> (8 * i));
    memcpy(bytes + 8, header, length);
    folder_write(dir, name, bytes, size);
    free(bytes);
}
