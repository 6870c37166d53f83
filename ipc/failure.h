/* SPDX-License-Identifier: Apache-2.0 */
/* Why a request was refused: a code for programs and a sentence for people. */
#ifndef BERTH_IPC_FAILURE_H
#define BERTH_IPC_FAILURE_H

/* Room for any sentence. */
#define BERTH_FAILURE_MESSAGE_MAX 640

struct berth_failure {
    const char *code; /* one of berth-protocol(7)'s; static */
    char message[BERTH_FAILURE_MESSAGE_MAX];
};

/* Fills it in; returns -EINVAL, for `return berth__failure_set(...)`. */
int berth__failure_set(struct berth_failure *failure, const char *code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
