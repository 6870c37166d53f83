/* SPDX-License-Identifier: Apache-2.0 */
/* berth doctor PID: how far Berth sees what a process does with the CUDA driver. */
#include "tools/berth/doctor.h"

#include "tools/berth/library.h"
#include "tools/berth/process.h"
#include "tools/berth/tool.h"

#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DRIVER "libcuda.so"

static void raise_to(enum berth_finding *worst, enum berth_finding finding)
{
    if (finding > *worst)
        *worst = finding;
}

static FILE *open_proc(const char *pid, const char *name)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%.20s/%s", pid, name);
    return fopen(path, "re");
}

static bool is_named(const char *path, const char *prefix)
{
    const char *slash = strrchr(path, '/');

    return strncmp(slash ? slash + 1 : path, prefix, strlen(prefix)) == 0;
}

/* What the process has mapped: how often each file begins, which is once per loaded copy. */
struct mapped {
    unsigned libraries, drivers;
    char library[PATH_MAX], driver[PATH_MAX], other_driver[PATH_MAX];
};

static void note_mapping(const char *path, struct mapped *mapped)
{
    if (is_named(path, BERTH_LIBRARY_CUDA)) {
        mapped->libraries++;
        snprintf(mapped->library, sizeof(mapped->library), "%s", path);
    } else if (is_named(path, DRIVER)) {
        char *place = mapped->drivers++ == 0 ? mapped->driver : mapped->other_driver;

        snprintf(place, PATH_MAX, "%s", path);
    }
}

static int read_maps(const char *pid, struct mapped *ret)
{
    FILE *maps = open_proc(pid, "maps");
    char *line = NULL;
    size_t size = 0;

    *ret = (struct mapped){0};
    if (!maps)
        return -errno;
    while (getline(&line, &size, maps) > 0) {
        unsigned long long offset = 0;
        int path = 0;

        line[strcspn(line, "\n")] = '\0';
        if (sscanf(line, "%*s %*s %llx %*s %*s %n", &offset, &path) == 1 && offset == 0 &&
            path > 0 && line[path] == '/')
            note_mapping(line + path, ret);
    }
    free(line);
    fclose(maps);
    return 0;
}

/* Whether the kernel told the loader to trust nobody: AT_SECURE. */
static bool is_secure(const char *pid)
{
    FILE *vector = open_proc(pid, "auxv");
    Elf64_auxv_t entry;
    bool secure = false;

    while (vector && fread(&entry, sizeof(entry), 1, vector) == 1)
        if (entry.a_type == AT_SECURE)
            secure = entry.a_un.a_val != 0;
    if (vector)
        fclose(vector);
    return secure;
}

static enum berth_finding check_library(struct berth_grid *grid, const char *pid,
                                        const struct mapped *mapped)
{
    if (mapped->libraries > 0)
        return berth__doctor_row(grid, BERTH_FINDING_OK, BERTH_LIBRARY_CUDA, "%s", mapped->library);
    if (is_secure(pid))
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, BERTH_LIBRARY_CUDA,
                                 "not loaded: the process got rights by being started, so the "
                                 "loader ignored LD_PRELOAD");
    return berth__doctor_row(grid, BERTH_FINDING_BROKEN, BERTH_LIBRARY_CUDA,
                             "not loaded: the program was not started by berth run");
}

static enum berth_finding check_driver(struct berth_grid *grid, const struct mapped *mapped)
{
    if (mapped->drivers == 0)
        return berth__doctor_row(grid, BERTH_FINDING_ABSENT, DRIVER,
                                 "not loaded: the process has not used CUDA yet");
    if (mapped->drivers == 1)
        return berth__doctor_row(grid, BERTH_FINDING_OK, DRIVER, "%s", mapped->driver);
    return berth__doctor_row(grid, BERTH_FINDING_BROKEN, DRIVER,
                             "%u copies are loaded, %s and %s: memory of one of them is not seen",
                             mapped->drivers, mapped->driver, mapped->other_driver);
}

static enum berth_finding check_calls(struct berth_grid *grid, const json_t *answer)
{
    char text[256] = "";
    uint64_t sum = 0;
    size_t i, used = 0;
    json_t *path;

    json_array_foreach(json_object_get(answer, "paths"), i, path)
    {
        uint64_t calls = (uint64_t)json_integer_value(json_object_get(path, "calls"));

        sum += calls;
        if (used < sizeof(text))
            used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%llu by %s",
                                     used ? ", " : ": ", (unsigned long long)calls,
                                     json_string_value(json_object_get(path, "path")));
    }
    return berth__doctor_row(grid, sum ? BERTH_FINDING_OK : BERTH_FINDING_ABSENT, "calls seen",
                             "%llu that allocate%s", (unsigned long long)sum, text);
}

