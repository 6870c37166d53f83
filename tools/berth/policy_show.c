/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy_show.h"

#include "alloc/quantity.h"
#include "tools/berth/grid.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char *const side_names[] = {"", "host", "device", "both"};

static FILE *open_text(char **ret_text, size_t *ret_size)
{
    FILE *to = open_memstream(ret_text, ret_size);

    if (!to) {
        fputs("berth: there is no memory left\n", stderr);
        exit(EXIT_FAILURE);
    }
    return to;
}

/* The largest unit that says the number exactly: "64K", "1536M", "1000". */
static const char *exact_size(uint64_t bytes, char buffer[BERTH_QUANTITY_TEXT_MAX])
{
    static const char units[] = "\0KMGTPE";
    unsigned unit = 0;

    while (bytes != 0 && bytes % 1024 == 0 && unit < 6) {
        bytes /= 1024;
        unit++;
    }
    snprintf(buffer, BERTH_QUANTITY_TEXT_MAX, "%" PRIu64 "%.1s", bytes, &units[unit]);
    return buffer;
}

const char *berth__policy_decay_text(int64_t ms, char buffer[BERTH_QUANTITY_TEXT_MAX])
{
    if (ms < 0)
        return "never";
    if (ms == 0)
        return "0";
    snprintf(buffer, BERTH_QUANTITY_TEXT_MAX, ms % 1000 == 0 ? "%" PRId64 "s" : "%" PRId64 "ms",
             ms % 1000 == 0 ? ms / 1000 : ms);
    return buffer;
}

/* Whether a tier of this kind has a fork rule; and whether what it keeps decays. */
static bool is_shared_mapping(enum berth_tier_kind kind)
{
    return kind == BERTH_KIND_FILE || kind == BERTH_KIND_DAX;
}

static bool has_decay(enum berth_tier_kind kind)
{
    return berth__kind_sides(kind) == BERTH_SIDE_HOST && kind != BERTH_KIND_PINNED;
}

/* In single quotes, where only these two characters mean something. */
static void put_quoted(const char *text, FILE *to)
{
    fputc('\'', to);
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            fputc('\\', to);
        berth__tool_print(text, 1, to);
    }
    fputc('\'', to);
}

static void put_size(const char *name, uint64_t bytes, FILE *to)
{
    char buffer[BERTH_QUANTITY_TEXT_MAX];

    fprintf(to, "  %s = %s\n", name, exact_size(bytes, buffer));
}

/* Which nodes, and pages of what size; what is as usual is not said. */
static void put_memory(const struct berth_tier_config *tier, FILE *to)
{
    if (tier->nodes[0])
        fprintf(to, "  nodes = '%s'\n", tier->nodes);
    if (tier->numa != BERTH_NUMA_BIND)
        fprintf(to, "  numa = %s\n", berth__numa_mode_name(tier->numa));
    if (tier->huge_pages != BERTH_HUGE_NEVER)
        fprintf(to, "  huge-pages = %s\n", berth__huge_pages_name(tier->huge_pages));
    if (tier->verify != BERTH_VERIFY_COMMIT)
        fprintf(to, "  verify = %s\n", berth__verify_name(tier->verify));
}

/* What a shared tier borrows, and what a named one is kept under. */
static void put_piece(const struct berth_tier_config *tier, FILE *to)
{
    if (tier->from[0]) {
        fputs("  from = ", to);
        put_quoted(tier->from, to);
        fputc('\n', to);
    }
    if (tier->segment[0]) {
        fputs("  name = ", to);
        put_quoted(tier->segment, to);
        fputc('\n', to);
    }
    if (tier->offset != 0)
        put_size("offset", tier->offset, to);
    if (tier->size != 0)
        put_size("size", tier->size, to);
}

