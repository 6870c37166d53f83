/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/table_format.h"

#include "alloc/options.h"
#include "alloc/site_pattern.h"
#include "alloc/size_class.h"
#include "pmem/node_set.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define refuse(...) (snprintf(why, why_size, __VA_ARGS__), -EINVAL)

static const struct {
    const char *name;
    enum berth_tier_kind kind;
} builtins[] = {
    [BERTH_TIER_DEVICE] = {"device", BERTH_KIND_DEVICE},
    [BERTH_TIER_PINNED] = {"pinned", BERTH_KIND_PINNED},
    [BERTH_TIER_DRAM] = {"dram", BERTH_KIND_DRAM},
};
#define BUILTIN_COUNT (sizeof(builtins) / sizeof(builtins[0]))

berth_tier_id berth__builtin_find(const char *name)
{
    for (unsigned i = 0; i < BUILTIN_COUNT; i++)
        if (strcmp(builtins[i].name, name) == 0)
            return (berth_tier_id)i;
    return BERTH_TIER_NONE;
}

unsigned berth__kind_sides(enum berth_tier_kind kind)
{
    switch (kind) {
    case BERTH_KIND_DEVICE:
    case BERTH_KIND_SHARED:
        return BERTH_SIDE_DEVICE;
    case BERTH_KIND_PINNED:
    case BERTH_KIND_DRAM:
    case BERTH_KIND_FILE:
    case BERTH_KIND_DAX:
    case BERTH_KIND_NUMA:
        return BERTH_SIDE_HOST;
    default:
        return 0;
    }
}

int berth__name_check(const char *name, char *why, size_t why_size)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t length = strlen(name);

    if (length == 0)
        return refuse("the name is empty; expected letters, digits, '_', '-' or '.'");
    if (length >= BERTH_NAME_MAX)
        return refuse("the name '%.32s...' has %zu characters; expected at most %d", name, length,
                      BERTH_NAME_MAX - 1);
    if (strspn(name, allowed) != length)
        return refuse("'%s' is not a name; expected letters, digits, '_', '-' or '.'", name);
    return 0;
}

/* FNV-1a: it finds damage, and is no defence; what follows it is. */
static uint64_t mix(uint64_t sum, const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ bytes[i]) * UINT64_C(0x100000001b3);
    return sum;
}

uint64_t berth__table_checksum(const void *bytes, size_t size)
{
    static const unsigned char zero[sizeof(uint64_t)];
    const size_t at = offsetof(struct berth_table_header, checksum);
    const unsigned char *p = bytes;
    uint64_t sum = mix(UINT64_C(0xcbf29ce484222325), p, at);

    sum = mix(sum, zero, sizeof(zero));
    return mix(sum, p + at + sizeof(zero), size - at - sizeof(zero));
}

static int check_header(const struct berth_table_header *header, size_t size, char *why,
                        size_t why_size)
{
    if (size < sizeof(*header))
        return refuse("it has %zu bytes; a compiled table has at least %zu", size, sizeof(*header));
    if (header->magic != BERTH_TABLE_MAGIC)
        return refuse(
            "it is not a compiled table; expected a file that `berth policy compile` made");
    if (header->format != BERTH_TABLE_FORMAT || header->header_size != sizeof(*header))
        return refuse("its format is %u; this version reads format %u: compile the policy again",
                      header->format, BERTH_TABLE_FORMAT);
    if (header->size != size)
        return refuse("it has %zu bytes but says %llu; it was cut or extended", size,
                      (unsigned long long)header->size);
    if (header->checksum != berth__table_checksum(header, size))
        return refuse("its checksum does not match its content; it was damaged");
    return 0;
}

