/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wrong with a policy file: every mistake, with its line, in the order of the lines.
 *
 * The reader of a policy goes on after a mistake, so that one run of `berth policy check` tells
 * them all. A warning is something that is allowed and probably not meant.
 */
#ifndef BERTH_TOOLS_POLICY_COMPLAINT_H
#define BERTH_TOOLS_POLICY_COMPLAINT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Of a longer complaint the middle is not printed. */
#define BERTH_COMPLAINT_TEXT_MAX 2000

struct berth_complaint {
    unsigned line; /* 0 = the file as a whole */
    bool warning;
    char *text; /* "what is wrong; what was expected" */
};

struct berth_complaints {
    struct berth_complaint *list;
    size_t count, room;
    size_t errors, warnings;
    bool out_of_memory; /* some complaint could not be kept; counts as an error */
};

void berth__complain(struct berth_complaints *complaints, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void berth__warn(struct berth_complaints *complaints, unsigned line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* "FILE:LINE: text", by line; warnings only if asked for. */
void berth__complaints_print(struct berth_complaints *complaints, const char *path, bool warnings,
                             FILE *to);

void berth__complaints_done(struct berth_complaints *complaints);

#endif
