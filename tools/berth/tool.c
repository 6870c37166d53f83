/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/tool.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((format(printf, 1, 0))) static void say(const char *format, va_list args)
{
    fputs("berth: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
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