/* Ranges lie one after the other without a gap, in the header's order, and end with the table. */
static int check_ranges(const struct berth_table_header *header, char *why, size_t why_size)
{
    const struct {
        const struct berth_table_range *range;
        size_t entry;
        const char *what;
    } ranges[] = {
        {&header->tiers, sizeof(struct berth_tier_entry), "tiers"},
        {&header->sites, sizeof(struct berth_site_entry), "sites"},
        {&header->rules, sizeof(struct berth_rule_entry), "rules"},
        {&header->options, sizeof(struct berth_option_entry), "options"},
        {&header->places, sizeof(uint32_t), "places"},
        {&header->strings, 1, "strings"},
    };
    uint64_t at = sizeof(*header);

    for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        uint64_t length = (uint64_t)ranges[i].range->count * ranges[i].entry;

        if (ranges[i].range->offset != at || length > header->size - at)
            return refuse("its %s lie outside the table", ranges[i].what);
        at += length;
    }
    if (at != header->size)
        return refuse("it has bytes that belong to nothing");
    return 0;
}

static int check_strings(const struct berth_table_view *view, char *why, size_t why_size)
{
    uint32_t count = view->header->strings.count;

    /* Then every offset below the count is a string that ends within the pool. */
    if (count == 0 || view->strings[0] != '\0' || view->strings[count - 1] != '\0')
        return refuse("its strings do not end");
    for (uint32_t i = 0; i < count; i++)
        if (((unsigned char)view->strings[i] < ' ' && view->strings[i] != '\0') ||
            view->strings[i] == 127)
            return refuse("a string has a control character");
    return 0;
}

static bool string_is_inside(const struct berth_table_view *view, uint32_t offset)
{
    return offset < view->header->strings.count;
}

/* A section's name: inside the pool, and well formed. */
static int check_name(const struct berth_table_view *view, uint32_t offset, const char *what,
                      uint32_t index, char *why, size_t why_size)
{
    char reason[BERTH_NAME_MAX * 2 + 64];

    if (!string_is_inside(view, offset))
        return refuse("the name of %s %u lies outside the table", what, index);
    if (berth__name_check(berth__table_string(view, offset), reason, sizeof(reason)) < 0)
        return refuse("%s %u: %s", what, index, reason);
    return 0;
}

static int check_options(const struct berth_table_view *view, char *why, size_t why_size)
{
    char reason[BERTH_OPTION_WHY_MAX];

    for (uint32_t i = 0; i < view->header->options.count; i++) {
        const struct berth_option_entry *entry = &view->options[i];
        const char *name, *value;

        if (!string_is_inside(view, entry->name) || !string_is_inside(view, entry->value))
            return refuse("option %u lies outside the table", i);
        name = berth__table_string(view, entry->name);
        value = berth__table_string(view, entry->value);
        if (berth__option_set(name, strlen(name), value, strlen(value), BERTH_ORIGIN_DEFAULT,
                              reason) < 0)
            return refuse("%s", reason);
    }
    return 0;
}

/* The nodes in the one form that they have, and the choices that exist. */
static int check_memory(const struct berth_table_view *view, const struct berth_tier_entry *entry,
                        const char *name, char *why, size_t why_size)
{
    struct berth_node_set set = {0};
    char reason[BERTH_NODES_WHY_MAX];

    if (!string_is_inside(view, entry->nodes))
        return refuse("the nodes of tier %s lie outside the table", name);
    if (berth__node_set_add(&set, berth__table_string(view, entry->nodes), reason, sizeof(reason)) <
        0)
        return refuse("the nodes of tier %s: %s", name, reason);
    if (entry->numa >= BERTH_NUMA_COUNT || entry->huge_pages >= BERTH_HUGE_COUNT ||
        entry->verify >= BERTH_VERIFY_COUNT)
        return refuse("tier %s has numa %u, huge-pages %u and verify %u, of which one does not "
                      "exist",
                      name, entry->numa, entry->huge_pages, entry->verify);
    return 0;
}

/* What a shared tier borrows, or what a named one is kept under. Who it is from is looked at when
 * it is asked. */
