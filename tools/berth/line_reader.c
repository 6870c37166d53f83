/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/line_reader.h"

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

struct berth_lines {
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

static struct berth_lines *open_lines(pid_t pid)
{
    struct berth_lines *lines = berth__tool_realloc(NULL, sizeof(*lines));

    /* It would ask servers on the network. */
    unsetenv("DEBUGINFOD_URLS");
    lines->pid = pid;
    lines->modules = NULL;
    return lines;
}

static void close_lines(struct berth_lines *lines)
{
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

static struct module *module_new(struct berth_lines *lines, const char *path, uint64_t build)
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

static struct module *module_get(struct berth_lines *lines, const char *path, uint64_t build)
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

/* A place in the code of a module, as its debug information counts addresses. */
struct place {
    Dwarf_Die *unit; /* NULL: it is in none */
    GElf_Addr address;
};

/*
 * The unit that the code is in. The table of addresses of a file (.debug_aranges) may have some
 * units only, or none: clang writes no such table, and Go none for its own.
 */
static struct place place_at(Dwfl_Module *dwarf, GElf_Addr address)
{
    GElf_Addr bias = 0;
    Dwarf_Die *unit = dwfl_module_addrdie(dwarf, address, &bias);

    if (unit && dwarf_haspc(unit, address - bias) == 1)
        return (struct place){unit, address - bias};
    unit = NULL;
    while ((unit = dwfl_module_nextcu(dwarf, unit, &bias)))
        if (dwarf_haspc(unit, address - bias) == 1)
            return (struct place){unit, address - bias};
    return (struct place){0};
}

/* The place of the call that returns to `address`, which is before it. */
static struct place call_at(struct module *module, uint64_t address)
{
    GElf_Addr bias = 0;

    dwfl_module_getelf(module->dwarf, &bias);
    return place_at(module->dwarf, address - 1 + bias);
}

static char *read_line(struct berth_lines *lines, const char *path, uint64_t build,
                       uint64_t address)
{
    struct module *module = module_get(lines, path, build);
    struct place place;
    Dwarf_Line *line;
    const char *file;
    int number = 0;

    if (!module->dwarf)
        return NULL;
    place = call_at(module, address);
    line = place.unit ? dwarf_getsrc_die(place.unit, place.address) : NULL;
    file = line ? dwarf_linesrc(line, NULL, NULL) : NULL;
    if (!file || dwarf_lineno(line, &number) != 0 || number <= 0)
        return NULL;
    return place_text(file, number);
}

static uint64_t attribute_number(Dwarf_Die *die, unsigned name)
{
    Dwarf_Attribute attribute;
    Dwarf_Word value = 0;

    return dwarf_formudata(dwarf_attr(die, name, &attribute), &value) == 0 ? value : 0;
}

/* Its mangled name where it has one that can be read: Rust's newer ones are nobody's here. */
static const char *function_name(Dwarf_Die *die)
{
    Dwarf_Attribute attribute;
    const char *mangled =
        dwarf_formstring(dwarf_attr_integrate(die, DW_AT_linkage_name, &attribute));
    const char *plain = mangled && strncmp(mangled, "_R", 2) != 0 ? NULL : dwarf_diename(die);

    return plain ? plain : mangled;
}

/* By the symbols: a label without a size may be any other function's neighbour. */
static const char *symbol_at(Dwfl_Module *dwarf, GElf_Addr address)
{
    GElf_Off offset;
    GElf_Sym symbol;
    const char *name = dwfl_module_addrinfo(dwarf, address, &offset, &symbol, NULL, NULL, NULL);

    return name && symbol.st_size > 0 && offset < symbol.st_size ? name : NULL;
}

/* What encloses a place, outermost first. */
struct scopes {
    Dwarf_Die *scope;
    size_t count, room;
};

static void scopes_add(struct scopes *scopes, const Dwarf_Die *scope)
{
    if (scopes->count == scopes->room) {
        scopes->room = scopes->room ? 2 * scopes->room : 16;
        scopes->scope = berth__tool_realloc(scopes->scope, scopes->room * sizeof(scopes->scope[0]));
    }
    scopes->scope[scopes->count++] = *scope;
}

/* Whether what it has inside may be code that its own addresses do not cover. */
static int is_container(int tag, int deep)
{
    return tag == DW_TAG_namespace || tag == DW_TAG_module || tag == DW_TAG_structure_type ||
           tag == DW_TAG_class_type || tag == DW_TAG_union_type ||
           (deep && tag == DW_TAG_subprogram);
}

static int is_code(int tag)
{
    return tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine ||
           tag == DW_TAG_lexical_block || tag == DW_TAG_try_block || tag == DW_TAG_catch_block;
}

/* Adds what of `parent` has the address; whether there is any. `deep`: in nested functions, too. */
static int scopes_find(struct scopes *scopes, Dwarf_Die *parent, GElf_Addr address, int deep)
{
    Dwarf_Die child;

    if (dwarf_child(parent, &child) != 0)
        return 0;
    do {
        int tag = dwarf_tag(&child);

        /* Not dwarf_getscopes(), which gives up at a scope whose addresses it cannot read. */
        if (is_code(tag) && dwarf_haspc(&child, address) == 1) {
            scopes_add(scopes, &child);
            scopes_find(scopes, &child, address, deep);
            return 1;
        }
        if (is_container(tag, deep) && scopes_find(scopes, &child, address, deep))
            return 1;
    } while (dwarf_siblingof(&child, &child) == 0);
    return 0;
}

/* The caller frees .scope. */
static struct scopes scopes_at(struct place place)
{
    struct scopes scopes = {0};
    Dwarf_Die split = {0};

    if (!place.unit)
        return scopes;
    /* What is inside may be in a file of its own (-gsplit-dwarf). */
    dwarf_cu_info(place.unit->cu, NULL, NULL, NULL, &split, NULL, NULL, NULL);
    for (int deep = 0; deep < 2 && scopes.count == 0; deep++)
        scopes_find(&scopes, split.addr ? &split : place.unit, place.address, deep);
    return scopes;
}

/* By the debug information: the function that the code is in, without those inlined there. */
static const char *subprogram_at(struct place place)
{
    struct scopes scopes = scopes_at(place);
    const char *name = NULL;

    for (size_t i = scopes.count; i > 0 && !name; i--)
        if (dwarf_tag(&scopes.scope[i - 1]) == DW_TAG_subprogram)
            name = function_name(&scopes.scope[i - 1]);
    free(scopes.scope);
    return name;
}

static char *read_function(struct berth_lines *lines, const char *path, uint64_t build,
                           uint64_t address)
{
    struct module *module = module_get(lines, path, build);
    GElf_Addr bias = 0;
    const char *name;

    if (!module->dwarf)
        return NULL;
    dwfl_module_getelf(module->dwarf, &bias);
    name = symbol_at(module->dwarf, address - 1 + bias);
    if (!name)
        name = subprogram_at(call_at(module, address));
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

static json_t *read_inlined(struct berth_lines *lines, const char *path, uint64_t build,
                            uint64_t address)
{
    struct module *module = module_get(lines, path, build);
    json_t *array = json_array();
    struct scopes scopes;
    struct place place;

    if (!module->dwarf)
        return array;
    place = call_at(module, address);
    scopes = scopes_at(place);
    for (size_t i = scopes.count; i > 0; i--) {
        Dwarf_Die *scope = &scopes.scope[i - 1];

        if (dwarf_tag(scope) == DW_TAG_subprogram)
            break;
        if (dwarf_tag(scope) == DW_TAG_inlined_subroutine)
            json_array_append_new(array, inlined_json(place.unit, scope));
    }
    free(scopes.scope);
    return array;
}

__attribute__((visibility("default"))) const struct berth_line_reader berth_line_reader = {
    .size = sizeof(struct berth_line_reader),
    .open = open_lines,
    .close = close_lines,
    .line = read_line,
    .function = read_function,
    .inlined = read_inlined,
};
