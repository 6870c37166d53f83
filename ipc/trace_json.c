/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/trace_json.h"

#include "alloc/trace.h"
#include "ipc/control.h"
#include "ipc/json.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int add(json_t *reply, const char *key, json_t *value)
{
    return json_object_set_new(reply, key, value) < 0 ? -ENOMEM : 0;
}

/*
 * The descriptor is in the socket thread's table (Note [Two threads] in control.c); the trace's
 * threads are the program's. The file is opened anew, which needs the right to do so.
 */
static int open_passed(const struct berth_passed *passed, int *ret_fd,
                       struct berth_failure *failure)
{
    if (passed->state == BERTH_PASSED_NONE)
        return berth__failure_set(failure, "no-descriptor",
                                  "no descriptor came with the request; expected that of an empty "
                                  "file");
    if (passed->state != BERTH_PASSED_UNREAD)
        return berth__failure_set(failure, "bad-descriptor", "%s",
                                  passed->why[0] ? passed->why : "it was read as a table");
    *ret_fd = open(passed->path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (*ret_fd < 0)
        return berth__failure_set(failure, "bad-descriptor",
                                  "the file cannot be opened: %s; expected one that the process "
                                  "may write to",
                                  strerrordesc_np(errno));
    return 0;
}

int berth__trace_json_start(const struct berth_passed *passed, bool with_paths, json_t *reply,
                            struct berth_failure *failure)
{
    char why[256] = "";
    bool has_paths = false;
    int fd = -1, r;

    r = open_passed(passed, &fd, failure);
    if (r < 0)
        return r;
    if (with_paths && berth__control_load_callsite)
        has_paths = berth__control_load_callsite(why, sizeof(why)) == 0;
    if (add(reply, "call_paths", has_paths ? json_true() : json_false()) < 0 ||
        (why[0] && add(reply, "why", berth__json_text(why)) < 0)) {
        close(fd);
        return -ENOMEM;
    }
    r = berth__trace_start(fd, with_paths, why, sizeof(why));
    close(fd);
    if (r < 0)
        return berth__failure_set(failure, r == -EBUSY ? "busy" : "bad-descriptor", "%s", why);
    return 0;
}

int berth__trace_json_stop(json_t *reply, struct berth_failure *failure)
{
    uint64_t records = 0;
    bool truncated = false;

    if (berth__trace_stop(&records, &truncated) < 0)
        return berth__failure_set(failure, "no-trace", "there is no trace to stop");
    if (add(reply, "records", json_integer((json_int_t)records)) < 0)
        return -ENOMEM;
    return add(reply, "truncated", truncated ? json_true() : json_false());
}

int berth__trace_json_state(json_t *reply)
{
    bool is_on = (atomic_load(&berth__trace_state) & BERTH_TRACE_TO_FILE) != 0;
    int r = add(reply, "tracing", is_on ? json_true() : json_false());

    if (r == 0)
        r = add(reply, "records", json_integer((json_int_t)berth__trace_count()));
    if (r == 0)
        r = add(reply, "history", json_integer((json_int_t)berth__trace_history_room()));
    return r;
}
