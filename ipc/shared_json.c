/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/shared_json.h"

#include "alloc/quantity.h"
#include "alloc/tier_ops.h"
#include "ipc/base64.h"
#include "ipc/json.h"
#include "ipc/shared_segment.h"
#include "ipc/shared_source.h"
#include "ipc/shared_tier.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

static int add(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

/* A text of the request; NULL when it is not there. */
static int read_text(const json_t *request, const char *key, const char **ret,
                     struct berth_failure *failure)
{
    const json_t *value = json_object_get(request, key);

    *ret = json_string_value(value);
    if (value && !*ret)
        return berth__failure_set(failure, "bad-request", "\"%s\" is no text", key);
    /* A text with a null character in it would be taken for a shorter one. */
    if (*ret && strlen(*ret) != json_string_length(value))
        return berth__failure_set(failure, "bad-request", "\"%s\" has a null character", key);
    return 0;
}

static int need_text(const json_t *request, const char *key, const char **ret,
                     struct berth_failure *failure)
{
    int r = read_text(request, key, ret, failure);

    if (r == 0 && !*ret)
        return berth__failure_set(failure, "bad-request", "there is no \"%s\"; expected a text",
                                  key);
    return r;
}

/* Bytes, as a number or as text ("64M"); *ret stays when they are not there. */
static int read_size(const json_t *request, const char *key, uint64_t *ret,
                     struct berth_failure *failure)
{
    const json_t *value = json_object_get(request, key);
    const char *text = json_string_value(value);

    if (!value)
        return 0;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *ret = (uint64_t)json_integer_value(value);
        return 0;
    }
    if (text && berth__quantity_parse(text, json_string_length(value), ret) == 0)
        return 0;
    return berth__failure_set(failure, "bad-request",
                              "\"%s\" is no size; expected a number of bytes, or a text as \"64M\"",
                              key);
}

static int read_device(const json_t *request, int *ret, struct berth_failure *failure)
{
    const json_t *value = json_object_get(request, "device");
    unsigned char uuid[BERTH_DEVICE_UUID_SIZE];
    const char *text = json_string_value(value);

    *ret = 0;
    if (!value)
        return 0;
    if (text && berth__shared_uuid_parse(text, uuid) == 0) {
        if (berth__device_of_uuid(uuid, ret) == 0)
            return 0;
        return berth__failure_set(failure, "no-device", "the program does not see %.64s", text);
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        json_integer_value(value) > INT_MAX)
        return berth__failure_set(failure, "bad-request",
                                  "\"device\" is no device; expected its number in the program, or "
                                  "its UUID as \"GPU-...\"");
    *ret = (int)json_integer_value(value);
    return 0;
}

static const char *kind_of(const struct berth_shared_segment *segment)
{
    return segment->is_legacy ? "legacy" : "descriptor";
}

static json_t *segment_json(const struct berth_shared_segment *segment)
{
    char uuid[BERTH_SHARED_UUID_TEXT_MAX];

    return json_pack("{s:s,s:I,s:i,s:s,s:s,s:I}", "name", segment->name, "size",
                     (json_int_t)segment->size, "device", segment->device, "uuid",
                     berth__shared_uuid_text(segment->uuid, uuid), "kind", kind_of(segment),
                     "opens", (json_int_t)segment->opens);
}

int berth__shared_json_create(const json_t *request, json_t *reply, struct berth_failure *failure)
{
    const char *name;
    uint64_t size = 0;
    int device = 0;
    int r = need_text(request, "name", &name, failure);

    if (r == 0)
        r = read_size(request, "size", &size, failure);
    /* A UUID is looked up with the driver. */
    if (r == 0)
        r = berth__shared_check_driver(failure);
    if (r == 0)
        r = read_device(request, &device, failure);
    if (r == 0)
        r = berth__shared_segment_make(name, size, device, failure);
    if (r < 0)
        return r;
    return add(reply, "segment", segment_json(berth__shared_segment_find(name, failure)));
}

int berth__shared_json_drop(const json_t *request, struct berth_failure *failure)
{
    const char *name;
    int r = need_text(request, "name", &name, failure);

    if (r == 0)
        r = berth__shared_check_driver(failure);
    return r == 0 ? berth__shared_segment_drop(name, failure) : r;
}

