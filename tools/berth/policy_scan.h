/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shape of a policy file: sections, and the statements in them.
 *
 * The reader recovers from a mistake at the next statement or section, so that what follows is
 * still looked at. A statement whose value cannot be read stays in the list, marked `broken`: then
 * nobody complains that it is missing.
 */
#ifndef BERTH_TOOLS_POLICY_SCAN_H
#define BERTH_TOOLS_POLICY_SCAN_H

#include "tools/berth/policy_text.h"

/* One value, unquoted and expanded, and where it stands. */
struct berth_policy_value {
    char *text;
    unsigned line;
};

/* NAME = VALUE, or NAME = { VALUE, VALUE } */
struct berth_policy_statement {
    char *name;
    char *source; /* as written, without comments; for libconfuse */
    unsigned line;
    bool broken;
    /* Filled in by berth__policy_read_values(). */
    struct berth_policy_value *values;
    size_t value_count;
};

enum berth_section_kind {
    BERTH_SECTION_OPTIONS,
    BERTH_SECTION_TIER,
    BERTH_SECTION_SITE,
    BERTH_SECTION_RULE,
    BERTH_SECTION_COUNT
};

struct berth_policy_section {
    enum berth_section_kind kind;
    char *title; /* as written; NULL for `options`, and where it is missing (complained about) */
    char *name;  /* the title unquoted; filled in with the values */
    unsigned line;
    bool cut; /* a mistake hid a part of it: what is missing may be there */
    struct berth_policy_statement *statements;
    size_t statement_count, statement_room;
};

struct berth_policy_document {
    struct berth_policy_section *sections;
    size_t count, room;
};

extern const char *const berth__section_names[BERTH_SECTION_COUNT];

/* Reads all sections of the text. 0 or -ENOMEM; mistakes go to `complaints`. */
int berth__policy_scan(const char *bytes, size_t size, struct berth_complaints *complaints,
                       struct berth_policy_document *ret);

void berth__policy_document_done(struct berth_policy_document *document);

#endif
