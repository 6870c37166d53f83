/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/process.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void explain(pid_t pid, int error)
{
    if (error == -ECONNREFUSED || error == -ENOENT || error == -EPIPE || error == -ECONNRESET)
        berth__tool_fail("process %d does not answer any more: it is ending, or becomes another "
                         "program",
                         (int)pid);
    else if (error == -ETIMEDOUT)
        berth__tool_fail("process %d has not answered for %d s; is it stopped?", (int)pid,
                         BERTH_PROCESS_TIMEOUT_MS / 1000);
    else if (error == -EPROTO)
        berth__tool_fail("process %d: its answer was not understood", (int)pid);
    else
        berth__tool_fail("process %d: %s", (int)pid, strerror(-error));
}

/* The answer itself, or NULL after saying what its "error" says. */
static json_t *checked(struct berth_session *session, json_t *reply, int quiet)
{
    const json_t *error = json_object_get(reply, "error");
    const char *message = json_string_value(json_object_get(error, "message"));

    if (json_is_true(json_object_get(reply, "ok")))
        return reply;
    if (!quiet)
        berth__tool_fail("process %d: %s", (int)session->pid,
                         message ? message : "its answer was not understood");
    json_decref(reply);
    return NULL;
}

static int patience(int quiet)
{
    return quiet ? BERTH_PROCESS_GLANCE_MS : BERTH_PROCESS_TIMEOUT_MS;
}

static int open_session(struct berth_session *session, const struct berth_process *process,
                        int quiet)
{
    char *text = NULL;
    int r = berth__client_connect(&session->client, process->directory, process->name,
                                  patience(quiet), &text);

    if (r < 0)
        return r;
    session->pid = process->pid;
    session->hello = json_loads(text, 0, NULL);
    free(text);
    return json_is_object(session->hello) ? 0 : -EPROTO;
}

int berth__session_open(struct berth_session *session, const struct berth_process *process,
                        int quiet)
{
    int r;

    memset(session, 0, sizeof(*session));
    session->client.fd = -1;
    r = open_session(session, process, quiet);
    if (r == 0 && json_object_get(session->hello, "error")) {
        json_decref(checked(session, json_incref(session->hello), quiet));
        r = -EBUSY;
    } else if (r < 0 && !quiet) {
        explain(process->pid, r);
    }
    if (r < 0)
        berth__session_close(session);
    return r;
}

void berth__session_close(struct berth_session *session)
{
    if (session->client.fd >= 0)
        berth__client_close(&session->client);
    json_decref(session->hello);
    session->hello = NULL;
}

json_t *berth__session_request(struct berth_session *session, json_t *request, int fd, int quiet)
{
    char *frame = json_dumps(request, JSON_COMPACT);
    char *text = NULL;
    json_t *reply = NULL;
    int r = -ENOMEM;

    json_decref(request);
    if (frame)
        r = berth__client_request(&session->client, frame, fd, patience(quiet), &text);
    free(frame);
    session->error = r;
    if (r == 0) {
        reply = json_loads(text, JSON_ALLOW_NUL, NULL);
        free(text);
        return checked(session, reply, quiet);
    }
    if (!quiet)
        explain(session->pid, r);
    return NULL;
}

json_t *berth__session_ask(const struct berth_process *process, json_t *request, int fd, int quiet)
{
    struct berth_session session;
    json_t *reply;

    if (berth__session_open(&session, process, quiet) < 0) {
        json_decref(request);
        return NULL;
    }
    reply = berth__session_request(&session, request, fd, quiet);
    berth__session_close(&session);
    return reply;
}