static json_t *tier_json(const struct berth_shared_view *view)
{
    static const char *const states[] = {
        [BERTH_SHARED_EMPTY] = "empty",
        [BERTH_SHARED_ATTACHED] = "attached",
        [BERTH_SHARED_LOST] = "lost",
    };

    return json_pack(
        "{s:s,s:s,s:o,s:s,s:I,s:I,s:o,s:b,s:b,s:o}", "tier", view->tier, "state",
        states[view->state], "from", berth__json_text(view->from), "name", view->segment, "offset",
        (json_int_t)view->offset, "size", (json_int_t)view->size, "keeper",
        view->keeper ? json_integer(view->keeper) : json_null(), "keeper_lives", view->keeper_lives,
        "legacy", view->is_legacy, "why", berth__json_text(view->why));
}

int berth__shared_json_list(json_t *reply)
{
    json_t *segments = json_array(), *tiers = json_array();
    bool is_complete = segments && tiers;

    for (const struct berth_shared_segment *segment = berth__shared_segment_first(); segment;
         segment = segment->next)
        is_complete &= json_array_append_new(segments, segment_json(segment)) == 0;
    for (unsigned id = 0; id < berth__tier_count(); id++) {
        struct berth_shared_view view;

        if (berth__shared_tier_view((berth_tier_id)id, &view) == 0)
            is_complete &= json_array_append_new(tiers, tier_json(&view)) == 0;
    }
    is_complete &= json_object_set_new(reply, "segments", segments) == 0;
    is_complete &= json_object_set_new(reply, "tiers", tiers) == 0;
    return is_complete ? 0 : -ENOMEM;
}

static int open_legacy(struct berth_shared_segment *segment, json_t *reply,
                       struct berth_failure *failure)
{
    char text[BERTH_BASE64_TEXT_SIZE(sizeof(struct berth_cu_ipc_handle))];
    struct berth_cu_ipc_handle handle;
    int r = berth__shared_segment_handle(segment, &handle, failure);

    if (r < 0)
        return r;
    return add(reply, "handle", json_string(berth__base64_encode(&handle, sizeof(handle), text)));
}

static int open_descriptor(struct berth_shared_segment *segment, struct berth_exchange *exchange,
                           struct berth_failure *failure)
{
    int fd, r;

    exchange->gives_descriptor = true;
    if (!exchange->handover)
        return 0; /* the server makes one and asks again */
    r = berth__shared_segment_descriptor(segment, &fd, failure);
    if (r == 0) {
        r = berth__handover_give(exchange->handover, fd);
        close(fd);
        if (r < 0)
            r = berth__failure_set(failure, "no-handover",
                                   "the descriptor could not be brought to the socket: %s",
                                   strerrordesc_np(-r));
    }
    exchange->gives_descriptor = r == 0;
    return r;
}

int berth__shared_json_open(const json_t *request, struct berth_exchange *exchange, json_t *reply,
                            struct berth_failure *failure)
{
    struct berth_shared_segment *segment;
    char uuid[BERTH_SHARED_UUID_TEXT_MAX];
    const char *name;
    int r = need_text(request, "name", &name, failure);

    if (r == 0)
        r = berth__shared_check_driver(failure);
    if (r < 0)
        return r;
    segment = berth__shared_segment_find(name, failure);
    if (!segment)
        return -EINVAL;
    r = segment->is_legacy ? open_legacy(segment, reply, failure)
                           : open_descriptor(segment, exchange, failure);
    if (r == 0)
        r = add(reply, "size", json_integer((json_int_t)segment->size));
    if (r == 0)
        r = add(reply, "uuid", json_string(berth__shared_uuid_text(segment->uuid, uuid)));
    return r == 0 ? add(reply, "kind", json_string(kind_of(segment))) : r;
}

int berth__shared_json_attach(const json_t *request, struct berth_failure *failure)
{
    struct berth_shared_source source = {.offset = UINT64_MAX, .size = UINT64_MAX};
    const char *tier;
    int r = need_text(request, "tier", &tier, failure);

    if (r == 0)
        r = read_text(request, "from", &source.from, failure);
    if (r == 0)
        r = read_text(request, "name", &source.segment, failure);
    if (r == 0)
        r = read_size(request, "offset", &source.offset, failure);
    if (r == 0)
        r = read_size(request, "size", &source.size, failure);
    return r == 0 ? berth__shared_tier_attach(tier, &source, failure) : r;
}

int berth__shared_json_detach(const json_t *request, struct berth_failure *failure)
{
    const char *tier;
    int r = need_text(request, "tier", &tier, failure);

    return r == 0 ? berth__shared_tier_detach(tier, failure) : r;
}
