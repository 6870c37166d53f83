/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/limit_json.h"

#include "alloc/device_vmm.h"
#include "alloc/limit.h"
#include "alloc/pool_tend.h"
#include "alloc/quantity.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static json_t *limit_json(unsigned which)
{
    struct berth_limit_counts refused = berth__limit_refused(which);
    uint64_t limit = berth__limit(which);

    return json_pack(
        "{s:o,s:o,s:I,s:I,s:I,s:s}", "tag",
        which == BERTH_LIMIT_PROCESS ? json_null() : json_string(berth__tag_name(which)), "limit",
        limit ? json_integer((json_int_t)limit) : json_null(), "used",
        (json_int_t)berth__limit_used(which), "refused_blocks", (json_int_t)refused.blocks,
        "refused_bytes", (json_int_t)refused.bytes, "origin",
        berth__origin_name(berth__option_origin(berth__limit_option(which))));
}

int berth__limit_json_add(json_t *object)
{
    json_t *array = json_array();

    /* The process's own comes first. */
    for (unsigned i = 0; array && i <= BERTH_TAG_COUNT; i++) {
        unsigned which = i == 0 ? BERTH_LIMIT_PROCESS : i - 1;

        if (json_array_append_new(array, limit_json(which)) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return json_object_set_new(object, "limits", array) < 0 ? -ENOMEM : 0;
}

/* Reads a number of bytes: an integer, a text as in "64K", or null, which is 0. */
static int read_bytes(const json_t *value, const char *key, uint64_t *ret,
                      struct berth_failure *failure)
{
    const char *text = json_string_value(value);

    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *ret = (uint64_t)json_integer_value(value);
        return 0;
    }
    if (json_is_null(value)) {
        *ret = 0;
        return 0;
    }
    if (text && berth__quantity_parse(text, json_string_length(value), ret) == 0)
        return 0;
    return berth__failure_set(failure, "bad-request",
                              "\"%s\" is no size; expected bytes, a text as in \"64K\", or null",
                              key);
}

/* The limit of the request's tag; the process's own where it names none. */
static int read_which(const json_t *request, unsigned *ret, struct berth_failure *failure)
{
    const json_t *tag = json_object_get(request, "tag");
    int found;

    *ret = BERTH_LIMIT_PROCESS;
    if (!tag || json_is_null(tag))
        return 0;
    found = json_is_string(tag) ? berth__tag_from_name(json_string_value(tag)) : -ENOENT;
    if (found < 0)
        return berth__failure_set(failure, "bad-request",
                                  "\"tag\" is no tag; expected weight, activation, kv, workspace "
                                  "or untagged");
    *ret = (unsigned)found;
    return 0;
}

static int set_limit(unsigned which, uint64_t bytes, struct berth_failure *failure)
{
    const char *name = berth__option_info[berth__limit_option(which)].name;
    char value[32], why[BERTH_OPTION_WHY_MAX];
    int length = snprintf(value, sizeof(value), "%llu", (unsigned long long)bytes);

    if (berth__option_set(name, strlen(name), value, (size_t)length, BERTH_ORIGIN_COMMAND, why) < 0)
        return berth__failure_set(failure, "bad-request", "%s", why);
    return 0;
}

int berth__limit_json_set(const json_t *request, json_t *reply, struct berth_failure *failure)
{
    const json_t *bytes = json_object_get(request, "bytes");
    uint64_t limit, excess, released = 0;
    unsigned which;
    int r = read_which(request, &which, failure);

    if (r == 0 && bytes)
        r = read_bytes(bytes, "bytes", &limit, failure);
    if (r == 0 && bytes)
        r = set_limit(which, limit, failure);
    if (r < 0)
        return r;
    excess = berth__limit_excess();
    if (excess > 0) {
        uint64_t cached = berth__pool_reclaimable(BERTH_POOL_ALL_DEVICES);

        released = berth__pool_trim(BERTH_POOL_ALL_DEVICES, cached > excess ? cached - excess : 0);
    }
    if (json_object_set_new(reply, "released", json_integer((json_int_t)released)) < 0)
        return -ENOMEM;
    return berth__limit_json_add(reply);
}

static int read_device(const json_t *request, int *ret, struct berth_failure *failure)
{
    const json_t *value = json_object_get(request, "device");
    int count = 0;

    *ret = BERTH_POOL_ALL_DEVICES;
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return berth__failure_set(failure, "bad-request",
                                  "\"device\" is no number; expected 0 or more");
    /* Where the driver does not say, there is none. */
    berth__device_count(&count);
    if (json_integer_value(value) >= count)
        return berth__failure_set(failure, "bad-request",
                                  "there is no device %lld; the process sees %d",
                                  (long long)json_integer_value(value), count);
    *ret = (int)json_integer_value(value);
    return 0;
}

int berth__limit_json_trim(const json_t *request, json_t *reply, struct berth_failure *failure)
{
    const json_t *bytes = json_object_get(request, "keep");
    uint64_t keep = 0, released;
    int device;
    int r = read_device(request, &device, failure);

    if (r == 0 && bytes)
        r = read_bytes(bytes, "keep", &keep, failure);
    if (r < 0)
        return r;
    released = berth__pool_trim(device, keep);
    if (json_object_set_new(reply, "released", json_integer((json_int_t)released)) < 0 ||
        json_object_set_new(reply, "cached",
                            json_integer((json_int_t)berth__pool_reclaimable(device))) < 0)
        return -ENOMEM;
    return 0;
}