/* What each kind of unseen use means. Those that only may go past are no finding by themselves. */
static const struct {
    const char *what, *row, *meaning;
    enum berth_finding finding;
} meanings[] = {
    {"driver-copy", "another driver", "a second copy of the driver was asked for its functions",
     BERTH_FINDING_BROKEN},
    {"entry", "unknown entry", "", BERTH_FINDING_BROKEN},
    {"binding", "unseen library", "", BERTH_FINDING_BROKEN},
    {"front", "other wrapper", "", BERTH_FINDING_ABSENT},
    {"free", "unseen free", "", BERTH_FINDING_BROKEN},
    {"block", "unseen block", "", BERTH_FINDING_ABSENT},
};

static enum berth_finding check_unseen(struct berth_grid *grid, const json_t *unseen)
{
    const char *what = json_string_value(json_object_get(unseen, "what"));
    const char *example = json_string_value(json_object_get(unseen, "example"));
    unsigned long long cases =
        (unsigned long long)json_integer_value(json_object_get(unseen, "cases"));

    for (size_t i = 0; what && i < sizeof(meanings) / sizeof(meanings[0]); i++)
        if (strcmp(meanings[i].what, what) == 0)
            return berth__doctor_row(grid, meanings[i].finding, meanings[i].row, "%s%s%s (%llu)",
                                     meanings[i].meaning, *meanings[i].meaning ? ": " : "",
                                     example ? example : "", cases);
    return BERTH_FINDING_OK;
}

/* Whether blocks that may move can do so while the program writes to them. */
static void check_moves(struct berth_grid *grid, const json_t *move)
{
    const char *why = json_string_value(json_object_get(move, "why"));

    if (!json_is_object(move))
        return;
    if (json_is_true(json_object_get(move, "live")))
        berth__doctor_row(grid, BERTH_FINDING_OK, "moves", "while the program runs; %s",
                          json_is_true(json_object_get(move, "sees_pinned"))
                              ? "pinned blocks are seen"
                              : "pinned blocks are not seen (Linux 6.8)");
    else
        berth__doctor_row(grid, BERTH_FINDING_ABSENT, "moves", "only at berth_step_quiescent(): %s",
                          why ? why : "");
}

/* What the library in the process itself has seen, and missed. */
static enum berth_finding check_answer(struct berth_grid *grid, const char *pid)
{
    enum berth_finding worst = BERTH_FINDING_OK;
    struct berth_process process;
    struct berth_session session;
    json_t *answer = NULL, *unseen;
    size_t i;

    if (berth__process_find(pid, &process) != 0)
        return berth__doctor_row(grid, BERTH_FINDING_ABSENT, "socket",
                                 "none: what the library has seen cannot be asked for");
    if (berth__session_open(&session, &process, 1) == 0) {
        answer = berth__session_request(&session, json_pack("{s:s}", "op", "doctor"), -1, 1);
        if (answer)
            berth__doctor_tiers(grid, &session);
        berth__session_close(&session);
    }
    berth__process_done(&process);
    if (!answer)
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, "socket", "it does not answer");
    raise_to(&worst, check_calls(grid, answer));
    json_array_foreach(json_object_get(answer, "unseen"), i, unseen)
        raise_to(&worst, check_unseen(grid, unseen));
    check_moves(grid, json_object_get(answer, "move"));
    if (json_is_true(json_object_get(answer, "passes")))
        berth__doctor_row(grid, BERTH_FINDING_BROKEN, "served",
                          "half-hooked: new device memory is the driver's own");
    json_decref(answer);
    return worst;
}

enum berth_finding berth__doctor_process(struct berth_grid *grid, const char *pid)
{
    enum berth_finding worst = BERTH_FINDING_OK;
    struct mapped mapped;
    char path[64];

    if (read_maps(pid, &mapped) < 0)
        return berth__doctor_row(grid, BERTH_FINDING_BROKEN, "process", "%s: %s", pid,
                                 strerror(errno));
    snprintf(path, sizeof(path), "/proc/%.20s/exe", pid);
    raise_to(&worst, berth__doctor_elf(grid, path));
    raise_to(&worst, check_library(grid, pid, &mapped));
    raise_to(&worst, check_driver(grid, &mapped));
    if (mapped.libraries > 0)
        raise_to(&worst, check_answer(grid, pid));
    return worst;
}