static void put_tier(const struct berth_table_view *view, uint32_t index, FILE *to)
{
    struct berth_tier_config tier;
    char buffer[BERTH_QUANTITY_TEXT_MAX];
    bool shared;

    berth__table_tier_info(view, index, &tier, NULL);
    shared = is_shared_mapping(tier.kind);
    fprintf(to, "tier %s {\n  kind = %s\n", tier.name, berth__kind_name(tier.kind));
    if (tier.path[0]) {
        fputs("  path = ", to);
        put_quoted(tier.path, to);
        fputc('\n', to);
    }
    if (tier.capacity != 0)
        put_size("capacity", tier.capacity, to);
    if (shared)
        fprintf(to, "  fork = %s\n", tier.fork == BERTH_FORK_SHARE ? "share" : "copy");
    if (shared && tier.fork_copy_max != UINT64_MAX)
        put_size("fork-copy-max", tier.fork_copy_max, to);
    if (has_decay(tier.kind))
        fprintf(to, "  decay = %s\n", berth__policy_decay_text(tier.decay_ms, buffer));
    put_memory(&tier, to);
    put_piece(&tier, to);
    fputs("}\n\n", to);
}

static void put_sizes(uint64_t min_size, uint64_t max_size, FILE *to)
{
    if (min_size != 0)
        put_size("min-size", min_size, to);
    if (max_size != UINT64_MAX)
        put_size("max-size", max_size, to);
}

static void put_site(const struct berth_table_view *view, uint32_t index, FILE *to)
{
    struct berth_site_info site;

    berth__table_site_info(view, index, &site);
    fprintf(to, "site %s {\n  path = ", site.name);
    put_quoted(site.pattern, to);
    fprintf(to, "\n  tag = %s\n", berth__tag_name(site.tag));
    if (site.side != BERTH_SIDE_BOTH)
        fprintf(to, "  side = %s\n", side_names[site.side]);
    put_sizes(site.min_size, site.max_size, to);
    fputs("}\n\n", to);
}

static void put_tags(unsigned tags, const char *separator, FILE *to)
{
    const char *before = "";

    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++)
        if (tags & (1u << tag)) {
            fprintf(to, "%s%s", before, berth__tag_name(tag));
            before = separator;
        }
}

static void put_places(const struct berth_table_view *view, uint32_t rule, unsigned count,
                       const char *separator, FILE *to)
{
    for (unsigned i = 0; i < count; i++)
        fprintf(to, "%s%s", i ? separator : "", berth__table_place_name(view, rule, i));
}

static void put_sequence(const struct berth_rule_info *rule, FILE *to)
{
    fprintf(to, "%" PRIu64 "-", rule->sequence_first);
    if (rule->sequence_last != UINT64_MAX)
        fprintf(to, "%" PRIu64, rule->sequence_last);
}

static bool has_sequence(const struct berth_rule_info *rule)
{
    return rule->sequence_first != 0 || rule->sequence_last != UINT64_MAX;
}

static void put_rule(const struct berth_table_view *view, uint32_t index, FILE *to)
{
    struct berth_rule_info rule;

    berth__table_rule_info(view, index, &rule);
    fprintf(to, "rule %s {\n", rule.name);
    if (rule.tags != BERTH_TAGS_ALL) {
        fputs("  tag = { ", to);
        put_tags(rule.tags, ", ", to);
        fputs(" }\n", to);
    }
    if (rule.side != BERTH_SIDE_BOTH)
        fprintf(to, "  side = %s\n", side_names[rule.side]);
    put_sizes(rule.min_size, rule.max_size, to);
    if (rule.pattern[0]) {
        fputs("  site = ", to);
        put_quoted(rule.pattern, to);
        fputc('\n', to);
    }
    if (rule.thread[0]) {
        fputs("  thread = ", to);
        put_quoted(rule.thread, to);
        fputc('\n', to);
    }
    if (has_sequence(&rule)) {
        fputs("  sequence = ", to);
        put_sequence(&rule, to);
        fputc('\n', to);
    }
    if (rule.movable)
        fputs("  movable = yes\n", to);
    fputs("  place = { ", to);
    put_places(view, index, rule.place_count, ", ", to);
    fputs(" }\n}\n\n", to);
}

void berth__policy_show_text(const struct berth_table_view *view, FILE *to)
{
    const struct berth_table_header *header = view->header;

    if (header->options.count > 0) {
        fputs("options {\n", to);
        for (uint32_t i = 0; i < header->options.count; i++) {
            fprintf(to, "  %s = ", berth__table_string(view, view->options[i].name));
            put_quoted(berth__table_string(view, view->options[i].value), to);
            fputc('\n', to);
        }
        fputs("}\n\n", to);
    }
    for (uint32_t i = 0; i < header->tiers.count; i++)
        put_tier(view, i, to);
    for (uint32_t i = 0; i < header->sites.count; i++)
        put_site(view, i, to);
    for (uint32_t i = 0; i < header->rules.count; i++)
        put_rule(view, i, to);
}

