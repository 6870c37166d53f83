/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guests' scripts run under Berth, on memory of devices that the host of the build does
 * not have.
 *
 * usage: vm_cases SUBJECT ARGUMENT...
 */
#include "cases.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int failed;

void tell(const char *name, bool truth)
{
    /* At once: a case may end the process. */
    dprintf(1, "%s %s\n", truth ? "ok" : "FAILED", name);
    failed += !truth;
}

void tell_why(const char *name, bool truth, const char *format, ...)
{
    va_list arguments;

    tell(name, truth);
    if (truth)
        return;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

int main(int argc, char **argv)
{
    const struct subject *const lists[] = {place_subjects, fork_subjects, persist_subjects,
                                           tight_subjects};

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (const struct subject *subject = lists[i]; subject->name; subject++)
            if (argc > 1 && strcmp(argv[1], subject->name) == 0) {
                subject->run(argv + 2);
                return failed ? 1 : 0;
            }
    fprintf(stderr, "usage: vm_cases SUBJECT ARGUMENT...; the subjects:\n");
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        for (const struct subject *subject = lists[i]; subject->name; subject++)
            fprintf(stderr, "  %s %s\n", subject->name, subject->arguments);
    return 2;
}
