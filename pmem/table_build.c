/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/table_build.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One of the table's arrays while it grows: `used` bytes of entries. */
struct growing {
    char *bytes;
    size_t used, room;
};

/*
 * Places are kept as offsets of names in the string pool until the draft is finished, because a
 * rule may stand before the tiers that it names.
 */
struct berth_table_draft {
    struct growing options, tiers, sites, rules, places, strings;
};

#define refuse(...) (snprintf(why, why_size, __VA_ARGS__), -EINVAL)

static int reserve(struct growing *array, size_t size)
{
    size_t room = array->room ? array->room : 256;
    char *bytes;

    if (array->used + size <= array->room)
        return 0;
    while (room < array->used + size)
        room *= 2;
    bytes = realloc(array->bytes, room);
    if (!bytes)
        return -ENOMEM;
    array->bytes = bytes;
    array->room = room;
    return 0;
}

static int append(struct growing *array, const void *bytes, size_t size)
{
    int r = reserve(array, size);

    if (r == 0) {
        memcpy(array->bytes + array->used, bytes, size);
        array->used += size;
    }
    return r;
}

/* The empty string is the pool's first; others are stored as often as they are used. */
static int append_string(struct berth_table_draft *draft, const char *text, uint32_t *ret_offset)
{
    size_t at = draft->strings.used;
    int r;

    if (!text || !*text) {
        *ret_offset = 0;
        return 0;
    }
    if (at > UINT32_MAX)
        return -ENOMEM;
    r = append(&draft->strings, text, strlen(text) + 1);
    if (r == 0)
        *ret_offset = (uint32_t)at;
    return r;
}

struct berth_table_draft *berth__draft_new(void)
{
    struct berth_table_draft *draft = calloc(1, sizeof(*draft));

    if (draft && append(&draft->strings, "", 1) < 0) {
        free(draft);
        draft = NULL;
    }
    return draft;
}

void berth__draft_free(struct berth_table_draft *draft)
{
    if (!draft)
        return;
    free(draft->options.bytes);
    free(draft->tiers.bytes);
    free(draft->sites.bytes);
    free(draft->rules.bytes);
    free(draft->places.bytes);
    free(draft->strings.bytes);
    free(draft);
}

int berth__draft_add_option(struct berth_table_draft *draft, const char *name, const char *value)
{
    struct berth_option_entry entry;

    if (append_string(draft, name, &entry.name) < 0 ||
        append_string(draft, value, &entry.value) < 0)
        return -ENOMEM;
    return append(&draft->options, &entry, sizeof(entry));
}

int berth__draft_add_tier(struct berth_table_draft *draft, const struct berth_tier_config *tier,
                          unsigned line)
{
    struct berth_tier_entry entry = {
        .kind = tier->kind,
        .fork = tier->fork,
        .capacity = tier->capacity,
        .fork_copy_max = tier->fork_copy_max,
        .decay_ms = tier->decay_ms,
        .numa = tier->numa,
        .huge_pages = tier->huge_pages,
        .verify = tier->verify,
        .offset = tier->offset,
        .piece_size = tier->size,
        .line = line,
    };

    if (append_string(draft, tier->name, &entry.name) < 0 ||
        append_string(draft, tier->path, &entry.path) < 0 ||
        append_string(draft, tier->nodes, &entry.nodes) < 0 ||
        append_string(draft, tier->from, &entry.from) < 0 ||
        append_string(draft, tier->segment, &entry.segment) < 0)
        return -ENOMEM;
    return append(&draft->tiers, &entry, sizeof(entry));
}

int berth__draft_add_site(struct berth_table_draft *draft, const struct berth_site_info *site)
{
    struct berth_site_entry entry = {
        .tag = site->tag,
        .side = site->side,
        .min_size = site->min_size,
        .max_size = site->max_size,
        .line = site->line,
    };

    if (append_string(draft, site->name, &entry.name) < 0 ||
        append_string(draft, site->pattern, &entry.pattern) < 0)
        return -ENOMEM;
    return append(&draft->sites, &entry, sizeof(entry));
}

int berth__draft_add_rule(struct berth_table_draft *draft, const struct berth_rule_info *rule,
                          const char *const *places)
{
    size_t places_before = draft->places.used;
    struct berth_rule_entry entry = {
        .side = rule->side,
        .tags = rule->tags,
        .place_first = (uint32_t)(places_before / sizeof(uint32_t)),
        .place_count = rule->place_count,
        .movable = rule->movable,
        .line = rule->line,
        .min_size = rule->min_size,
        .max_size = rule->max_size,
        .sequence_first = rule->sequence_first,
        .sequence_last = rule->sequence_last,
    };

    if (append_string(draft, rule->name, &entry.name) < 0 ||
        append_string(draft, rule->pattern, &entry.pattern) < 0 ||
        append_string(draft, rule->thread, &entry.thread) < 0)
        return -ENOMEM;
    for (unsigned i = 0; i < rule->place_count; i++) {
        uint32_t name;

        if (append_string(draft, places[i], &name) < 0 ||
            append(&draft->places, &name, sizeof(name)) < 0)
            goto err_places;
    }
    if (append(&draft->rules, &entry, sizeof(entry)) == 0)
        return 0;
err_places:
    draft->places.used = places_before;
    return -ENOMEM;
}