static int check_piece(const struct berth_table_view *view, const struct berth_tier_entry *entry,
                       const char *name, char *why, size_t why_size)
{
    char reason[BERTH_NAME_MAX * 2 + 64];
    const char *segment;

    if (!string_is_inside(view, entry->from) || !string_is_inside(view, entry->segment))
        return refuse("the segment of tier %s lies outside the table", name);
    segment = berth__table_string(view, entry->segment);
    if (*segment && berth__name_check(segment, reason, sizeof(reason)) < 0)
        return refuse("the segment of tier %s: %s", name, reason);
    if ((entry->offset | entry->piece_size) % BERTH_GRANULE != 0 ||
        entry->offset + entry->piece_size < entry->offset)
        return refuse("tier %s has an offset or size that cannot be", name);
    return 0;
}

static int check_tier(const struct berth_table_view *view, uint32_t index, char *why,
                      size_t why_size)
{
    const struct berth_tier_entry *entry = &view->tiers[index];
    const char *name;
    int r = check_name(view, entry->name, "tier", index, why, why_size);

    if (r < 0)
        return r;
    name = berth__table_string(view, entry->name);
    if (berth__builtin_find(name) != BERTH_TIER_NONE)
        return refuse("tier %s has the name of a built-in tier", name);
    for (uint32_t i = 0; i < index; i++)
        if (strcmp(berth__table_string(view, view->tiers[i].name), name) == 0)
            return refuse("tier %s exists twice", name);
    if (!string_is_inside(view, entry->path))
        return refuse("the path of tier %s lies outside the table", name);
    if (entry->kind == BERTH_KIND_NONE || entry->kind >= BERTH_KIND_COUNT)
        return refuse("tier %s has kind %u, which does not exist", name, entry->kind);
    if (entry->fork > BERTH_FORK_SHARE)
        return refuse("tier %s has fork rule %u, which does not exist", name, entry->fork);
    if (entry->decay_ms < -1 || entry->zero != 0)
        return refuse("tier %s has a decay that cannot be", name);
    r = check_memory(view, entry, name, why, why_size);
    if (r < 0)
        return r;
    return check_piece(view, entry, name, why, why_size);
}

static int check_tiers(const struct berth_table_view *view, char *why, size_t why_size)
{
    int r;

    if (view->header->tiers.count > BERTH_TABLE_TIERS_MAX)
        return refuse("it has %u tiers; expected at most %d", view->header->tiers.count,
                      BERTH_TABLE_TIERS_MAX);
    for (uint32_t i = 0; i < view->header->tiers.count; i++) {
        r = check_tier(view, i, why, why_size);
        if (r < 0)
            return r;
    }
    return 0;
}

/* The pattern at `offset`, which the section called `name` gives. */
static int check_pattern(const struct berth_table_view *view, uint32_t offset, const char *name,
                         char *why, size_t why_size)
{
    char reason[BERTH_OPTION_WHY_MAX];

    if (!string_is_inside(view, offset))
        return refuse("the call path of %s lies outside the table", name);
    if (berth__site_pattern_check(berth__table_string(view, offset), reason, sizeof(reason)) < 0)
        return refuse("the call path of %s: %s", name, reason);
    return 0;
}

static bool side_exists(uint32_t side)
{
    return side >= BERTH_SIDE_HOST && side <= BERTH_SIDE_BOTH;
}

static int check_sites(const struct berth_table_view *view, char *why, size_t why_size)
{
    for (uint32_t i = 0; i < view->header->sites.count; i++) {
        const struct berth_site_entry *entry = &view->sites[i];
        const char *name;
        int r = check_name(view, entry->name, "site", i, why, why_size);

        if (r < 0)
            return r;
        name = berth__table_string(view, entry->name);
        if (entry->tag >= BERTH_TAG_COUNT || !side_exists(entry->side) || entry->zero != 0)
            return refuse("site %s has a tag or side that does not exist", name);
        if (entry->min_size > entry->max_size)
            return refuse("site %s has a smallest size above its largest", name);
        r = check_pattern(view, entry->pattern, name, why, why_size);
        if (r < 0)
            return r;
    }
    return 0;
}