/* A range of sizes in one column: "64K..1M", ">= 64K", "any". */
static void grid_sizes(struct berth_grid *grid, uint64_t min_size, uint64_t max_size)
{
    char least[BERTH_QUANTITY_TEXT_MAX];
    char most[BERTH_QUANTITY_TEXT_MAX];
    char text[2 * BERTH_QUANTITY_TEXT_MAX + 8];

    exact_size(min_size, least);
    exact_size(max_size, most);
    if (min_size == 0 && max_size == UINT64_MAX)
        snprintf(text, sizeof(text), "any");
    else if (max_size == UINT64_MAX)
        snprintf(text, sizeof(text), ">= %s", least);
    else if (min_size == 0)
        snprintf(text, sizeof(text), "<= %s", most);
    else
        snprintf(text, sizeof(text), "%s..%s", least, most);
    berth__grid_text(grid, text);
}

/* Where a shared tier's memory comes from: FROM:NAME, and the piece where it is not all. */
static void grid_piece(struct berth_grid *grid, const struct berth_tier_config *tier)
{
    char text[2 * BERTH_NAME_MAX + 3 * BERTH_QUANTITY_TEXT_MAX];
    char size[BERTH_QUANTITY_TEXT_MAX], offset[BERTH_QUANTITY_TEXT_MAX];
    const char *name = tier->segment[0] ? tier->segment : tier->name;

    snprintf(text, sizeof(text), "%.*s:%s", BERTH_NAME_MAX, tier->from[0] ? tier->from : "?", name);
    if (tier->offset != 0 || tier->size != 0)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), " %s at %s",
                 tier->size ? exact_size(tier->size, size) : "all",
                 exact_size(tier->offset, offset));
    berth__grid_text(grid, text);
}

/* What else is said of a tier: "nodes 0-2 preferred, huge pages always, name w". */
static void grid_details(struct berth_grid *grid, const struct berth_tier_config *tier)
{
    bool borrowed = tier->kind == BERTH_KIND_SHARED;
    const char *before = "";
    char *text = NULL;
    size_t size;
    FILE *to = open_text(&text, &size);

    if (tier->nodes[0]) {
        fprintf(to, "nodes %s %s", tier->nodes, berth__numa_mode_name(tier->numa));
        before = ", ";
    }
    if (tier->huge_pages != BERTH_HUGE_NEVER) {
        fprintf(to, "%shuge pages %s", before, berth__huge_pages_name(tier->huge_pages));
        before = ", ";
    }
    if (tier->segment[0] && !borrowed) {
        fprintf(to, "%sname %s", before, tier->segment);
        if (tier->verify != BERTH_VERIFY_COMMIT)
            fprintf(to, ", verify %s", berth__verify_name(tier->verify));
        before = ", ";
    }
    if (!before[0])
        fputc('-', to);
    fclose(to);
    berth__grid_text(grid, text);
    free(text);
}

static void show_tiers(const struct berth_table_view *view, FILE *to)
{
    static const char *const heads[] = {"TIER",  "KIND",    "CAPACITY", "FORK",
                                        "DECAY", "DETAILS", "PATH"};
    char text[BERTH_QUANTITY_TEXT_MAX];
    struct berth_grid grid;

    berth__grid_init(&grid, "lllllll", heads);
    for (uint32_t i = 0; i < view->header->tiers.count; i++) {
        struct berth_tier_config tier;

        berth__table_tier_info(view, i, &tier, NULL);
        berth__grid_text(&grid, tier.name);
        berth__grid_text(&grid, berth__kind_name(tier.kind));
        berth__grid_text(&grid, tier.capacity ? exact_size(tier.capacity, text) : "-");
        berth__grid_text(&grid, !is_shared_mapping(tier.kind)   ? "-"
                                : tier.fork == BERTH_FORK_SHARE ? "share"
                                                                : "copy");
        berth__grid_text(&grid, has_decay(tier.kind) ? berth__policy_decay_text(tier.decay_ms, text)
                                                     : "-");
        grid_details(&grid, &tier);
        if (tier.kind == BERTH_KIND_SHARED)
            grid_piece(&grid, &tier);
        else
            berth__grid_text(&grid, tier.path[0] ? tier.path : "-");
    }
    berth__grid_finish(&grid, to);
    fputc('\n', to);
}

