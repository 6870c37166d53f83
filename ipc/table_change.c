/* SPDX-License-Identifier: Apache-2.0 */
/* Tables that clients send, whole or as changes of the one in force. */
#include "alloc/log.h"
#include "alloc/quantity.h"
#include "ipc/control.h"
#include "ipc/table_json.h"
#include "pmem/table.h"
#include "pmem/table_build.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A change as it is being read, and what it points to. */
struct change {
    struct berth_table_change change;
    uint64_t min_size, max_size, capacity;
    const char **places;
};

/* Whether some part of the table names a call path, or wants them all. */
static bool names_sites(const void *bytes, size_t size)
{
    struct berth_table_view view;
    char why[BERTH_TABLE_WHY_MAX];

    if (berth__table_open(bytes, size, &view, why, sizeof(why)) < 0)
        return false;
    if (view.header->sites.count > 0)
        return true;
    for (uint32_t i = 0; i < view.header->rules.count; i++)
        if (view.rules[i].pattern != 0)
            return true;
    for (uint32_t i = 0; i < view.header->options.count; i++)
        if (strcmp(berth__table_string(&view, view.options[i].name), "sites") == 0)
            return true;
    return berth__table_reads_sites();
}

int berth__table_json_apply(const void *bytes, size_t size, const char *origin,
                            int64_t expected_version, struct berth_failure *failure)
{
    static _Atomic int said;
    uint64_t version = berth__table_version();
    char why[BERTH_TABLE_WHY_MAX];

    if (expected_version >= 0 && (uint64_t)expected_version != version)
        return berth__failure_set(failure, "stale",
                                  "version %llu is in force; the request expected %lld",
                                  (unsigned long long)version, (long long)expected_version);
    if (berth__control_load_callsite && names_sites(bytes, size) &&
        berth__control_load_callsite(why, sizeof(why)) < 0)
        berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_SITE,
                        "%s; call paths are return addresses alone", why);
    if (berth__table_install(bytes, size, origin, why, sizeof(why)) < 0)
        return berth__failure_set(failure, "bad-table", "%s; the policy in force stays", why);
    return 0;
}

/* A number of bytes: an integer, or text such as "64K". */
static int read_size(const json_t *value, const char *key, uint64_t *ret,
                     struct berth_failure *failure)
{
    const char *text = json_string_value(value);

    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *ret = (uint64_t)json_integer_value(value);
        return 0;
    }
    if (text && berth__quantity_parse(text, strlen(text), ret) == 0)
        return 0;
    return berth__failure_set(failure, "bad-patch",
                              "\"%s\" is no size; expected a number of bytes or text as in \"64K\"",
                              key);
}

/* 0 stands for "no limit" inside; from an agent that means "nothing" it must not become that. */
static int read_capacity(const json_t *value, struct change *change, struct berth_failure *failure)
{
    int r;

    change->change.capacity = &change->capacity;
    change->capacity = 0;
    if (json_is_null(value))
        return 0;
    r = read_size(value, "capacity", &change->capacity, failure);
    if (r == 0 && change->capacity == 0)
        r = berth__failure_set(failure, "bad-patch",
                               "\"capacity\" is 0; expected a size, or null for no limit");
    return r;
}

static int read_places(const json_t *value, struct change *change, struct berth_failure *failure)
{
    size_t count = json_array_size(value);

    if (!json_is_array(value) || count == 0 || count > BERTH_TIER_MAX)
        return berth__failure_set(failure, "bad-patch",
                                  "\"places\" is no list of 1 to %d names of tiers",
                                  BERTH_TIER_MAX);
    change->places = malloc(count * sizeof(*change->places));
    if (!change->places)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        change->places[i] = json_string_value(json_array_get(value, i));
        if (!change->places[i])
            return berth__failure_set(failure, "bad-patch",
                                      "\"places\" has an entry that is no text; expected the name "
                                      "of a tier");
    }
    change->change.places = change->places;
    change->change.place_count = (unsigned)count;
    return 0;
}

static int read_field(const char *key, const json_t *value, struct change *change,
                      struct berth_failure *failure)
{
    struct berth_table_change *c = &change->change;

