/* SPDX-License-Identifier: Apache-2.0 */
/* berth doctor: what of Berth works on this machine, what is missing, and why that matters. */
#include "tools/berth/doctor.h"

#include "alloc/file_call.h"
#include "ipc/address.h"
#include "tools/berth/library.h"
#include "tools/berth/options.h"
#include "tools/berth/tool.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const finding_names[] = {
    [BERTH_FINDING_OK] = "ok",
    [BERTH_FINDING_ABSENT] = "-",
    [BERTH_FINDING_BROKEN] = "BROKEN",
};

enum berth_finding berth__doctor_row(struct berth_grid *grid, enum berth_finding finding,
                                     const char *what, const char *format, ...)
{
    char text[PATH_MAX + 256];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    berth__grid_text(grid, finding_names[finding]);
    berth__grid_text(grid, what);
    berth__grid_text(grid, text);
    return finding;
}

/* Whether a file contains these bytes. */
static int file_contains(const char *path, const char *text)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    void *bytes;
    int found = 0;

    if (fd < 0)
        return 0;
    if (berth__fstat(fd, &st) == 0 && st.st_size > 0) {
        bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (bytes != MAP_FAILED) {
            found = memmem(bytes, (size_t)st.st_size, text, strlen(text)) != NULL;
            munmap(bytes, (size_t)st.st_size);
        }
    }
    close(fd);
    return found;
}

static enum berth_finding check_cuda_side(struct berth_grid *grid)
{
    char path[PATH_MAX];

    if (berth__library_find(BERTH_LIBRARY_CUDA, path) == 0)
        return berth__doctor_row(grid, BERTH_FINDING_OK, BERTH_LIBRARY_CUDA, "%s", path);
    return berth__doctor_row(grid, BERTH_FINDING_BROKEN, BERTH_LIBRARY_CUDA,
                             "not at %s: no program can be run under Berth", path);
}

static enum berth_finding check_malloc_side(struct berth_grid *grid)
{
    char path[PATH_MAX];

    if (berth__library_find(BERTH_LIBRARY_MALLOC, path) < 0)
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, BERTH_LIBRARY_MALLOC,
                                 "not at %s: rules for host memory cannot be kept", path);
    return berth__doctor_row(grid, BERTH_FINDING_OK, BERTH_LIBRARY_MALLOC, "%s%s", path,
                             file_contains(path, "libjemalloc.so") ? " (loads libjemalloc.so.2)"
                             : file_contains(path, "jemalloc")     ? " (jemalloc inside)"
                                                                   : "");
}

/* Loads a library as the programs will, and lets it go again. */
static int check_loadable(struct berth_grid *grid, const char *const *names, const char *meaning)
{
    for (; *names; names++) {
        void *handle = dlopen(*names, RTLD_LAZY | RTLD_LOCAL);

        if (!handle)
            continue;
        berth__doctor_row(grid, BERTH_FINDING_OK, *names, "can be loaded");
        dlclose(handle);
        return 1;
    }
    berth__doctor_row(grid, BERTH_FINDING_ABSENT, names[-1], "not installed: %s", meaning);
    return 0;
}

enum berth_finding berth__doctor_libraries(struct berth_grid *grid)
{
    static const char *const jansson[] = {"libjansson.so.4", NULL};
    static const char *const unwind[] = {"libunwind.so.8", NULL};
    static const char *const pmem[] = {"libpmem.so.1", NULL};
    static const char *const cuda[] = {"libcuda.so.1", NULL};
    enum berth_finding one = check_cuda_side(grid);
    enum berth_finding other = check_malloc_side(grid);

    check_loadable(grid, jansson, "processes cannot answer `berth stat` and `berth policy apply`");
    check_loadable(grid, unwind,
                   "call paths are one frame deep; rules that name more do not match");
    check_loadable(grid, pmem, "persistent memory is flushed by the kernel, not from the program");
    check_loadable(grid, cuda, "there is no CUDA driver; host tiers work without one");
    return one > other ? one : other;
}

static enum berth_finding check_directory(struct berth_grid *grid)
{
    char directory[PATH_MAX], why[BERTH_ADDRESS_WHY_MAX];

    if (berth__address_directory(berth__geteuid(), getenv("XDG_RUNTIME_DIR"), true, directory,
                                 why) == 0)
        return berth__doctor_row(grid, BERTH_FINDING_OK, "runtime directory", "%s", directory);
    return berth__doctor_row(grid, BERTH_FINDING_BROKEN, "runtime directory",
                             "%s: no sockets, no compiled policies", why);
}

/* How far Berth reaches into one process, or would into a program. */
static int look_at(const char *pid, const char *program)
{
    static const char *const heads[] = {"", "WHAT", "HERE"};
    enum berth_finding worst;
    struct berth_grid grid;

    berth__grid_init(&grid, "lll", heads);
    worst = program ? berth__doctor_program(&grid, program) : berth__doctor_process(&grid, pid);
    berth__grid_finish(&grid, stdout);
    return berth__tool_finish(worst == BERTH_FINDING_BROKEN ? BERTH_EXIT_FAILURE : 0);
}

static bool is_pid(const char *text)
{
    char *end;
    long pid;

    errno = 0;
    pid = *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : 0;
    return pid > 0 && pid <= INT_MAX && errno == 0 && *end == '\0';
}

int berth__command_doctor(int argc, char **argv)
{
    static const char *const heads[] = {"", "WHAT", "HERE"};
    enum berth_finding libraries, directory;
    struct berth_grid grid;
    int wrong;

    /* Whatever follows the program is its own. */
    if (argc > 2 && strcmp(argv[1], "--") == 0)
        return look_at(NULL, argv[2]);
    if (argc > 2 || (argc > 1 && !is_pid(argv[1])))
        return berth__tool_misuse("doctor: '%s' is not expected; expected berth doctor [PID], or "
                                  "berth doctor -- PROGRAM",
                                  argv[argc > 2 ? 2 : 1]);
    if (argc > 1)
        return look_at(argv[1], NULL);
    printf("berth %s\n\n", BERTH_VERSION);
    berth__grid_init(&grid, "lll", heads);
    libraries = berth__doctor_libraries(&grid);
    directory = check_directory(&grid);
    berth__doctor_machine(&grid);
    berth__grid_finish(&grid, stdout);
    putchar('\n');
    fflush(stdout);
    wrong = berth__options_read_environment();
    berth__options_print(stdout);
    wrong += libraries == BERTH_FINDING_BROKEN || directory == BERTH_FINDING_BROKEN;
    return berth__tool_finish(wrong ? BERTH_EXIT_FAILURE : 0);
}
