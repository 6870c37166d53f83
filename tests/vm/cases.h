/* SPDX-License-Identifier: Apache-2.0 */
/* The cases of a test program in the guest: it is told what to look at, and tells each case. */
#ifndef BERTH_TESTS_VM_CASES_H
#define BERTH_TESTS_VM_CASES_H

#include <stdbool.h>

/* What one run of the program is about. `argument` ends with NULL. */
struct subject {
    const char *name;
    const char *arguments; /* how they are told in the usage */
    void (*run)(char **argument);
};

extern const struct subject place_subjects[];
extern const struct subject fork_subjects[];
extern const struct subject persist_subjects[];
extern const struct subject tight_subjects[];

/* Tells a case: "ok NAME" or "FAILED NAME". The name has no spaces. */
void tell(const char *name, bool truth);

/* The same, with what was seen instead, on stderr, where it is not so. */
void tell_why(const char *name, bool truth, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
