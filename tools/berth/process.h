/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes under Berth, as their sockets show them, and a conversation with one.
 *
 * Sockets are looked for where this user's processes put them, and where that is asked for also in
 * every other place that this user may look at. A name that a dead process left behind is removed
 * when it is seen.
 */
#ifndef BERTH_TOOLS_PROCESS_H
#define BERTH_TOOLS_PROCESS_H

#include "ipc/address.h"
#include "ipc/client.h"

#include <jansson.h>

/* How long a process has for an answer. */
#define BERTH_PROCESS_TIMEOUT_MS 5000
/* The same where its silence is not worth a line. */
#define BERTH_PROCESS_GLANCE_MS 2000

struct berth_process {
    pid_t pid;
    uint64_t start;
    char *directory;
    char name[BERTH_ADDRESS_NAME_MAX];
};

/*
 * All of them, by pid; the caller frees them with berth__process_free(). `everywhere`: also those
 * that were started with another runtime directory, and for root those of other users.
 */
size_t berth__process_list(int everywhere, struct berth_process **ret_list);
void berth__process_free(struct berth_process *list, size_t count);

/*
 * The process that a command line names: `text` is a pid, which is looked for everywhere, or
 * NULL for the only one there is in this user's place. 0, or
 * BERTH_EXIT_FAILURE after one line. What is in *ret is freed by berth__process_done().
 */
int berth__process_find(const char *text, struct berth_process *ret);
void berth__process_done(struct berth_process *process);

/* Seconds since it was started. */
double berth__process_uptime(const struct berth_process *process);

/* An open conversation. */
struct berth_session {
    struct berth_client client;
    json_t *hello;
    pid_t pid;
    int error; /* why the last request got no answer: negative errno, or 0 */
};

/* `quiet`: no line is printed on failure. 0 or negative errno. */
int berth__session_open(struct berth_session *session, const struct berth_process *process,
                        int quiet);
void berth__session_close(struct berth_session *session);

/*
 * Sends a request (its reference is taken) and returns the answer if it is "ok"; else prints why
 * unless `quiet`, and returns NULL. `fd` goes along unless it is -1.
 */
json_t *berth__session_request(struct berth_session *session, json_t *request, int fd, int quiet);
/* The same on a conversation of its own. */
json_t *berth__session_ask(const struct berth_process *process, json_t *request, int fd, int quiet);

#endif
