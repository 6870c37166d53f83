/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/table_load.h"

#include "alloc/log.h"
#include "alloc/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define refuse(...) (snprintf(why, why_size, __VA_ARGS__), -EINVAL)

static void *map_private(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/*
 * A copy that nobody else can write, and whose content is then checked. The file or memfd that the
 * caller has mapped may still change under us.
 */
static int copy_and_open(const void *bytes, size_t size, void **ret_copy,
                         struct berth_table_view *ret_view, char *why, size_t why_size)
{
    void *copy;
    int r;

    if (size == 0)
        return refuse("it is empty; expected a compiled table");
    copy = map_private(size);
    if (!copy) {
        snprintf(why, why_size, "there is no memory for a table of %zu bytes", size);
        return -ENOMEM;
    }
    memcpy(copy, bytes, size);
    r = berth__table_open(copy, size, ret_view, why, why_size);
    if (r < 0) {
        munmap(copy, size);
        return r;
    }
    *ret_copy = copy;
    return 0;
}

/* Where each part of the mapping begins. */
struct layout {
    size_t rules, patterns, bytes, placed, missing_why, origin, size;
};

static size_t add_part(size_t *size, size_t part)
{
    size_t at = (*size + 63) & ~(size_t)63;

    *size = at + part;
    return at;
}

static struct layout plan_layout(const struct berth_table_view *view, size_t bytes_size,
                                 const char *origin)
{
    const struct berth_table_header *header = view->header;
    size_t place_count = 0;
    struct layout layout = {.size = sizeof(struct berth_loaded_table)};

    for (uint32_t i = 0; i < header->rules.count; i++)
        place_count += view->rules[i].place_count;
    layout.rules = add_part(&layout.size, header->rules.count * sizeof(struct berth_rule_state));
    layout.patterns = add_part(&layout.size, ((size_t)header->sites.count + header->rules.count) *
                                                 sizeof(const char *));
    layout.bytes = add_part(&layout.size, bytes_size);
    /* Each place once per side. */
    layout.placed = add_part(&layout.size, place_count * 2 * sizeof(berth_tier_id));
    layout.missing_why = add_part(&layout.size, header->tiers.count * BERTH_TABLE_WHY_MAX);
    layout.origin = add_part(&layout.size, strlen(origin) + 1);
    return layout;
}

static void rebase_view(struct berth_table_view *view, const char *bytes)
{
    const struct berth_table_header *header = (const void *)bytes;

    view->header = header;
    view->options = (const void *)(bytes + header->options.offset);
    view->tiers = (const void *)(bytes + header->tiers.offset);
    view->sites = (const void *)(bytes + header->sites.offset);
    view->rules = (const void *)(bytes + header->rules.offset);
    view->places = (const void *)(bytes + header->places.offset);
    view->strings = bytes + header->strings.offset;
}

static struct berth_loaded_table *map_table(const struct berth_table_view *view, const void *bytes,
                                            size_t bytes_size, const char *origin)
{
    struct layout layout = plan_layout(view, bytes_size, origin);
    char *base = map_private(layout.size);
    struct berth_loaded_table *table = (void *)base;

    if (!base)
        return NULL;
    table->mapped_size = layout.size;
    table->bytes_size = bytes_size;
    table->rules = (void *)(base + layout.rules);
    table->patterns = (void *)(base + layout.patterns);
    table->placed = (void *)(base + layout.placed);
    table->missing_why = (void *)(base + layout.missing_why);
    table->origin = strcpy(base + layout.origin, origin);
    memcpy(base + layout.bytes, bytes, bytes_size);
    rebase_view(&table->view, base + layout.bytes);
    return table;
}

/*
 * A running program cannot change a tier but for its capacity: blocks live in it. Looked at before
 * anything is made, so that a refused table changes nothing.
 */
static int check_existing_tiers(const struct berth_table_view *view, char *why, size_t why_size)
{
    for (uint32_t i = 0; i < view->header->tiers.count; i++) {
        struct berth_tier_config config;
        const struct berth_tier *tier;
        const char *difference;

        berth__table_tier_info(view, i, &config, NULL);
        tier = berth__tier(berth__tier_find(config.name));
        difference = tier ? berth__tier_difference(tier, &config) : NULL;
        if (difference)
            return refuse("tier %s is of kind %s%s%s in this process, and its %s cannot change "
                          "while it runs; expected the same, or another name",
                          config.name, berth__kind_name(tier->kind), tier->path[0] ? " at " : "",
                          tier->path, difference);
    }
    return 0;
}

static const char *find_option_value(const struct berth_table_view *view, const char *name)
{
    const char *value = NULL;

    for (uint32_t i = 0; i < view->header->options.count; i++)
        if (strcmp(berth__table_string(view, view->options[i].name), name) == 0)
            value = berth__table_string(view, view->options[i].value);
    return value;
}

/* An option that only the table before had set goes back to its default. */
static void set_options(const struct berth_table_view *view)
{
    for (int i = 0; i < BERTH_OPTION_COUNT; i++) {
        const char *name = berth__option_info[i].name;
        const char *value = find_option_value(view, name);
        char why[BERTH_OPTION_WHY_MAX];

        if (value)
            berth__option_set(name, strlen(name), value, strlen(value), BERTH_ORIGIN_POLICY, why);
        else
            berth__option_unset((enum berth_option)i, BERTH_ORIGIN_POLICY);
    }
}

static bool was_missing(const struct berth_loaded_table *before, const char *name)
{
    for (uint32_t i = 0; before && i < before->view.header->tiers.count; i++)
        if (strcmp(berth__table_string(&before->view, before->view.tiers[i].name), name) == 0)
            return (before->missing_tiers >> i) & 1;
    return false;
}

static const char *told_names;

void berth__table_set_told(const char *names)
{
    told_names = names;
}

bool berth__table_was_told(const char *name)
{
    const char *told = told_names;
    size_t length = strlen(name);

    if (told && strcmp(told, "*") == 0)
        return true;
    while (told && *told) {
        size_t n = strcspn(told, ",");

        if (n == length && memcmp(told, name, n) == 0)
            return true;
        told += n + (told[n] == ',');
    }
    return false;
}

static void make_tiers(struct berth_loaded_table *table, berth_tier_id ids[BERTH_TABLE_TIERS_MAX],
                       const struct berth_loaded_table *before)
{
    for (uint32_t i = 0; i < table->view.header->tiers.count; i++) {
        struct berth_tier_config config;
        char why[BERTH_TABLE_WHY_MAX];

        berth__table_tier_info(&table->view, i, &config, NULL);
        if (berth__tier_ensure(&config, &ids[i], why, sizeof(why)) == 0)
            continue;
        ids[i] = BERTH_TIER_NONE;
        table->missing_tiers |= UINT64_C(1) << i;
        strcpy(table->missing_why[i], why);
        if (!was_missing(before, config.name))
            berth__log(berth__table_was_told(config.name) ? BERTH_LOG_INFO : BERTH_LOG_WARNING,
                       BERTH_TOPIC_POLICY,
                       "tier %s cannot be had: %s; rules go on to their next place", config.name,
                       why);
    }
}

/* Whether blocks of this side can be put in the tier now. */
static bool tier_serves(berth_tier_id id, enum berth_side side)
{
    const struct berth_tier *tier = berth__tier(id);

    if (!tier || !(tier->sides & side))
        return false;
    if (id == BERTH_TIER_DRAM || id == BERTH_TIER_DEVICE)
        return true;
    return tier->ops && (side == BERTH_SIDE_DEVICE || tier->ops->commit != NULL);
}

static unsigned resolve_side(struct berth_loaded_table *table, uint32_t rule,
                             const berth_tier_id *ids, enum berth_side side, berth_tier_id *to)
{
    const struct berth_rule_entry *entry = &table->view.rules[rule];
    unsigned count = 0;

    if (!(table->rules[rule].sides & side))
        return 0;
    for (uint32_t i = 0; i < entry->place_count; i++) {
        uint32_t place = table->view.places[entry->place_first + i];
        berth_tier_id id = place & BERTH_PLACE_BUILTIN
                               ? (berth_tier_id)(place & ~BERTH_PLACE_BUILTIN)
                               : ids[place];

        if (id != BERTH_TIER_NONE && tier_serves(id, side))
            to[count++] = id;
    }
    return count;
}

static void resolve_rules(struct berth_loaded_table *table, const berth_tier_id *ids)
{
    const struct berth_table_view *view = &table->view;
    uint64_t placed = 0;

    table->host_min_size = SIZE_MAX;
    for (uint32_t i = 0; i < view->header->rules.count; i++) {
        struct berth_rule_state *rule = &table->rules[i];
        const struct berth_rule_entry *entry = &view->rules[i];

        rule->sides = berth__table_rule_sides(view, i);
        rule->placed_first = placed;
        rule->host_count = resolve_side(table, i, ids, BERTH_SIDE_HOST, &table->placed[placed]);
        placed += rule->host_count;
        rule->device_count = resolve_side(table, i, ids, BERTH_SIDE_DEVICE, &table->placed[placed]);
        placed += rule->device_count;
        if ((rule->sides & BERTH_SIDE_HOST) && entry->min_size < table->host_min_size)
            table->host_min_size = entry->min_size;
    }
}

static void collect_patterns(struct berth_loaded_table *table)
{
    const struct berth_table_view *view = &table->view;
    uint32_t count = 0;

    for (uint32_t i = 0; i < view->header->sites.count; i++) {
        table->patterns[count++] = berth__table_string(view, view->sites[i].pattern);
        table->site_sides |= view->sites[i].side;
    }
    for (uint32_t i = 0; i < view->header->rules.count; i++) {
        struct berth_rule_state *rule = &table->rules[i];

        rule->pattern = BERTH_RULE_NONE;
        if (view->rules[i].pattern == 0)
            continue;
        rule->pattern = count;
        table->patterns[count++] = berth__table_string(view, view->rules[i].pattern);
        table->site_sides |= rule->sides;
    }
    berth__site_cache_init(&table->sites, table->patterns, count, BERTH_TABLE_PLANS);
}

int berth__table_load(const void *bytes, size_t size, const char *origin,
                      const struct berth_loaded_table *before, struct berth_loaded_table **ret,
                      char *why, size_t why_size)
{
    berth_tier_id ids[BERTH_TABLE_TIERS_MAX];
    struct berth_loaded_table *table;
    struct berth_table_view view;
    void *copy;
    int r = copy_and_open(bytes, size, &copy, &view, why, why_size);

    if (r < 0)
        return r;
    r = check_existing_tiers(&view, why, why_size);
    if (r < 0)
        goto out;
    table = map_table(&view, copy, size, origin);
    if (!table) {
        snprintf(why, why_size, "there is no memory for a table of %zu bytes", size);
        r = -ENOMEM;
        goto out;
    }
    /* Nothing fails from here on. */
    set_options(&table->view);
    make_tiers(table, ids, before);
    resolve_rules(table, ids);
    collect_patterns(table);
    *ret = table;
out:
    munmap(copy, size);
    return r;
}

void berth__table_unload(struct berth_loaded_table *table)
{
    berth__site_cache_done(&table->sites);
    berth__plan_arena_done(&table->plans);
    munmap(table, table->mapped_size);
}
