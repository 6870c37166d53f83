/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A failure: the one sentence that a person gets when an input is wrong.
 *
 * Functions that read files from outside return a negative errno and fill the
 * failure that the caller gave; only main() prints it. A failure is written by
 * one thread at a time.
 */
#ifndef BERTH_INFER_FAILURE_H
#define BERTH_INFER_FAILURE_H

/* Two paths of PATH_MAX and a sentence fit. */
#define BERTH_FAILURE_TEXT_MAX 12288

struct berth_failure {
    char text[BERTH_FAILURE_TEXT_MAX];
};

/* Writes the text and returns -errnum, so that callers can return it directly. */
int berth__failure_set(struct berth_failure *failure, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The failure of an allocation of `size_bytes` for `what`; returns -ENOMEM. */
int berth__failure_no_memory(struct berth_failure *failure, const char *what,
                             unsigned long long size_bytes);

#endif
