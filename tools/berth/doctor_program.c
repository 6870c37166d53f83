/* SPDX-License-Identifier: Apache-2.0 */
/* berth doctor -- PROGRAM: whether preloading can reach it, by its file alone. */
#include "tools/berth/doctor.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#else
#define OWN_MACHINE EM_NONE
#endif

/* How often a script's interpreter may be a script. The kernel's own limit. */
#define SCRIPT_DEPTH_MAX 4

struct file {
    const char *bytes;
    size_t size;
};

/* Read-only; empty where it cannot be read. */
static struct file file_map(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct file file = {0};
    struct stat st;

    if (fd < 0)
        return file;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
        void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);

        if (bytes != MAP_FAILED)
            file = (struct file){bytes, (size_t)st.st_size};
    }
    close(fd);
    return file;
}

static void file_unmap(struct file file)
{
    if (file.bytes)
        munmap((void *)file.bytes, file.size);
}

/* The loader that the program names, inside the file; NULL: it is static. */
static const char *loader_of(struct file file)
{
    Elf64_Ehdr head;
    Elf64_Phdr part;

    memcpy(&head, file.bytes, sizeof(head));
    for (unsigned i = 0; i < head.e_phnum; i++) {
        uint64_t at = head.e_phoff + (uint64_t)i * sizeof(part);

        if (at > file.size || file.size - at < sizeof(part))
            break;
        memcpy(&part, file.bytes + at, sizeof(part));
        if (part.p_type == PT_INTERP && part.p_offset < file.size &&
            part.p_filesz <= file.size - part.p_offset && part.p_filesz > 0 &&
            file.bytes[part.p_offset + part.p_filesz - 1] == '\0')
            return file.bytes + part.p_offset;
    }
    return NULL;
}

static enum berth_finding check_elf(struct berth_grid *grid, struct file file)
{
    Elf64_Ehdr head;
    const char *loader;

    if (file.size < sizeof(head) || memcmp(file.bytes, ELFMAG, SELFMAG) != 0)
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, "format",
                                 "no program that this kernel runs by itself");
    memcpy(&head, file.bytes, sizeof(head));
    if (head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_machine != OWN_MACHINE)
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, "format",
                                 "for another machine than Berth's libraries: nothing is seen");
    loader = loader_of(file);
    if (!loader)
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, "linked",
                                 "statically: there is no loader that could preload anything, so "
                                 "nothing is seen");
    if (strstr(loader, "ld-musl"))
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, "loader",
                                 "%s: Berth's libraries need the GNU C library", loader);
    return berth__doctor_row(grid, BERTH_FINDING_OK, "linked", "dynamically, loaded by %s", loader);
}

enum berth_finding berth__doctor_elf(struct berth_grid *grid, const char *path)
{
    struct file file = file_map(path);
    enum berth_finding finding;

    if (!file.bytes)
        return berth__doctor_row(grid, BERTH_FINDING_ABSENT, "format", "the file cannot be read");
    finding = check_elf(grid, file);
    file_unmap(file);
    return finding;
}

/* The loader ignores LD_PRELOAD for a program that gets rights by being started. */
static enum berth_finding check_rights(struct berth_grid *grid, const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)) &&
        ((st.st_mode & S_ISUID && st.st_uid != geteuid()) ||
         (st.st_mode & S_ISGID && st.st_gid != getegid())))
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, "rights",
                                 "set-user-ID or set-group-ID: the loader ignores LD_PRELOAD");
    if (geteuid() != 0 && getxattr(path, "security.capability", NULL, 0) > 0)
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, "rights",
                                 "the file has capabilities: the loader ignores LD_PRELOAD");
    return berth__doctor_row(grid, BERTH_FINDING_OK, "rights", "those of whoever starts it");
}

/* Finds the program as execvp() does; 0 or -ENOENT. */
static int find_program(const char *program, char ret[PATH_MAX])
{
    const char *path = getenv("PATH");
    char *list, *next, *folder;
    int r = -ENOENT;

    if (strchr(program, '/')) {
        if (snprintf(ret, PATH_MAX, "%s", program) >= PATH_MAX)
            return -ENAMETOOLONG;
        return access(ret, X_OK) == 0 ? 0 : -errno;
    }
    list = next = strdup(path ? path : "/bin:/usr/bin");
    while (r < 0 && next && (folder = strsep(&next, ":")))
        if (snprintf(ret, PATH_MAX, "%s/%s", *folder ? folder : ".", program) < PATH_MAX &&
            access(ret, X_OK) == 0)
            r = 0;
    free(list);
    return r;
}

/* The interpreter that a script's first line names. */
static bool interpreter_of(const char *path, char ret[PATH_MAX])
{
    struct file file = file_map(path);
    bool is_script = file.size > 2 && memcmp(file.bytes, "#!", 2) == 0;
    size_t at = 2, length = 0;

    while (is_script && at < file.size && (file.bytes[at] == ' ' || file.bytes[at] == '\t'))
        at++;
    while (is_script && at + length < file.size && length + 1 < PATH_MAX &&
           !strchr(" \t\r\n", file.bytes[at + length]))
        length++;
    if (is_script) {
        memcpy(ret, file.bytes + at, length);
        ret[length] = '\0';
    }
    file_unmap(file);
    return is_script;
}

enum berth_finding berth__doctor_program(struct berth_grid *grid, const char *program)
{
    char path[PATH_MAX], interpreter[PATH_MAX];
    enum berth_finding elf, rights;
    int r = find_program(program, path);

    if (r < 0)
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, "program", "%s: %s", program,
                                 r == -ENOENT ? "not found" : strerror(-r));
    berth__doctor_row(grid, BERTH_FINDING_OK, "program", "%s", path);
    for (int i = 0; i < SCRIPT_DEPTH_MAX && interpreter_of(path, interpreter); i++) {
        berth__doctor_row(grid, BERTH_FINDING_OK, "script", "run by %s", interpreter);
        memcpy(path, interpreter, sizeof(path));
    }
    elf = berth__doctor_elf(grid, path);
    rights = check_rights(grid, path);
    return elf > rights ? elf : rights;
}
