/* SPDX-License-Identifier: Apache-2.0 */
/* Argument sizes from a mangled name (Itanium C++ ABI), as far as CUDA kernels
 * usually go: built-in types, pointers, CUDA's vector types, template
 * parameters and substitutions. Anything else: "not known". */
#include "module.h"

#include <stdlib.h>
#include <string.h>

/* Named limit: a name with more components is "not known". */
#define COMPONENTS_MAX 64

struct parser {
    const char *at;
    bool failed;
    size_t seen[COMPONENTS_MAX]; /* sizes of what S_, S0_ ... stand for; 0: none */
    size_t seen_count;
    size_t given[COMPONENTS_MAX]; /* sizes of the template's type arguments */
    size_t given_count;
};

static const struct {
    const char *name;
    size_t size;
} named_types[] = {{"__half", 2}, {"__half2", 4},    {"__nv_bfloat16", 2}, {"__nv_bfloat162", 4},
                   {"float2", 8}, {"float3", 12},    {"float4", 16},       {"double2", 16},
                   {"int2", 8},   {"int3", 12},      {"int4", 16},         {"uint2", 8},
                   {"uint3", 12}, {"uint4", 16},     {"dim3", 12},         {"char4", 4},
                   {"uchar4", 4}, {"longlong2", 16}, {"ulonglong2", 16}};

static size_t type_size(struct parser *parser);

static void seen_add(struct parser *parser, size_t size)
{
    if (parser->seen_count == COMPONENTS_MAX)
        parser->failed = true;
    else
        parser->seen[parser->seen_count++] = size;
}

static size_t builtin_size(char letter)
{
    static const struct {
        const char *letters;
        size_t size;
    } sizes[] = {{"bcah", 1}, {"st", 2}, {"ijfw", 4}, {"lmxyd", 8}, {"nog", 16}};

    for (size_t i = 0; letter && i < sizeof(sizes) / sizeof(*sizes); i++)
        if (strchr(sizes[i].letters, letter))
            return sizes[i].size;
    return 0;
}

/* <length><name>; the size of a known type, else 0. */
static size_t source_name(struct parser *parser)
{
    size_t length = 0, size = 0;

    while (*parser->at >= '0' && *parser->at <= '9' && length < 4096)
        length = length * 10 + (size_t)(*parser->at++ - '0');
    if (length == 0 || strnlen(parser->at, length) < length) {
        parser->failed = true;
        return 0;
    }
    for (size_t i = 0; i < sizeof(named_types) / sizeof(*named_types); i++)
        if (strlen(named_types[i].name) == length &&
            strncmp(named_types[i].name, parser->at, length) == 0)
            size = named_types[i].size;
    parser->at += length;
    return size;
}

/* The index in "S_", "S0_", "S1A_" or "T_", "T0_" ..., behind its letter. */
static size_t sequence_index(struct parser *parser, unsigned base)
{
    size_t index = 0;

    if (*parser->at == '_') {
        parser->at++;
        return 0;
    }
    for (; *parser->at && *parser->at != '_'; parser->at++) {
        unsigned digit =
            *parser->at >= 'A' ? (unsigned)(*parser->at - 'A' + 10) : (unsigned)(*parser->at - '0');

        if (digit >= base || index > COMPONENTS_MAX) {
            parser->failed = true;
            return 0;
        }
        index = index * base + digit;
    }
    parser->failed |= *parser->at != '_';
    parser->at += *parser->at == '_';
    return index + 1;
}

/* Behind 'S': the size of what was met before. */
static size_t substitution_size(struct parser *parser)
{
    size_t index = sequence_index(parser, 36);

    if (parser->failed || index >= parser->seen_count) {
        parser->failed = true;
        return 0;
    }
    return parser->seen[index];
}

