/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/source_line.h"

#include "alloc/build_hash.h"
#include "tools/berth/tool.h"

#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One file, opened when the first of its addresses is asked for. */
struct module {
    struct module *next;
    char *path;
    uint64_t build;
    Dwfl *dwfl;
    Dwfl_Module *dwarf; /* NULL: it is not what the process has, or it cannot be read */
};

struct berth_source_lines {
    pid_t pid;
    struct module *modules;
};

static char *no_path;

/* Debug files are looked for where distributions put them. */
static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_build_id_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .section_address = dwfl_offline_section_address,
    .debuginfo_path = &no_path,
};

struct berth_source_lines *berth__source_lines_open(pid_t pid)
{
    struct berth_source_lines *lines = berth__tool_realloc(NULL, sizeof(*lines));

    /* It would ask servers on the network. */
    unsetenv("DEBUGINFOD_URLS");
    lines->pid = pid;
    lines->modules = NULL;
    return lines;
}

void berth__source_lines_close(struct berth_source_lines *lines)
{
    if (!lines)
        return;
    while (lines->modules) {
        struct module *module = lines->modules;

        lines->modules = module->next;
        if (module->dwfl)
            dwfl_end(module->dwfl);
        free(module->path);
        free(module);
    }
    free(lines);
}

static int has_build(Dwfl_Module *dwarf, uint64_t build)
{
    const unsigned char *bits;
    GElf_Addr address;
    int size = dwfl_module_build_id(dwarf, &bits, &address);

    return size > 0 && berth__build_hash(bits, (size_t)size) == build;
}

/* Opens one file for the module; whether it is the one that the process has. */
static int module_open(struct module *module, const char *file, int is_program)
{
    module->dwfl = dwfl_begin(&callbacks);
    if (!module->dwfl)
        return 0;
    dwfl_report_begin(module->dwfl);
    module->dwarf = dwfl_report_elf(module->dwfl, file, file, -1, 0, false);
    dwfl_report_end(module->dwfl, NULL, NULL);
    if (module->dwarf && (is_program || has_build(module->dwarf, module->build)))
        return 1;
    dwfl_end(module->dwfl);
    module->dwfl = NULL;
    module->dwarf = NULL;
    return 0;
}

static struct module *module_new(struct berth_source_lines *lines, const char *path, uint64_t build)
{
    struct module *module = berth__tool_realloc(NULL, sizeof(*module));
    char *seen;

    memset(module, 0, sizeof(*module));
    module->path = berth__tool_strdup(path);
    module->build = build;
    module->next = lines->modules;
    lines->modules = module;
    if (*path == '\0') {
        seen = berth__tool_format("/proc/%d/exe", (int)lines->pid);
        module_open(module, seen, 1);
    } else {
        /* As the process sees it, which may live in a container. */
        seen = berth__tool_format("/proc/%d/root%s", (int)lines->pid, path);
        if (build == 0 || (!module_open(module, seen, 0) && !module_open(module, path, 0)))
            module->dwarf = NULL;
    }
    free(seen);
    return module;
}

static struct module *module_get(struct berth_source_lines *lines, const char *path, uint64_t build)
{
    struct module *module = lines->modules;

    while (module && (module->build != build || strcmp(module->path, path) != 0))
        module = module->next;
    return module ? module : module_new(lines, path, build);
}

char *berth__source_line(struct berth_source_lines *lines, const char *path, uint64_t build,
                         uint64_t address)
{
    struct module *module = lines ? module_get(lines, path, build) : NULL;
    GElf_Addr bias = 0;
    Dwfl_Line *line;
    const char *file, *slash;
    int number = 0;

    if (!module || !module->dwarf)
        return NULL;
    dwfl_module_getelf(module->dwarf, &bias);
    /* The call is before the address that it returns to. */
    line = dwfl_module_getsrc(module->dwarf, address - 1 + bias);
    file = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    if (!file || number <= 0)
        return NULL;
    slash = strrchr(file, '/');
    return berth__tool_format("%s:%d", slash ? slash + 1 : file, number);
}
