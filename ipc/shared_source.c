/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/shared_source.h"

#include "alloc/file_call.h"
#include "ipc/address.h"
#include "ipc/base64.h"
#include "ipc/client.h"
#include "ipc/control.h"
#include "ipc/json.h"
#include "ipc/shared_segment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where the groups of a UUID's text end, in bytes. */
static bool group_ends(unsigned bytes)
{
    return bytes == 4 || bytes == 6 || bytes == 8 || bytes == 10;
}

const char *berth__shared_uuid_text(const unsigned char uuid[BERTH_DEVICE_UUID_SIZE],
                                    char text[BERTH_SHARED_UUID_TEXT_MAX])
{
    char *at = text + sprintf(text, "GPU-");

    for (unsigned i = 0; i < BERTH_DEVICE_UUID_SIZE; i++)
        at += sprintf(at, group_ends(i) ? "-%02x" : "%02x", uuid[i]);
    return text;
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

int berth__shared_uuid_parse(const char *text, unsigned char ret[BERTH_DEVICE_UUID_SIZE])
{
    unsigned char uuid[BERTH_DEVICE_UUID_SIZE];

    if (strncmp(text, "GPU-", 4) != 0)
        return -EINVAL;
    text += 4;
    for (unsigned i = 0; i < BERTH_DEVICE_UUID_SIZE; i++) {
        int high, low;

        if (group_ends(i) && *text++ != '-')
            return -EINVAL;
        high = hex_digit(text[0]);
        low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0)
            return -EINVAL;
        uuid[i] = (unsigned char)(high << 4 | low);
        text += 2;
    }
    if (*text != '\0')
        return -EINVAL;
    memcpy(ret, uuid, sizeof(uuid));
    return 0;
}

/* Where a source is asked. */
struct place {
    char directory[PATH_MAX];
    char name[BERTH_ADDRESS_NAME_MAX * 4];
    pid_t pid; /* 0: whoever answers there */
    uint64_t start;
};

static int find_process(const char *from, struct place *ret, struct berth_failure *failure)
{
    char why[BERTH_ADDRESS_WHY_MAX];
    char state = 0;

    ret->pid = (pid_t)strtol(from, NULL, 10);
    if (berth__address_start(ret->pid, &ret->start, &state) < 0 || state == 'Z')
        return berth__failure_set(failure, "no-source", "there is no process %d", (int)ret->pid);
    if (berth__address_directory(berth__geteuid(), berth__control_runtime_directory(), false,
                                 ret->directory, why) < 0)
        return berth__failure_set(failure, "no-source", "process %d cannot be asked: %.400s",
                                  (int)ret->pid, why);
    berth__address_name(ret->pid, ret->start, ret->name);
    return 0;
}

static int find_place(const char *from, struct place *ret, struct berth_failure *failure)
{
    const char *slash = strrchr(from, '/');

    memset(ret, 0, sizeof(*ret));
    if (from[0] != '\0' && from[strspn(from, "0123456789")] == '\0' && strlen(from) < 10)
        return find_process(from, ret, failure);
    if (from[0] != '/' || slash[1] == '\0' || strlen(slash + 1) >= sizeof(ret->name) ||
        (size_t)(slash - from) + 2 > sizeof(ret->directory))
        return berth__failure_set(failure, "no-source",
                                  "'%.64s' is no process; expected a process id, or the path of a "
                                  "socket",
                                  from);
    memcpy(ret->directory, from, slash == from ? 1 : (size_t)(slash - from));
    strcpy(ret->name, slash + 1);
    return 0;
}

static const char *name_of(const struct place *place, const char *from, char *text, size_t size)
{
    if (place->pid)
        snprintf(text, size, "process %d", (int)place->pid);
    else
        snprintf(text, size, "%s", from);
    return text;
}