static void show_sites(const struct berth_table_view *view, FILE *to)
{
    static const char *const heads[] = {"SITE", "TAG", "SIDE", "SIZE", "PATH"};
    struct berth_grid grid;

    berth__grid_init(&grid, "lllll", heads);
    for (uint32_t i = 0; i < view->header->sites.count; i++) {
        struct berth_site_info site;

        berth__table_site_info(view, i, &site);
        berth__grid_text(&grid, site.name);
        berth__grid_text(&grid, berth__tag_name(site.tag));
        berth__grid_text(&grid, side_names[site.side]);
        grid_sizes(&grid, site.min_size, site.max_size);
        berth__grid_text(&grid, site.pattern);
    }
    berth__grid_finish(&grid, to);
    fputc('\n', to);
}

/* What a rule names beside tag, side and size. */
static void put_conditions(const struct berth_rule_info *rule, FILE *to)
{
    const char *before = "";

    if (rule->pattern[0]) {
        fprintf(to, "site %s", rule->pattern);
        before = ", ";
    }
    if (rule->thread[0]) {
        fprintf(to, "%sthread %s", before, rule->thread);
        before = ", ";
    }
    if (has_sequence(rule)) {
        fprintf(to, "%ssequence ", before);
        put_sequence(rule, to);
        before = ", ";
    }
    if (rule->movable) {
        fprintf(to, "%smovable", before);
        before = ", ";
    }
    if (!before[0])
        fputc('-', to);
}

static void grid_rule(struct berth_grid *grid, const struct berth_table_view *view, uint32_t index)
{
    struct berth_rule_info rule;
    char *text = NULL;
    size_t size;
    FILE *to;

    berth__table_rule_info(view, index, &rule);
    berth__grid_text(grid, rule.name);
    to = open_text(&text, &size);
    if (rule.tags == BERTH_TAGS_ALL)
        fputs("any", to);
    else
        put_tags(rule.tags, ",", to);
    fclose(to);
    berth__grid_text(grid, text);
    free(text);
    berth__grid_text(grid, side_names[rule.side]);
    grid_sizes(grid, rule.min_size, rule.max_size);
    to = open_text(&text, &size);
    put_places(view, index, rule.place_count, " > ", to);
    fclose(to);
    berth__grid_text(grid, text);
    free(text);
    to = open_text(&text, &size);
    put_conditions(&rule, to);
    fclose(to);
    berth__grid_text(grid, text);
    free(text);
}

void berth__policy_show_table(const struct berth_table_view *view, FILE *to)
{
    static const char *const rule_heads[] = {"RULE", "TAG", "SIDE", "SIZE", "PLACES", "WHEN"};
    static const char *const option_heads[] = {"OPTION", "VALUE"};
    const struct berth_table_header *header = view->header;
    struct berth_grid grid;

    if (header->tiers.count > 0)
        show_tiers(view, to);
    if (header->sites.count > 0)
        show_sites(view, to);
    berth__grid_init(&grid, "llllll", rule_heads);
    for (uint32_t i = 0; i < header->rules.count; i++)
        grid_rule(&grid, view, i);
    berth__grid_finish(&grid, to);
    if (header->options.count == 0)
        return;
    fputc('\n', to);
    berth__grid_init(&grid, "ll", option_heads);
    for (uint32_t i = 0; i < header->options.count; i++) {
        berth__grid_text(&grid, berth__table_string(view, view->options[i].name));
        berth__grid_text(&grid, berth__table_string(view, view->options[i].value));
    }
    berth__grid_finish(&grid, to);
}

/* JSON is UTF-8, and paths and symbols need not be: what is none becomes U+FFFD. */
static json_t *json_text(const char *text)
{
    json_t *string = json_string(text);
    char *clean, *to;

    if (string)
        return string;
    clean = to = malloc(strlen(text) * 3 + 1);
    if (!clean)
        return NULL;
    for (; *text; text++)
        to = (unsigned char)*text < 128 ? (*to = *text, to + 1) : stpcpy(to, "\xef\xbf\xbd");
    *to = '\0';
    string = json_string(clean);
    free(clean);
    return string;
}

