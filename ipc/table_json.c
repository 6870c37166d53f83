/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/table_json.h"

#include "ipc/base64.h"
#include "ipc/json.h"
#include "pmem/table.h"
#include "pmem/table_format.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* A copy of the table in force. */
struct table_copy {
    void *bytes; /* NULL: there is none */
    size_t size;
    uint64_t version;
    struct berth_table_view view;
};

/* One page of a list. */
struct page {
    json_t *array;
    size_t entries;
    size_t text; /* bytes of strings so far */
};

int berth__table_json_take(void **ret_bytes, size_t *ret_size, uint64_t *ret_version)
{
    void *bytes = NULL;
    size_t room = 0, size = 0;
    int r;

    while ((r = berth__table_copy(bytes, room, &size, ret_version)) == -ENOSPC) {
        free(bytes);
        room = size;
        bytes = malloc(room);
        if (!bytes)
            return -ENOMEM;
    }
    if (r < 0) {
        free(bytes);
        return r;
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

/* 0, also where there is no table; or -ENOMEM. */
static int copy_table(struct table_copy *ret)
{
    char why[BERTH_TABLE_WHY_MAX];
    int r;

    memset(ret, 0, sizeof(*ret));
    r = berth__table_json_take(&ret->bytes, &ret->size, &ret->version);
    if (r == -ENOMEM)
        return r;
    if (r < 0)
        return 0;
    /* What is in force was checked: this cannot fail. */
    r = berth__table_open(ret->bytes, ret->size, &ret->view, why, sizeof(why));
    if (r < 0) {
        free(ret->bytes);
        ret->bytes = NULL;
    }
    return 0;
}

static int set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

static bool page_has_room(const struct page *page)
{
    return page->array && page->entries < BERTH_PAGE_ENTRIES_MAX &&
           page->text < BERTH_PAGE_TEXT_MAX;
}

/* Appends an entry that holds about `text` bytes of strings. */
static void page_append(struct page *page, json_t *entry, size_t text)
{
    if (json_array_append_new(page->array, entry) < 0) {
        json_decref(page->array);
        page->array = NULL;
    }
    page->entries++;
    page->text += text;
}

/* A size; null stands for "no limit". */
static json_t *limit_json(uint64_t limit)
{
    return limit > INT64_MAX ? json_null() : json_integer((json_int_t)limit);
}

int berth__table_json_identity(json_t *object)
{
    uint64_t version = berth__table_version();
    char origin[1024] = "";

    if (version != 0)
        berth__table_origin(version, origin, sizeof(origin));
    return set(
        object, "table",
        json_pack("{s:I,s:o}", "version", (json_int_t)version, "origin", berth__json_text(origin)));
}

int berth__table_json_counts(json_t *object, uint64_t first)
{
    struct page page = {.array = json_array()};
    struct table_copy table;
    uint64_t count = 0;

    if (copy_table(&table) < 0)
        return -ENOMEM;
    if (table.bytes)
        count = table.view.header->rules.count;
    for (uint64_t i = first; i < count && page_has_room(&page); i++) {
        struct berth_rule_counts counts = {0};
        char name[BERTH_NAME_MAX];

        /* A table that was replaced meanwhile has no counters any more. */
        if (berth__table_rule_counts(table.version, (uint32_t)i, &counts) < 0)
            break;
        page_append(&page,
                    json_pack("{s:s,s:I,s:I,s:I,s:I}", "name",
                              berth__table_rule_name(table.version, (uint32_t)i, name),
                              "matched_blocks", (json_int_t)counts.matched_blocks, "matched_bytes",
                              (json_int_t)counts.matched_bytes, "spilled_blocks",
                              (json_int_t)counts.spilled_blocks, "spilled_bytes",
                              (json_int_t)counts.spilled_bytes),
                    sizeof(name));
    }
    free(table.bytes);
    if (set(object, "rule_count", json_integer((json_int_t)count)) < 0) {
        json_decref(page.array);
        return -ENOMEM;
    }
    return set(object, "rules", page.array);
}

static json_t *options_json(const struct table_copy *table)
{
    json_t *object = json_object();

    for (uint32_t i = 0; object && table->bytes && i < table->view.header->options.count; i++) {
        const struct berth_option_entry *entry = &table->view.options[i];

        if (json_object_set_new(object, berth__table_string(&table->view, entry->name),
                                berth__json_text(berth__table_string(&table->view, entry->value))) <
            0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

/* Why the tier could not be made; null for one that was. */
static json_t *missing_json(const struct table_copy *table, uint32_t tier)
{
    char why[BERTH_TABLE_WHY_MAX];

    berth__table_missing_why(table->version, tier, why);
    return why[0] ? berth__json_text(why) : json_null();
}

static json_t *tiers_json(const struct table_copy *table)
{
    struct page page = {.array = json_array()};

    for (uint32_t i = 0; table->bytes && page.array && i < table->view.header->tiers.count; i++) {
        struct berth_tier_config config;
        unsigned line = 0;

        berth__table_tier_info(&table->view, i, &config, &line);
        page_append(
            &page,
            json_pack("{s:s,s:s,s:o,s:o,s:s,s:o,s:I,s:s,s:s,s:s,s:s,s:o,s:s,s:o,s:o,s:i,s:o}",
                      "name", config.name, "kind", berth__kind_name(config.kind), "path",
                      berth__json_text(config.path), "capacity",
                      config.capacity ? limit_json(config.capacity) : json_null(), "fork",
                      config.fork == BERTH_FORK_SHARE ? "share" : "copy", "fork_copy_max",
                      limit_json(config.fork_copy_max), "decay_ms", (json_int_t)config.decay_ms,
                      "nodes", config.nodes, "numa", berth__numa_mode_name(config.numa),
                      "huge_pages", berth__huge_pages_name(config.huge_pages), "verify",
                      berth__verify_name(config.verify), "from", berth__json_text(config.from),
                      "segment", config.segment, "offset", limit_json(config.offset), "size",
                      limit_json(config.size), "line", (int)line, "missing",
                      missing_json(table, i)),
            0);
    }
    return page.array;
}

static const char *side_name(unsigned side)
{
    static const char *const names[] = {"none", "host", "device", "both"};

    return names[side & BERTH_SIDE_BOTH];
}

static json_t *sites_json(const struct table_copy *table, uint64_t first)
{
    struct page page = {.array = json_array()};
    uint64_t count = table->bytes ? table->view.header->sites.count : 0;

    for (uint64_t i = first; i < count && page_has_room(&page); i++) {
        struct berth_site_info info;

        berth__table_site_info(&table->view, (uint32_t)i, &info);
        page_append(&page,
                    json_pack("{s:s,s:o,s:s,s:s,s:o,s:o,s:i}", "name", info.name, "path",
                              berth__json_text(info.pattern), "tag", berth__tag_name(info.tag),
                              "side", side_name(info.side), "min_size", limit_json(info.min_size),
                              "max_size", limit_json(info.max_size), "line", (int)info.line),
                    strlen(info.pattern));
    }
    return page.array;
}

static json_t *rule_tags_json(unsigned tags)
{
    json_t *array = json_array();

    for (unsigned tag = 0; array && tag < BERTH_TAG_COUNT; tag++)
        if ((tags >> tag) & 1)
            json_array_append_new(array, json_string(berth__tag_name(tag)));
    return array;
}

static json_t *places_json(const struct berth_table_view *view, uint32_t rule, unsigned count)
{
    json_t *array = json_array();

    for (unsigned i = 0; array && i < count; i++)
        json_array_append_new(array, json_string(berth__table_place_name(view, rule, i)));
    return array;
}

static json_t *rules_json(const struct table_copy *table, uint64_t first)
{
    struct page page = {.array = json_array()};
    uint64_t count = table->bytes ? table->view.header->rules.count : 0;

    for (uint64_t i = first; i < count && page_has_room(&page); i++) {
        struct berth_rule_info info;

        berth__table_rule_info(&table->view, (uint32_t)i, &info);
        page_append(&page,
                    json_pack("{s:s,s:s,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:b,s:o,s:i}", "name",
                              info.name, "side", side_name(info.side), "tags",
                              rule_tags_json(info.tags), "site", berth__json_text(info.pattern),
                              "thread", berth__json_text(info.thread), "min_size",
                              limit_json(info.min_size), "max_size", limit_json(info.max_size),
                              "sequence_first", limit_json(info.sequence_first), "sequence_last",
                              limit_json(info.sequence_last), "movable", (int)info.movable,
                              "places", places_json(&table->view, (uint32_t)i, info.place_count),
                              "line", (int)info.line),
                    strlen(info.pattern) + strlen(info.thread) + info.place_count * BERTH_NAME_MAX);
    }
    return page.array;
}

int berth__table_json_show(json_t *object, uint64_t first_site, uint64_t first_rule)
{
    struct table_copy table;
    int r;

    if (copy_table(&table) < 0)
        return -ENOMEM;
    r = berth__table_json_identity(object);
    if (r == 0)
        r = set(object, "options", options_json(&table));
    if (r == 0)
        r = set(object, "tiers", tiers_json(&table));
    if (r == 0)
        r = set(object, "site_count",
                json_integer(table.bytes ? table.view.header->sites.count : 0));
    if (r == 0)
        r = set(object, "sites", sites_json(&table, first_site));
    if (r == 0)
        r = set(object, "rule_count",
                json_integer(table.bytes ? table.view.header->rules.count : 0));
    if (r == 0)
        r = set(object, "rules", rules_json(&table, first_rule));
    free(table.bytes);
    return r;
}

int berth__table_json_bytes(json_t *object, uint64_t first)
{
    struct table_copy table;
    size_t size = 0;
    char *text;
    int r;

    if (copy_table(&table) < 0)
        return -ENOMEM;
    if (first < table.size)
        size = table.size - first;
    if (size > BERTH_PAGE_BYTES_MAX)
        size = BERTH_PAGE_BYTES_MAX;
    text = malloc(BERTH_BASE64_TEXT_SIZE(size));
    if (!text) {
        free(table.bytes);
        return -ENOMEM;
    }
    berth__base64_encode((const char *)table.bytes + (size ? first : 0), size, text);
    r = set(object, "version", json_integer((json_int_t)table.version));
    if (r == 0)
        r = set(object, "size", json_integer((json_int_t)table.size));
    if (r == 0)
        r = set(object, "first", limit_json(first));
    if (r == 0)
        r = set(object, "data", json_string(text));
    free(text);
    free(table.bytes);
    return r;
}