static int check_places(const struct berth_table_view *view, const struct berth_rule_entry *entry,
                        const char *name, char *why, size_t why_size)
{
    const struct berth_table_header *header = view->header;

    if (entry->place_count == 0 || entry->place_count > BERTH_TIER_MAX ||
        entry->place_first > header->places.count ||
        entry->place_count > header->places.count - entry->place_first)
        return refuse("rule %s has places outside the table", name);
    for (uint32_t i = 0; i < entry->place_count; i++) {
        uint32_t place = view->places[entry->place_first + i];

        if (place & BERTH_PLACE_BUILTIN ? (place & ~BERTH_PLACE_BUILTIN) >= BUILTIN_COUNT
                                        : place >= header->tiers.count)
            return refuse("rule %s has a place that is no tier", name);
    }
    return 0;
}

static int check_rule(const struct berth_table_view *view, uint32_t index, char *why,
                      size_t why_size)
{
    const struct berth_rule_entry *entry = &view->rules[index];
    const char *name;
    int r = check_name(view, entry->name, "rule", index, why, why_size);

    if (r < 0)
        return r;
    name = berth__table_string(view, entry->name);
    if (!side_exists(entry->side) || entry->tags == 0 || (entry->tags & ~BERTH_TAGS_ALL) != 0)
        return refuse("rule %s has a tag or side that does not exist", name);
    if (entry->min_size > entry->max_size || entry->sequence_first > entry->sequence_last)
        return refuse("rule %s has a range that begins above its end", name);
    if (entry->movable > 1 || entry->zero != 0)
        return refuse("rule %s is movable in a way that does not exist", name);
    if (!string_is_inside(view, entry->thread))
        return refuse("the thread of rule %s lies outside the table", name);
    if (entry->pattern != 0) {
        r = check_pattern(view, entry->pattern, name, why, why_size);
        if (r < 0)
            return r;
    }
    return check_places(view, entry, name, why, why_size);
}

static int check_content(const struct berth_table_view *view, char *why, size_t why_size)
{
    int r = check_strings(view, why, why_size);

    if (r == 0)
        r = check_options(view, why, why_size);
    if (r == 0)
        r = check_tiers(view, why, why_size);
    if (r == 0)
        r = check_sites(view, why, why_size);
    for (uint32_t i = 0; r == 0 && i < view->header->rules.count; i++)
        r = check_rule(view, i, why, why_size);
    return r;
}

int berth__table_open(const void *bytes, size_t size, struct berth_table_view *ret, char *why,
                      size_t why_size)
{
    const struct berth_table_header *header = bytes;
    const char *base = bytes;
    struct berth_table_view view;
    int r;

    if ((uintptr_t)bytes % sizeof(uint64_t) != 0)
        return refuse("it is not aligned to %zu bytes", sizeof(uint64_t));
    r = check_header(header, size, why, why_size);
    if (r == 0)
        r = check_ranges(header, why, why_size);
    if (r < 0)
        return r;
    view.header = header;
    view.options = (const void *)(base + header->options.offset);
    view.tiers = (const void *)(base + header->tiers.offset);
    view.sites = (const void *)(base + header->sites.offset);
    view.rules = (const void *)(base + header->rules.offset);
    view.places = (const void *)(base + header->places.offset);
    view.strings = base + header->strings.offset;
    r = check_content(&view, why, why_size);
    if (r < 0)
        return r;
    *ret = view;
    return 0;
}

void berth__table_tier_info(const struct berth_table_view *view, uint32_t index,
                            struct berth_tier_config *ret, unsigned *ret_line)
{
    const struct berth_tier_entry *entry = &view->tiers[index];