/* Who is at the other end: the kernel's word. */
static int check_peer(const struct berth_client *client, struct place *place, const char *who,
                      struct berth_failure *failure)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    if (getsockopt(client->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return berth__failure_set(failure, "no-source", "%s: %s", who, strerrordesc_np(errno));
    if (peer.uid != 0 && peer.uid != berth__geteuid())
        return berth__failure_set(failure, "no-source",
                                  "%s belongs to user %d; expected this user's, or root's", who,
                                  (int)peer.uid);
    place->pid = peer.pid;
    if (place->start == 0)
        berth__address_start(peer.pid, &place->start, NULL);
    return 0;
}

static int explain(struct berth_failure *failure, const char *who, int error)
{
    const char *why = "does not answer";

    if (error == -ENOMEM)
        return -ENOMEM;
    if (error == -ENOENT || error == -ECONNREFUSED)
        why = "has no control socket here (is it under Berth, with the same XDG_RUNTIME_DIR?)";
    else if (error == -ETIMEDOUT)
        why = "has not answered in time";
    else if (error == -EPROTO)
        why = "gave an answer that was not understood";
    else if (error == -EACCES || error == -EPERM)
        why = "cannot be asked: permission denied";
    return berth__failure_set(failure, "no-source", "%s %s", who, why);
}

static int misunderstood(struct berth_failure *failure, const char *who)
{
    return explain(failure, who, -EPROTO);
}

static int read_handle(const json_t *reply, struct berth_shared_offer *offer)
{
    const char *text = json_string_value(json_object_get(reply, "handle"));
    unsigned char bytes[128];
    size_t size = 0;

    if (!text || strlen(text) / 4 * 3 > sizeof(bytes) ||
        berth__base64_decode(text, strlen(text), bytes, &size) < 0 || size != sizeof(offer->handle))
        return -EPROTO;
    memcpy(&offer->handle, bytes, size);
    return 0;
}

/* Takes the answer apart; the descriptor stays the caller's until all of it is right. */
static int read_offer(const json_t *reply, int fd, struct berth_shared_offer *offer)
{
    const char *kind = json_string_value(json_object_get(reply, "kind"));
    const char *uuid = json_string_value(json_object_get(reply, "uuid"));
    json_int_t size = json_integer_value(json_object_get(reply, "size"));

    if (!kind || !uuid || size <= 0 || berth__shared_uuid_parse(uuid, offer->uuid) < 0)
        return -EPROTO;
    offer->size = (uint64_t)size;
    offer->is_legacy = strcmp(kind, "legacy") == 0;
    if (!offer->is_legacy && (strcmp(kind, "descriptor") != 0 || fd < 0))
        return -EPROTO;
    if (offer->is_legacy && (fd >= 0 || read_handle(reply, offer) < 0))
        return -EPROTO;
    offer->fd = fd;
    return 0;
}

static int read_answer(const char *text, int fd, const char *who, struct berth_shared_offer *offer,
                       struct berth_failure *failure)
{
    json_t *reply = json_loadb(text, strlen(text), JSON_REJECT_DUPLICATES, NULL);
    const char *why =
        json_string_value(json_object_get(json_object_get(reply, "error"), "message"));
    int r;

    if (!json_is_object(reply))
        r = misunderstood(failure, who);
    else if (!json_is_true(json_object_get(reply, "ok")))
        r = berth__failure_set(failure, "no-source", "%s: %.400s", who,
                               why ? why : "it refused and did not say why");
    else if (read_offer(reply, fd, offer) < 0)
        r = misunderstood(failure, who);
    else
        r = 0;
    json_decref(reply);
    return r;
}

static int converse(struct berth_client *client, const char *name, const char *who,
                    struct berth_shared_offer *offer, struct berth_failure *failure)
{
    char frame[BERTH_NAME_MAX + 64];
    char *text = NULL;
    int fd = -1;
    int r;

    /* The name was checked when it was read: it needs no quoting. */
    snprintf(frame, sizeof(frame), "{\"op\":\"shared.open\",\"name\":\"%s\"}", name);
    r = berth__client_request_descriptor(client, frame, BERTH_SHARED_PATIENCE_MS, &text, &fd);
    if (r < 0)
        return explain(failure, who, r);
    r = read_answer(text, fd, who, offer, failure);
    free(text);
    if (r < 0 && fd >= 0)
        close(fd);
    return r;
}

/* This very process: its control thread is the one that would have to answer. */
static int ask_self(const char *name, struct berth_shared_offer *ret, struct berth_failure *failure)
{
    struct berth_shared_segment *segment = berth__shared_segment_find(name, failure);
    int r;

    if (!segment)
        return -EINVAL;
    if (segment->is_legacy)
        return berth__failure_set(failure, "bad-request",
                                  "a process cannot open a legacy IPC handle of its own");
    r = berth__shared_segment_descriptor(segment, &ret->fd, failure);
    if (r < 0)
        return r;
    ret->size = segment->size;
    memcpy(ret->uuid, segment->uuid, sizeof(ret->uuid));
    return 0;
}

int berth__shared_ask(const char *from, const char *name, struct berth_shared_offer *ret,
                      struct berth_failure *failure)
{
    struct berth_shared_offer offer = {.fd = -1};
    struct berth_client client = {.fd = -1};
    struct place place;
    char *hello = NULL;
    char who[128];
    int r = find_place(from, &place, failure);

    if (r < 0)
        return r;
    name_of(&place, from, who, sizeof(who));
    if (place.pid == getpid()) {
        r = ask_self(name, &offer, failure);
    } else {
        r = berth__client_connect(&client, place.directory, place.name, BERTH_SHARED_PATIENCE_MS,
                                  &hello);
        free(hello);
        if (r < 0)
            return explain(failure, who, r);
        r = check_peer(&client, &place, who, failure);
        if (r == 0)
            r = converse(&client, name, who, &offer, failure);
        berth__client_close(&client);
    }
    if (r < 0)
        return r;
    offer.pid = place.pid;
    offer.start = place.start;
    *ret = offer;
    return 0;
}
