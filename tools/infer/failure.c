/* SPDX-License-Identifier: Apache-2.0 */
#include "failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int berth__failure_set(struct berth_failure *failure, int errnum, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(failure->text, sizeof(failure->text), format, args);
    va_end(args);
    return -errnum;
}

int berth__failure_no_memory(struct berth_failure *failure, const char *what,
                             unsigned long long size_bytes)
{
    return berth__failure_set(failure, ENOMEM, "%s: cannot allocate %llu bytes", what, size_bytes);
}