/* A place by its tier's name; a table's own tiers come first. */
static int resolve_place(const struct berth_table_draft *draft, const char *name, uint32_t *ret)
{
    const struct berth_tier_entry *tiers = (const void *)draft->tiers.bytes;
    berth_tier_id builtin = berth__builtin_find(name);

    for (uint32_t i = 0; i < draft->tiers.used / sizeof(*tiers); i++)
        if (strcmp(draft->strings.bytes + tiers[i].name, name) == 0) {
            *ret = i;
            return 0;
        }
    if (builtin == BERTH_TIER_NONE)
        return -ENOENT;
    *ret = BERTH_PLACE_BUILTIN | builtin;
    return 0;
}

static int write_places(const struct berth_table_draft *draft, uint32_t *places, char *why,
                        size_t why_size)
{
    const uint32_t *names = (const void *)draft->places.bytes;

    for (size_t i = 0; i < draft->places.used / sizeof(*names); i++) {
        const char *name = draft->strings.bytes + names[i];

        if (resolve_place(draft, name, &places[i]) < 0)
            return refuse("place '%s' is no tier; expected the name of a tier section, or device, "
                          "pinned or dram",
                          name);
    }
    return 0;
}

static char *place_range(struct berth_table_range *range, const struct growing *array,
                         size_t entry_size, char *bytes, size_t *at)
{
    char *to = bytes + *at;

    range->offset = (uint32_t)*at;
    range->count = (uint32_t)(array->used / entry_size);
    if (array->used > 0)
        memcpy(to, array->bytes, array->used);
    *at += array->used;
    return to;
}

/* In the order that berth__table_open() expects; only the places need more than a copy. */
static int encode(const struct berth_table_draft *draft, char *bytes, size_t size, char *why,
                  size_t why_size)
{
    struct berth_table_header *header = (void *)bytes;
    size_t at = sizeof(*header);
    char *places;
    int r;

    memset(header, 0, sizeof(*header));
    header->magic = BERTH_TABLE_MAGIC;
    header->format = BERTH_TABLE_FORMAT;
    header->header_size = sizeof(*header);
    header->size = size;
    place_range(&header->tiers, &draft->tiers, sizeof(struct berth_tier_entry), bytes, &at);
    place_range(&header->sites, &draft->sites, sizeof(struct berth_site_entry), bytes, &at);
    place_range(&header->rules, &draft->rules, sizeof(struct berth_rule_entry), bytes, &at);
    place_range(&header->options, &draft->options, sizeof(struct berth_option_entry), bytes, &at);
    places = place_range(&header->places, &draft->places, sizeof(uint32_t), bytes, &at);
    place_range(&header->strings, &draft->strings, 1, bytes, &at);
    r = write_places(draft, (uint32_t *)(void *)places, why, why_size);
    if (r < 0)
        return r;
    header->checksum = berth__table_checksum(bytes, size);
    return 0;
}