/* Behind 'I': up to and with its 'E'. Remembers the sizes of types. */
static void template_arguments(struct parser *parser)
{
    while (!parser->failed && *parser->at && *parser->at != 'E') {
        size_t size = 0;

        if (*parser->at == 'L') { /* a value: its type, then digits up to E */
            parser->at++;
            parser->failed |= builtin_size(*parser->at) == 0 && *parser->at != 'b';
            while (*parser->at && *parser->at != 'E')
                parser->at++;
            parser->failed |= *parser->at != 'E';
            parser->at += *parser->at == 'E';
        } else {
            size = type_size(parser);
        }
        if (parser->given_count == COMPONENTS_MAX)
            parser->failed = true;
        else
            parser->given[parser->given_count++] = size;
    }
    parser->failed |= *parser->at != 'E';
    parser->at += *parser->at == 'E';
}

static size_t type_size_template_parameter(struct parser *parser)
{
    size_t index = sequence_index(parser, 10), size = 0;

    if (index < parser->given_count)
        size = parser->given[index];
    else
        parser->failed = true;
    seen_add(parser, size);
    return size;
}

/* Behind 'N': a type in a namespace, whose size is never known; what stands
 * behind a pointer need not be. */
static size_t nested_type(struct parser *parser)
{
    if (*parser->at == 'S') {
        parser->at++;
        substitution_size(parser);
    }
    while (!parser->failed && *parser->at != 'E') {
        source_name(parser);
        seen_add(parser, 0);
    }
    parser->at += *parser->at == 'E';
    return 0;
}

static size_t type_size(struct parser *parser)
{
    char letter = *parser->at;
    size_t size;

    if (parser->failed || !letter) {
        parser->failed = true;
        return 0;
    }
    if (strchr("PRO", letter)) {
        parser->at++;
        type_size(parser);
        seen_add(parser, 8);
        return 8;
    }
    if (strchr("rVK", letter)) {
        parser->at += strspn(parser->at, "rVK");
        size = type_size(parser);
        seen_add(parser, size);
        return size;
    }
    if (letter >= '0' && letter <= '9') {
        size = source_name(parser);
        seen_add(parser, size);
        parser->failed |= *parser->at == 'I'; /* a class template: its size is not known */
        return size;
    }
    parser->at++;
    if (letter == 'N')
        return nested_type(parser);
    if (letter == 'S')
        return substitution_size(parser);
    if (letter == 'T')
        return type_size_template_parameter(parser);
    size = builtin_size(letter);
    parser->failed |= size == 0 && letter != 'v';
    return size;
}

/* The function's own name. True where it is a template, whose type list
 * begins with the return type. */
static bool function_name(struct parser *parser)
{
    bool is_template = false;

    if (*parser->at == 'N') {
        parser->at++;
        while (!parser->failed && *parser->at != 'E') {
            source_name(parser);
            is_template = *parser->at == 'I';
            if (*parser->at == 'E')
                break;
            seen_add(parser, 0);
            if (is_template) {
                parser->at++;
                template_arguments(parser);
                if (*parser->at != 'E')
                    seen_add(parser, 0);
            }
        }
        parser->at += *parser->at == 'E';
        return is_template;
    }
    source_name(parser);
    if (*parser->at != 'I')
        return false;
    seen_add(parser, 0);
    parser->at++;
    template_arguments(parser);
    return true;
}

bool kernel_name_sizes(const char *name, size_t **ret_sizes, size_t *ret_count)
{
    struct parser parser = {.at = name + 2};
    size_t *sizes, count = 0;

    if (strncmp(name, "_Z", 2) != 0)
        return false;
    if (function_name(&parser))
        type_size(&parser);
    sizes = malloc((strlen(name) + 1) * sizeof(*sizes));
    if (!sizes)
        return false;
    while (!parser.failed && *parser.at && strcmp(parser.at, "v") != 0) {
        sizes[count] = type_size(&parser);
        parser.failed |= sizes[count++] == 0;
    }
    if (parser.failed) {
        free(sizes);
        return false;
    }
    *ret_sizes = sizes;
    *ret_count = count;
    return true;
}
