/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/source_line.h"

#include "alloc/build_hash.h"
#include "tools/berth/symbol_name.h"
#include "tools/berth/tool.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
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

static char *place_text(const char *file, int line)
{
    const char *slash = strrchr(file, '/');

    return berth__tool_format("%s:%d", slash ? slash + 1 : file, line);
}

/* Text of somebody else's; null where there is none. */
static json_t *text_json(const char *text)
{
    json_t *json = text ? json_string(text) : NULL;

    return json ? json : json_null();
}

char *berth__source_line(struct berth_source_lines *lines, const char *path, uint64_t build,
                         uint64_t address)
{
    struct module *module = lines ? module_get(lines, path, build) : NULL;
    GElf_Addr bias = 0;
    Dwfl_Line *line;
    const char *file;
    int number = 0;

    if (!module || !module->dwarf)
        return NULL;
    dwfl_module_getelf(module->dwarf, &bias);
    /* The call is before the address that it returns to. */
    line = dwfl_module_getsrc(module->dwarf, address - 1 + bias);
    file = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    if (!file || number <= 0)
        return NULL;
    return place_text(file, number);
}

static uint64_t attribute_number(Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attribute;
    Dwarf_Word value = 0;

    return dwarf_formudata(dwarf_attr(die, name, &attribute), &value) == 0 ? value : 0;
}

/* Its mangled name where it has one. */
static const char *function_name(Dwarf_Die *die)
{
    Dwarf_Attribute attribute;
    const char *name = dwarf_formstring(dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute));

    return name ? name : dwarf_diename(die);
}

/* By the symbols: a label without a size may be any other function's neighbour. */
static const char *symbol_at(Dwfl_Module *dwarf, GElf_Addr address)
{
    GElf_Off offset;
    GElf_Sym symbol;
    const char *name = dwfl_module_addrinfo(dwarf, address, &offset, &symbol, NULL, NULL, NULL);

    return name && symbol.st_size > 0 && offset < symbol.st_size ? name : NULL;
}

/*
 * What encloses the innermost scope of `address` where the code is, not where it was written: how
 * many, and *ret_chain, which the caller frees.
 */
static int scopes_at(Dwfl_Module *dwarf, GElf_Addr address, Dwarf_Die **ret_unit,
                     Dwarf_Die **ret_chain)
{
    GElf_Addr bias = 0;
    Dwarf_Die *scopes = NULL;
    int count;

    *ret_chain = NULL;
    *ret_unit = dwfl_module_addrdie(dwarf, address, &bias);
    count = *ret_unit ? dwarf_getscopes(*ret_unit, address - bias, &scopes) : 0;
    count = count > 0 ? dwarf_getscopes_die(&scopes[0], ret_chain) : 0;
    free(scopes);
    return count;
}

/* By the debug information: the function that the code is in, without those inlined there. */
static const char *subprogram_at(Dwfl_Module *dwarf, GElf_Addr address)
{
    Dwarf_Die *unit, *chain;
    const char *name = NULL;
    int count = scopes_at(dwarf, address, &unit, &chain);

    for (int i = 0; i < count && !name; i++)
        if (dwarf_tag(&chain[i]) == DW_TAG_subprogram)
            name = function_name(&chain[i]);
    free(chain);
    return name;
}

char *berth__source_function(struct berth_source_lines *lines, const char *path, uint64_t build,
                             uint64_t address)
{
    struct module *module = lines ? module_get(lines, path, build) : NULL;
    GElf_Addr bias = 0;
    const char *name;

    if (!module || !module->dwarf)
        return NULL;
    dwfl_module_getelf(module->dwarf, &bias);
    name = symbol_at(module->dwarf, address - 1 + bias);
    if (!name)
        name = subprogram_at(module->dwarf, address - 1 + bias);
    return name ? berth__symbol_name(name) : NULL;
}

/* One function that was inlined: its name, and where it was called. */
static json_t *inlined_json(Dwarf_Die *unit, Dwarf_Die *die)
{
    uint64_t line = attribute_number(die, DW_AT_call_line);
    const char *name = function_name(die);
    const char *file = NULL;
    char *text = name ? berth__symbol_name(name) : NULL;
    char *place;
    Dwarf_Files *files;
    size_t count;
    json_t *json;

    if (dwarf_getsrcfiles(unit, &files, &count) == 0)
        file = dwarf_filesrc(files, attribute_number(die, DW_AT_call_file), NULL, NULL);
    place = file && line > 0 ? place_text(file, (int)line) : NULL;
    json = json_pack("{s:o,s:o}", "name", text_json(text), "at", text_json(place));
    free(text);
    free(place);
    return json;
}

json_t *berth__source_inlined(struct berth_source_lines *lines, const char *path, uint64_t build,
                              uint64_t address)
{
    struct module *module = lines ? module_get(lines, path, build) : NULL;
    json_t *array = json_array();
    GElf_Addr bias = 0;
    Dwarf_Die *unit, *chain;
    int count;

    if (!module || !module->dwarf)
        return array;
    dwfl_module_getelf(module->dwarf, &bias);
    count = scopes_at(module->dwarf, address - 1 + bias, &unit, &chain);
    for (int i = 0; i < count && dwarf_tag(&chain[i]) != DW_TAG_subprogram; i++)
        if (dwarf_tag(&chain[i]) == DW_TAG_inlined_subroutine)
            json_array_append_new(array, inlined_json(unit, &chain[i]));
    free(chain);
    return array;
}
