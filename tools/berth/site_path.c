/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/site_path.h"

#include "tools/berth/symbol_name.h"
#include "tools/berth/tool.h"

#include <stdlib.h>
#include <string.h>

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *string(const json_t *object, const char *key)
{
    return json_string_value(json_object_get(object, key));
}

/* Text of somebody else's as JSON; its reference is the caller's. */
static json_t *text_json(char *text)
{
    json_t *json = text ? json_string(text) : NULL;

    free(text);
    return json ? json : json_null();
}

static void read_frame(json_t *frame, struct berth_source_lines *lines)
{
    const char *symbol = string(frame, "symbol"), *path = string(frame, "path");
    const char *build = string(frame, "build");
    uint64_t hash = build ? strtoull(build, NULL, 16) : 0, address = number(frame, "address");

    json_object_set_new(frame, "name", text_json(symbol ? berth__symbol_name(symbol) : NULL));
    json_object_set_new(
        frame, "function",
        text_json(!symbol && path ? berth__source_function(lines, path, hash, address) : NULL));
    json_object_set_new(frame, "line",
                        text_json(path ? berth__source_line(lines, path, hash, address) : NULL));
    json_object_set_new(frame, "inlined",
                        path ? berth__source_inlined(lines, path, hash, address) : json_array());
}

void berth__site_path_read(json_t *frames, size_t most, struct berth_source_lines *lines)
{
    size_t i;
    json_t *frame;

    while (json_array_size(frames) > most)
        json_array_remove(frames, json_array_size(frames) - 1);
    json_array_foreach(frames, i, frame) read_frame(frame, lines);
}

static void print_clean(const char *text, FILE *out)
{
    berth__tool_print(text, strlen(text), out);
}

static void print_inlined(const json_t *inlined, FILE *out)
{
    size_t i;
    json_t *function;

    json_array_foreach(inlined, i, function)
    {
        const char *name = string(function, "name"), *at = string(function, "at");

        fputs(" in ", out);
        print_clean(name ? name : "?", out);
        fputs(", inlined", out);
        if (at) {
            fputs(" at ", out);
            print_clean(at, out);
        }
    }
}

static void print_frame(const json_t *frame, FILE *out)
{
    const char *module = string(frame, "module"), *name = string(frame, "name");
    const char *line = string(frame, "line"), *function = string(frame, "function");

    fputs("        ", out);
    print_clean(module ? module : "?", out);
    if (name) {
        fputc('!', out);
        print_clean(name, out);
    }
    fprintf(out, "+0x%llx", (unsigned long long)number(frame, "offset"));
    /* No pattern of a policy can name such a function: the process does not know it. */
    if (function || line)
        fputs(" (", out);
    if (function)
        print_clean(function, out);
    if (function && line)
        fputs(", ", out);
    if (line) {
        print_clean(line, out);
        print_inlined(json_object_get(frame, "inlined"), out);
    }
    if (function || line)
        fputc(')', out);
    fputc('\n', out);
}

void berth__site_path_print(const json_t *frames, FILE *out)
{
    size_t i;
    json_t *frame;

    json_array_foreach(frames, i, frame) print_frame(frame, out);
}
