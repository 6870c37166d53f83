/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/move_json.h"

#include "alloc/move_door.h"
#include "alloc/quantity.h"
#include "alloc/tier_ops.h"
#include "ipc/move_thread.h"

#include <errno.h>
#include <string.h>

static int put(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

static int read_tier(const json_t *request, const char *key, berth_tier_id *ret,
                     struct berth_failure *failure)
{
    const json_t *value = json_object_get(request, key);
    const char *name = json_string_value(value);

    *ret = BERTH_TIER_NONE;
    if (!value)
        return 0;
    if (!name)
        return berth__failure_set(failure, "bad-request",
                                  "\"%s\" is no text; expected the name of a tier", key);
    *ret = berth__tier_find(name);
    if (*ret == BERTH_TIER_NONE)
        return berth__failure_set(failure, "no-tier", "\"%s\": this process has no tier '%.64s'",
                                  key, name);
    if (!(berth__tier(*ret)->sides & BERTH_SIDE_HOST))
        return berth__failure_set(failure, "no-tier", "\"%s\": tier '%.64s' has no host memory",
                                  key, name);
    return 0;
}

static int read_tags(const json_t *request, unsigned *ret, struct berth_failure *failure)
{
    const json_t *value = json_object_get(request, "tag");
    const char *name = json_string_value(value);
    int tag = name ? berth__tag_from_name(name) : -EINVAL;

    *ret = 0;
    if (!value)
        return 0;
    if (tag < 0)
        return berth__failure_set(failure, "bad-request",
                                  "\"tag\" is no tag; expected weight, activation, kv, workspace "
                                  "or untagged");
    *ret = 1u << tag;
    return 0;
}

static int read_max(const json_t *request, uint64_t *ret, struct berth_failure *failure)
{
    const json_t *value = json_object_get(request, "max_bytes");
    const char *text = json_string_value(value);

    *ret = 0;
    if (!value)
        return 0;
    if (json_is_integer(value) && json_integer_value(value) > 0) {
        *ret = (uint64_t)json_integer_value(value);
        return 0;
    }
    if (text && berth__quantity_parse(text, strlen(text), ret) == 0 && *ret > 0)
        return 0;
    return berth__failure_set(failure, "bad-request",
                              "\"max_bytes\" is no size; expected a number of bytes or text as in "
                              "\"64M\"");
}

int berth__move_json_start(const json_t *request, json_t *reply, struct berth_failure *failure)
{
    struct berth_move_order order;
    uint64_t job = 0;
    char why[192];
    int r = read_tags(request, &order.tags, failure);

    if (r == 0)
        r = read_tier(request, "from", &order.from, failure);
    if (r == 0)
        r = read_tier(request, "to", &order.to, failure);
    if (r == 0)
        r = read_max(request, &order.max_bytes, failure);
    if (r < 0)
        return r;
    r = berth__move_thread_start(&order, &job, why, sizeof(why));
    if (r < 0)
        return berth__failure_set(failure, r == -EBUSY ? "busy" : "no-move", "%s", why);
    return put(reply, "job", json_integer((json_int_t)job));
}

static json_t *count_json(const struct berth_move_count *count)
{
    return json_pack("{s:I,s:I}", "blocks", (json_int_t)count->blocks, "bytes",
                     (json_int_t)count->bytes);
}

/* What was not moved: why, and how much. */
static json_t *refused_json(const struct berth_move_state *state)
{
    json_t *array = json_array();

    for (int i = 0; array && i < BERTH_MOVE_RESULT_COUNT; i++) {
        const struct berth_move_count *count = &state->result[i];
        json_t *entry;

        if (i == BERTH_MOVE_MOVED || count->blocks == 0)
            continue;
        entry = json_pack("{s:s,s:s,s:I,s:I}", "code", berth__move_result_info[i].code, "why",
                          berth__move_result_info[i].text, "blocks", (json_int_t)count->blocks,
                          "bytes", (json_int_t)count->bytes);
        if (json_array_append_new(array, entry) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static json_t *tiers_json(const struct berth_move_state *state)
{
    json_t *object = json_object();
    unsigned count = berth__tier_count();

    for (unsigned id = 0; object && id < count; id++) {
        json_t *tier;

        if (state->into[id].blocks == 0 && state->out_of[id].blocks == 0)
            continue;
        tier = json_pack("{s:o,s:o}", "into", count_json(&state->into[id]), "out_of",
                         count_json(&state->out_of[id]));
        if (json_object_set_new(object, berth__tier((berth_tier_id)id)->name, tier) < 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

static int add_state(json_t *reply, const struct berth_move_state *state)
{
    int r = put(reply, "job", json_integer((json_int_t)state->job));

    if (r == 0)
        r = put(reply, "running", json_boolean(state->is_running));
    if (r == 0)
        r = put(reply, "waits_for_quiescence", json_boolean(state->waits_for_quiet));
    if (r == 0)
        r = put(reply, "total", count_json(&state->total));
    if (r == 0)
        r = put(reply, "done", count_json(&state->done));
    if (r == 0)
        r = put(reply, "copied", json_integer((json_int_t)state->copied));
    if (r == 0)
        r = put(reply, "moved", count_json(&state->result[BERTH_MOVE_MOVED]));
    if (r == 0)
        r = put(reply, "refused", refused_json(state));
    if (r == 0)
        r = put(reply, "tiers", tiers_json(state));
    if (r == 0)
        r = put(reply, "too_small", json_integer((json_int_t)state->too_small));
    return r == 0 ? put(reply, "detail", json_string(state->why)) : r;
}

static int check_door(struct berth_failure *failure)
{
    if (berth__move_door)
        return 0;
    return berth__failure_set(failure, "no-move",
                              "libberth-malloc.so is not preloaded in this process");
}

int berth__move_json_state(json_t *reply, struct berth_failure *failure)
{
    struct berth_move_state state;
    int r = check_door(failure);

    if (r < 0)
        return r;
    berth__move_door->read(&state);
    return add_state(reply, &state);
}

int berth__move_json_cancel(json_t *reply, struct berth_failure *failure)
{
    int r = check_door(failure);

    if (r < 0)
        return r;
    berth__move_door->cancel();
    return berth__move_json_state(reply, failure);
}

int berth__move_json_probe(json_t *reply)
{
    bool sees_pins = false;
    char why[192] = "";
    json_t *json = json_null();

    if (berth__move_door) {
        int r = berth__move_door->probe(&sees_pins, why, sizeof(why));

        json = json_pack("{s:b,s:b,s:s}", "live", r == 0, "sees_pinned", sees_pins, "why",
                         r == 0 ? "" : why);
    }
    return put(reply, "move", json);
}
