/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/program.h"

#include "tools/berth/tool.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* No loader's table of segments is longer. */
#define SEGMENTS_MAX 64

/* The file that execvp() would take; -1 if there is none. */
static int open_command(const char *command)
{
    const char *path = getenv("PATH");
    int fd = -1;

    if (strchr(command, '/'))
        return open(command, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    while (fd < 0 && path && *path) {
        size_t n = strcspn(path, ":");
        char *candidate = berth__tool_format("%.*s/%s", n ? (int)n : 1, n ? path : ".", command);

        if (access(candidate, X_OK) == 0)
            fd = open(candidate, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        free(candidate);
        path += n;
        path += *path == ':';
    }
    return fd;
}

static bool read_header(int fd, ElfW(Ehdr) * ret)
{
    return fd >= 0 && pread(fd, ret, sizeof(*ret), 0) == (ssize_t)sizeof(*ret) &&
           memcmp(ret->e_ident, ELFMAG, SELFMAG) == 0;
}

static bool is_of_this_machine(const ElfW(Ehdr) * header)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    ElfW(Ehdr) own;
    bool same = !read_header(fd, &own) || (own.e_machine == header->e_machine &&
                                           own.e_ident[EI_CLASS] == header->e_ident[EI_CLASS]);

    if (fd >= 0)
        close(fd);
    return same;
}

/* Whether the program names musl's loader. */
static bool is_of_musl(int fd, const ElfW(Ehdr) * header)
{
    for (unsigned i = 0; i < header->e_phnum && i < SEGMENTS_MAX; i++) {
        char name[PATH_MAX] = "";
        ElfW(Phdr) segment;

        if (pread(fd, &segment, sizeof(segment), (off_t)(header->e_phoff + i * sizeof(segment))) !=
            (ssize_t)sizeof(segment))
            return false;
        if (segment.p_type == PT_INTERP && segment.p_filesz < sizeof(name))
            return pread(fd, name, segment.p_filesz, (off_t)segment.p_offset) > 0 &&
                   strstr(name, "/ld-musl-") != NULL;
    }
    return false;
}

bool berth__program_bears_libraries(const char *command, const char **ret_why)
{
    int fd = open_command(command);
    const char *why = NULL;
    ElfW(Ehdr) header;

    if (read_header(fd, &header)) {
        if (!is_of_this_machine(&header))
            why = "it is a program of another machine or word size";
        else if (is_of_musl(fd, &header))
            why = "its C library is musl";
    }
    if (fd >= 0)
        close(fd);
    if (why)
        *ret_why = why;
    return !why;
}
