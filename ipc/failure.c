/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/failure.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int berth__failure_set(struct berth_failure *failure, const char *code, const char *format, ...)
{
    va_list args;

    failure->code = code;
    va_start(args, format);
    vsnprintf(failure->message, sizeof(failure->message), format, args);
    va_end(args);
    return -EINVAL;
}