    *ret = (struct berth_tier_config){
        .name = berth__table_string(view, entry->name),
        .kind = (enum berth_tier_kind)entry->kind,
        .path = berth__table_string(view, entry->path),
        .capacity = entry->capacity,
        .fork = (enum berth_fork_rule)entry->fork,
        .fork_copy_max = entry->fork_copy_max,
        .decay_ms = entry->decay_ms,
        .nodes = berth__table_string(view, entry->nodes),
        .numa = (enum berth_numa_mode)entry->numa,
        .huge_pages = (enum berth_huge_pages)entry->huge_pages,
        .verify = (enum berth_verify)entry->verify,
        .from = berth__table_string(view, entry->from),
        .segment = berth__table_string(view, entry->segment),
        .offset = entry->offset,
        .size = entry->piece_size,
    };
    if (ret_line)
        *ret_line = entry->line;
}

void berth__table_site_info(const struct berth_table_view *view, uint32_t index,
                            struct berth_site_info *ret)
{
    const struct berth_site_entry *entry = &view->sites[index];

    *ret = (struct berth_site_info){
        .name = berth__table_string(view, entry->name),
        .pattern = berth__table_string(view, entry->pattern),
        .tag = (enum berth_tag)entry->tag,
        .side = (enum berth_side)entry->side,
        .min_size = entry->min_size,
        .max_size = entry->max_size,
        .line = entry->line,
    };
}

void berth__table_rule_info(const struct berth_table_view *view, uint32_t index,
                            struct berth_rule_info *ret)
{
    const struct berth_rule_entry *entry = &view->rules[index];

    *ret = (struct berth_rule_info){
        .name = berth__table_string(view, entry->name),
        .side = (enum berth_side)entry->side,
        .tags = entry->tags,
        .pattern = berth__table_string(view, entry->pattern),
        .thread = berth__table_string(view, entry->thread),
        .min_size = entry->min_size,
        .max_size = entry->max_size,
        .sequence_first = entry->sequence_first,
        .sequence_last = entry->sequence_last,
        .place_count = entry->place_count,
        .movable = entry->movable != 0,
        .line = entry->line,
    };
}

const char *berth__table_place_name(const struct berth_table_view *view, uint32_t rule,
                                    unsigned index)
{
    uint32_t place = view->places[view->rules[rule].place_first + index];

    if (place & BERTH_PLACE_BUILTIN)
        return builtins[place & ~BERTH_PLACE_BUILTIN].name;
    return berth__table_string(view, view->tiers[place].name);
}

enum berth_tier_kind berth__table_place_kind(const struct berth_table_view *view, uint32_t rule,
                                             unsigned index)
{
    uint32_t place = view->places[view->rules[rule].place_first + index];

    if (place & BERTH_PLACE_BUILTIN)
        return builtins[place & ~BERTH_PLACE_BUILTIN].kind;
    return (enum berth_tier_kind)view->tiers[place].kind;
}

unsigned berth__table_rule_sides(const struct berth_table_view *view, uint32_t rule)
{
    const struct berth_rule_entry *entry = &view->rules[rule];
    unsigned sides = 0;

    for (unsigned i = 0; i < entry->place_count; i++)
        sides |= berth__kind_sides(berth__table_place_kind(view, rule, i));
    return sides & entry->side;
}

bool berth__table_view_has_host_rule(const struct berth_table_view *view)
{
    for (uint32_t i = 0; i < view->header->rules.count; i++)
        if (berth__table_rule_sides(view, i) & BERTH_SIDE_HOST)
            return true;
    return false;
}

bool berth__table_view_has_named_tier(const struct berth_table_view *view)
{
    for (uint32_t i = 0; i < view->header->tiers.count; i++) {
        const struct berth_tier_entry *entry = &view->tiers[i];

        if ((entry->kind == BERTH_KIND_FILE || entry->kind == BERTH_KIND_DAX) &&
            *berth__table_string(view, entry->segment))
            return true;
    }
    return false;
}