/* Sizes are JSON integers; UINT64_MAX, which means "no limit", is null. */
static json_t *json_size(uint64_t bytes)
{
    if (bytes == UINT64_MAX)
        return json_null();
    return bytes > INT64_MAX ? json_real((double)bytes) : json_integer((json_int_t)bytes);
}

static json_t *json_tier(const struct berth_table_view *view, uint32_t index)
{
    struct berth_tier_config tier;
    unsigned line;

    berth__table_tier_info(view, index, &tier, &line);
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:s, s:o, s:I, s:s, s:s, s:s, s:s, s:o, s:s, s:o, s:o, "
        "s:i}",
        "name", tier.name, "kind", berth__kind_name(tier.kind), "path", json_text(tier.path),
        "capacity", tier.capacity ? json_size(tier.capacity) : json_null(), "fork",
        tier.fork == BERTH_FORK_SHARE ? "share" : "copy", "fork_copy_max",
        json_size(tier.fork_copy_max), "decay_ms", (json_int_t)tier.decay_ms, "nodes", tier.nodes,
        "numa", berth__numa_mode_name(tier.numa), "huge_pages",
        berth__huge_pages_name(tier.huge_pages), "verify", berth__verify_name(tier.verify), "from",
        json_text(tier.from), "segment", tier.segment, "offset", json_size(tier.offset), "size",
        json_size(tier.size), "line", (int)line);
}

static json_t *json_site(const struct berth_table_view *view, uint32_t index)
{
    struct berth_site_info site;

    berth__table_site_info(view, index, &site);
    return json_pack("{s:s, s:o, s:s, s:s, s:o, s:o, s:i}", "name", site.name, "path",
                     json_text(site.pattern), "tag", berth__tag_name(site.tag), "side",
                     side_names[site.side], "min_size", json_size(site.min_size), "max_size",
                     json_size(site.max_size), "line", (int)site.line);
}

static json_t *json_rule(const struct berth_table_view *view, uint32_t index)
{
    struct berth_rule_info rule;
    json_t *tags = json_array();
    json_t *places = json_array();

    berth__table_rule_info(view, index, &rule);
    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++)
        if (rule.tags & (1u << tag))
            json_array_append_new(tags, json_string(berth__tag_name(tag)));
    for (unsigned i = 0; i < rule.place_count; i++)
        json_array_append_new(places, json_string(berth__table_place_name(view, index, i)));
    return json_pack("{s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:i}", "name",
                     rule.name, "tags", tags, "side", side_names[rule.side], "min_size",
                     json_size(rule.min_size), "max_size", json_size(rule.max_size), "site",
                     json_text(rule.pattern), "thread", json_text(rule.thread), "sequence_first",
                     json_size(rule.sequence_first), "sequence_last", json_size(rule.sequence_last),
                     "movable", (int)rule.movable, "places", places, "line", (int)rule.line);
}

static json_t *json_all(uint32_t count, json_t *(*one)(const struct berth_table_view *, uint32_t),
                        const struct berth_table_view *view)
{
    json_t *array = json_array();

    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(array, one(view, i));
    return array;
}

int berth__policy_show_json(const struct berth_table_view *view, FILE *to)
{
    const struct berth_table_header *header = view->header;
    json_t *options = json_object();
    json_t *root;
    int r;

    for (uint32_t i = 0; i < header->options.count; i++)
        json_object_set_new(options, berth__table_string(view, view->options[i].name),
                            json_string(berth__table_string(view, view->options[i].value)));
    root = json_pack("{s:i, s:o, s:o, s:o, s:o}", "format", (int)header->format, "options", options,
                     "tiers", json_all(header->tiers.count, json_tier, view), "sites",
                     json_all(header->sites.count, json_site, view), "rules",
                     json_all(header->rules.count, json_rule, view));
    if (!root)
        return -ENOMEM;
    r = json_dumpf(root, to, JSON_INDENT(2));
    fputc('\n', to);
    json_decref(root);
    return r < 0 ? -ENOMEM : 0;
}