int berth__draft_finish(struct berth_table_draft *draft, void **ret_bytes, size_t *ret_size,
                        char *why, size_t why_size)
{
    size_t size = sizeof(struct berth_table_header) + draft->tiers.used + draft->sites.used +
                  draft->rules.used + draft->options.used + draft->places.used +
                  draft->strings.used;
    struct berth_table_view view;
    char *bytes;
    int r;

    if (size > UINT32_MAX)
        return refuse("the table would have %zu bytes; expected less than 4 GiB", size);
    bytes = malloc(size);
    if (!bytes) {
        snprintf(why, why_size, "there is no memory for a table of %zu bytes", size);
        return -ENOMEM;
    }
    r = encode(draft, bytes, size, why, why_size);
    if (r == 0)
        r = berth__table_open(bytes, size, &view, why, why_size);
    if (r < 0) {
        free(bytes);
        return r;
    }
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

/* Both name the same section. */
static bool speaks_of(const char *change, const char *name)
{
    return change && strcmp(change, name) == 0;
}

struct patch {
    const struct berth_table_view *view;
    const struct berth_table_change *changes;
    size_t count;
    struct berth_table_draft *draft;
};

/* Later changes win over earlier ones. */
static int patch_tier(const struct patch *patch, uint32_t index)
{
    struct berth_tier_config tier;
    unsigned line;

    berth__table_tier_info(patch->view, index, &tier, &line);
    for (size_t i = 0; i < patch->count; i++)
        if (speaks_of(patch->changes[i].tier, tier.name) && patch->changes[i].capacity)
            tier.capacity = *patch->changes[i].capacity;
    return berth__draft_add_tier(patch->draft, &tier, line);
}

static int patch_rule(const struct patch *patch, uint32_t index)
{
    const char *kept[BERTH_TIER_MAX];
    const char *const *places = kept;
    struct berth_rule_info rule;

    berth__table_rule_info(patch->view, index, &rule);
    for (unsigned i = 0; i < rule.place_count; i++)
        kept[i] = berth__table_place_name(patch->view, index, i);
    for (size_t i = 0; i < patch->count; i++) {
        const struct berth_table_change *change = &patch->changes[i];

        if (!speaks_of(change->rule, rule.name))
            continue;
        if (change->places) {
            places = change->places;
            rule.place_count = change->place_count;
        }
        if (change->min_size)
            rule.min_size = *change->min_size;
        if (change->max_size)
            rule.max_size = *change->max_size;
    }
    return berth__draft_add_rule(patch->draft, &rule, places);
}

static int patch_all(const struct patch *patch)
{
    const struct berth_table_view *view = patch->view;
    int r = 0;

    for (uint32_t i = 0; r == 0 && i < view->header->options.count; i++)
        r = berth__draft_add_option(patch->draft, berth__table_string(view, view->options[i].name),
                                    berth__table_string(view, view->options[i].value));
    for (uint32_t i = 0; r == 0 && i < view->header->tiers.count; i++)
        r = patch_tier(patch, i);
    for (uint32_t i = 0; r == 0 && i < view->header->sites.count; i++) {
        struct berth_site_info site;

        berth__table_site_info(view, i, &site);
        r = berth__draft_add_site(patch->draft, &site);
    }
    for (uint32_t i = 0; r == 0 && i < view->header->rules.count; i++)
        r = patch_rule(patch, i);
    return r;
}

static bool has_rule(const struct berth_table_view *view, const char *name)
{
    for (uint32_t i = 0; i < view->header->rules.count; i++)
        if (strcmp(berth__table_string(view, view->rules[i].name), name) == 0)
            return true;
    return false;
}

static bool has_tier(const struct berth_table_view *view, const char *name)
{
    for (uint32_t i = 0; i < view->header->tiers.count; i++)
        if (strcmp(berth__table_string(view, view->tiers[i].name), name) == 0)
            return true;
    return false;
}

/* A change that would be passed over in silence is refused here. */
static int check_change(const struct berth_table_view *view,
                        const struct berth_table_change *change, char *why, size_t why_size)
{
    if (!change->rule == !change->tier)
        return refuse("a change names both or neither of a rule and a tier; expected one of them");
    if (change->rule && change->capacity)
        return refuse("rule %s cannot have a capacity; a tier has one", change->rule);
    if (change->tier && (change->places || change->min_size || change->max_size))
        return refuse("tier %s cannot have places or sizes; a rule has them", change->tier);
    if (change->places && change->place_count == 0)
        return refuse("rule %s would have no place; expected at least one tier", change->rule);
    if (change->rule && !has_rule(view, change->rule)) {
        snprintf(why, why_size, "the table has no rule '%s'", change->rule);
        return -ENOENT;
    }
    if (change->tier && !has_tier(view, change->tier)) {
        snprintf(why, why_size, "the table has no tier '%s'", change->tier);
        return -ENOENT;
    }
    return 0;
}

int berth__table_patch(const void *bytes, size_t size, const struct berth_table_change *changes,
                       size_t change_count, void **ret_bytes, size_t *ret_size, char *why,
                       size_t why_size)
{
    struct berth_table_view view;
    struct patch patch = {&view, changes, change_count, NULL};
    int r = berth__table_open(bytes, size, &view, why, why_size);

    for (size_t i = 0; r == 0 && i < change_count; i++)
        r = check_change(&view, &changes[i], why, why_size);
    if (r < 0)
        return r;
    patch.draft = berth__draft_new();
    r = patch.draft ? patch_all(&patch) : -ENOMEM;
    if (r == 0)
        r = berth__draft_finish(patch.draft, ret_bytes, ret_size, why, why_size);
    else
        snprintf(why, why_size, "there is no memory for the new table");
    berth__draft_free(patch.draft);
    return r;
}

bool berth__table_bytes_host_rule(const void *bytes, size_t size)
{
    struct berth_table_view view;
    char why[BERTH_NAME_MAX];

    return berth__table_open(bytes, size, &view, why, sizeof(why)) == 0 &&
           (berth__table_view_has_host_rule(&view) || berth__table_view_has_named_tier(&view));
}
