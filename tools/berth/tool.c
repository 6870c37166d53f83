/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Bytes from `text` on that a terminal would obey: a control character, or in UTF-8 one of the C1
 * set (U+0080 to U+009F), which some terminals obey too.
 */
static size_t control_at(const char *text, size_t length)
{
    unsigned char first = (unsigned char)text[0];
    unsigned char second = length > 1 ? (unsigned char)text[1] : 0;

    if (first < ' ' || first == 127)
        return 1;
    return first == 0xc2 && second >= 0x80 && second < 0xa0 ? 2 : 0;
}

void berth__tool_print(const char *text, size_t length, FILE *to)
{
    for (size_t i = 0; i < length;) {
        size_t control = control_at(text + i, length - i);

        fputc(control > 0 ? '?' : text[i], to);
        i += control > 0 ? control : 1;
    }
}

void berth__tool_clean(char *text)
{
    char *to = text;

    for (const char *at = text; *at; to++) {
        size_t control = control_at(at, 2);

        *to = *at;
        if (control > 0)
            *to = '?';
        at += control > 0 ? control : 1;
    }
    *to = '\0';
}

__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list args)
{
    char *text = NULL;

    if (vasprintf(&text, format, args) < 0) {
        fputs("berth: there is no memory left\n", stderr);
        return;
    }
    berth__tool_clean(text);
    fprintf(stderr, "berth: %s\n", text); /* in one piece: stderr has no buffer */
    free(text);
}

int berth__tool_fail(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    return BERTH_EXIT_FAILURE;
}

int berth__tool_misuse(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    say(format, args);
    va_end(args);
    return BERTH_EXIT_MISUSE;
}

void *berth__tool_realloc(void *old, size_t size)
{
    void *memory = realloc(old, size);

    if (!memory)
        exit(berth__tool_fail("there is no memory left"));
    return memory;
}

char *berth__tool_strdup(const char *text)
{
    size_t size = strlen(text) + 1;

    return memcpy(berth__tool_realloc(NULL, size), text, size);
}

char *berth__tool_format(const char *format, ...)
{
    va_list args;
    char *text = NULL;
    int n;

    va_start(args, format);
    n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        exit(berth__tool_fail("there is no memory left"));
    return text;
}

int berth__tool_finish(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    return berth__tool_fail("standard output: %s", strerror(errno));
}