    if (strcmp(key, "rule") == 0 || strcmp(key, "tier") == 0) {
        if (!json_is_string(value))
            return berth__failure_set(failure, "bad-patch", "\"%s\" is no text; expected a name",
                                      key);
        *(*key == 'r' ? &c->rule : &c->tier) = json_string_value(value);
        return 0;
    }
    if (strcmp(key, "places") == 0)
        return read_places(value, change, failure);
    if (strcmp(key, "min_size") == 0) {
        c->min_size = &change->min_size;
        return read_size(value, key, &change->min_size, failure);
    }
    if (strcmp(key, "max_size") == 0) {
        c->max_size = &change->max_size;
        change->max_size = UINT64_MAX;
        return json_is_null(value) ? 0 : read_size(value, key, &change->max_size, failure);
    }
    if (strcmp(key, "capacity") == 0)
        return read_capacity(value, change, failure);
    return berth__failure_set(failure, "bad-patch",
                              "\"%.64s\" cannot be changed; expected places, min_size or max_size "
                              "of a rule, or capacity of a tier",
                              key);
}

static int read_change(json_t *object, struct change *change, struct berth_failure *failure)
{
    const struct berth_table_change *c = &change->change;
    void *iter;
    int r = 0;

    if (!json_is_object(object))
        return berth__failure_set(failure, "bad-patch",
                                  "a change is no object; expected {\"rule\":...} or "
                                  "{\"tier\":...}");
    for (iter = json_object_iter(object); r == 0 && iter;
         iter = json_object_iter_next(object, iter))
        r = read_field(json_object_iter_key(iter), json_object_iter_value(iter), change, failure);
    if (r < 0)
        return r;
    if (!c->rule == !c->tier)
        return berth__failure_set(failure, "bad-patch",
                                  "a change names neither or both; expected a \"rule\" or a "
                                  "\"tier\"");
    if (c->rule ? c->capacity != NULL : c->places || c->min_size || c->max_size)
        return berth__failure_set(failure, "bad-patch",
                                  "a rule has no capacity, and a tier has nothing else");
    if (!c->places && !c->min_size && !c->max_size && !c->capacity)
        return berth__failure_set(failure, "bad-patch",
                                  "a change of %s changes nothing; expected a new value",
                                  c->rule ? c->rule : c->tier);
    return 0;
}

static int patch_and_install(const struct berth_table_change *changes, size_t count,
                             const char *origin, int64_t expected_version,
                             struct berth_failure *failure)
{
    void *before = NULL, *after = NULL;
    size_t before_size = 0, after_size = 0;
    uint64_t version = 0;
    char why[BERTH_TABLE_WHY_MAX];
    int r = berth__table_json_take(&before, &before_size, &version);

    if (r == -ENOMEM)
        return r;
    if (r < 0)
        return berth__failure_set(failure, "bad-patch",
                                  "no policy is in force; expected policy.apply first");
    r = berth__table_patch(before, before_size, changes, count, &after, &after_size, why,
                           sizeof(why));
    free(before);
    if (r == -ENOMEM)
        return r;
    if (r < 0)
        return berth__failure_set(failure, "bad-patch", "%s; the policy in force stays", why);
    r = berth__table_json_apply(after, after_size, origin, expected_version, failure);
    free(after);
    return r;
}

int berth__table_json_patch(const json_t *changes, const char *origin, int64_t expected_version,
                            struct berth_failure *failure)
{
    size_t count = json_array_size(changes);
    struct change *read;
    struct berth_table_change *list;
    int r = 0;

    if (!json_is_array(changes) || count == 0)
        return berth__failure_set(failure, "bad-request",
                                  "\"changes\" is no list; expected at least one change");
    read = calloc(count, sizeof(*read));
    list = calloc(count, sizeof(*list));
    if (!read || !list)
        r = -ENOMEM;
    for (size_t i = 0; r == 0 && i < count; i++) {
        r = read_change(json_array_get(changes, i), &read[i], failure);
        list[i] = read[i].change;
    }
    if (r == 0)
        r = patch_and_install(list, count, origin, expected_version, failure);
    for (size_t i = 0; read && i < count; i++)
        free(read[i].places);
    free(read);
    free(list);
    return r;
}
