/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy_check.h"

#include "alloc/options.h"
#include "alloc/quantity.h"
#include "alloc/size_class.h"
#include "pmem/dax_device.h"
#include "pmem/node_memory.h"
#include "tools/berth/policy_cross.h"
#include "tools/berth/policy_field.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* jemalloc's own default for its arenas. */
#define DEFAULT_DECAY_MS 10000

#define ANY_KIND "expected file, dram, dax, numa, pinned, shared or device"

/* What a kind of tier can have, and whether some maker in this version serves it. */
static const struct {
    bool path_needed;   /* others have none */
    bool mapped_shared; /* has a fork rule */
    bool host;          /* has a decay */
    bool served;
    bool built_in; /* one such tier exists; others are not served */
    bool borrowed; /* a piece of another process's segment */
    bool named;    /* can be persistent */
    bool huge;     /* can be in huge pages */
} traits_of[BERTH_KIND_COUNT] = {
    [BERTH_KIND_DEVICE] = {.served = true},
    [BERTH_KIND_SHARED] = {.served = true, .borrowed = true},
    [BERTH_KIND_PINNED] = {.built_in = true},
    [BERTH_KIND_DRAM] = {.host = true, .served = true, .huge = true},
    [BERTH_KIND_FILE] = {true, .mapped_shared = true, .host = true, .served = true, .named = true,
                         .huge = true},
    [BERTH_KIND_DAX] = {true, .mapped_shared = true, .host = true, .served = true, .named = true},
    [BERTH_KIND_NUMA] = {.host = true, .served = true, .huge = true},
};

static void check_name(const struct berth_policy_field *field)
{
    const struct berth_policy_section *section = field->section;
    char why[256];

    if (section->name && berth__name_check(section->name, why, sizeof(why)) < 0)
        berth__complain(field->complaints, section->line, "section %s: %s",
                        berth__section_names[section->kind], why);
    else if (section->name && section->kind == BERTH_SECTION_TIER &&
             berth__builtin_find(section->name) != BERTH_TIER_NONE)
        berth__complain(field->complaints, section->line,
                        "tier '%s' exists already, built in; expected another name", section->name);
}

static void check_missing(const struct berth_policy_field *field, const char *name,
                          const char *expected)
{
    const char *kind = berth__section_names[field->section->kind];

    if (field->section->cut || berth__field_find(field, name))
        return;
    if (field->section->name)
        berth__complain(field->complaints, field->section->line, "section %s %s has no %s; %s",
                        kind, field->section->name, name, expected);
    else
        berth__complain(field->complaints, field->section->line, "this %s section has no %s; %s",
                        kind, name, expected);
}

static void complain_relative(const struct berth_policy_field *field,
                              const struct berth_policy_value *value)
{
    berth__complain(field->complaints, value->line,
                    "path '%s' is not absolute; expected one that begins with '/'", value->text);
}

/* What is there is looked at; what is not may be there on the machine that the policy is for. */
static void check_place(const struct berth_policy_field *field,
                        const struct berth_policy_value *value, bool dax)
{
    struct berth_dax_device device;
    char why[256];
    struct stat st;

    if (stat(value->text, &st) < 0)
        berth__warn(field->complaints, value->line,
                    "path '%s' does not exist here; rules go on to their next place while it does "
                    "not",
                    value->text);
    else if (dax ? !S_ISCHR(st.st_mode) : !S_ISDIR(st.st_mode))
        berth__complain(field->complaints, value->line, "path '%s' is no %s; expected one",
                        value->text, dax ? "character device" : "directory");
    else if (dax && berth__dax_device_read(st.st_rdev, &device, why, sizeof(why)) < 0)
        berth__complain(field->complaints, value->line,
                        "path '%s': %s; expected one like /dev/dax0.0", value->text, why);
    else if (!berth__field_value(field, "name") &&
             access(value->text, dax ? R_OK | W_OK : W_OK | X_OK) < 0)
        berth__warn(field->complaints, value->line,
                    "path '%s' may not be written to here: %s; rules go on to their next place "
                    "while that is so",
                    value->text, strerror(errno));
}

/* How much the tier can have here, and of what; 0 where nobody knows. */
static uint64_t most_of(const struct berth_tier_config *config, const char **ret_what)
{
    static struct berth_node_choice choice;
    struct berth_node_memory memory;
    struct berth_dax_device device;
    struct statvfs fs;
    char why[256];

    switch (config->kind) {
    case BERTH_KIND_DAX:
        *ret_what = "the device's";
        return berth__dax_device_find(config->path, &device, why, sizeof(why)) < 0 ? 0
                                                                                   : device.size;
    case BERTH_KIND_FILE:
        *ret_what = "its filesystem's";
        return statvfs(config->path, &fs) < 0 ? 0 : (uint64_t)fs.f_blocks * fs.f_frsize;
    case BERTH_KIND_NUMA:
        *ret_what = "its nodes'";
        if (berth__node_choose(config->nodes, &choice, why, sizeof(why)) < 0)
            return 0;
        berth__node_memory_read(&choice.nodes, &memory);
        return memory.total;
    default:
        return 0;
    }
}

/* Another machine may have more. */
static void check_capacity(const struct berth_policy_field *field,
                           const struct berth_policy_tier *tier)
{
    char most_text[BERTH_QUANTITY_TEXT_MAX], capacity_text[BERTH_QUANTITY_TEXT_MAX];
    const char *what = "";
    uint64_t most = tier->kind_known ? most_of(&tier->config, &what) : 0;

    if (most > 0 && tier->config.capacity > most)
        berth__warn(
            field->complaints, berth__field_line(field, "capacity"),
            "a capacity of %s is more than %s %s here; what does not fit goes to the rules' "
            "next place",
            berth__quantity_format(tier->config.capacity, capacity_text), what,
            berth__quantity_format(most, most_text));
}

static void understand_path(const struct berth_policy_field *field, struct berth_policy_tier *tier)
{
    const struct berth_policy_value *value = berth__field_value(field, "path");
    bool dax = tier->config.kind == BERTH_KIND_DAX;

    if (!tier->kind_known) {
        if (value && value->text[0] != '/')
            complain_relative(field, value);
        return;
    }
    if (traits_of[tier->config.kind].path_needed)
        check_missing(field, "path",
                      dax ? "expected path = /dev/daxN.M" : "expected path = a directory");
    if (!value)
        return;
    tier->config.path = value->text;
    if (!traits_of[tier->config.kind].path_needed) {
        berth__complain(field->complaints, value->line,
                        "a tier of kind %s has no path; expected none, or another kind",
                        berth__kind_name(tier->config.kind));
        return;
    }
    if (value->text[0] != '/')
        complain_relative(field, value);
    else
        check_place(field, value, dax);
}

static void understand_kind(const struct berth_policy_field *field, struct berth_policy_tier *tier)
{
    const struct berth_policy_value *value = berth__field_value(field, "kind");
    int kind;

    check_missing(field, "kind", ANY_KIND);
    if (!value)
        return;
    kind = berth__kind_from_name(value->text);
    if (kind <= BERTH_KIND_NONE) {
        berth__complain(field->complaints, value->line, "'%s' is no kind of tier; " ANY_KIND,
                        value->text);
        return;
    }
    tier->config.kind = (enum berth_tier_kind)kind;
    tier->kind_known = true;
    if (traits_of[kind].built_in)
        berth__warn(field->complaints, value->line,
                    "kind %s is served by the built-in tier '%s' only; rules go on to their next "
                    "place",
                    value->text, value->text);
    else if (!traits_of[kind].served)
        berth__warn(field->complaints, value->line,
                    "kind %s is not served by this version; rules go on to their next place",
                    value->text);
}

/* An option that the tier's kind has no use for would be ignored in silence. */
static void check_pointless(const struct berth_policy_field *field, const char *name, bool useful,
                            const struct berth_policy_tier *tier, const char *expected)
{
    if (tier->kind_known && !useful && berth__field_find(field, name))
        berth__complain(field->complaints, berth__field_line(field, name),
                        "%s has no meaning for a tier of kind %s; %s", name,
                        berth__kind_name(tier->config.kind), expected);
}

/* Digits that are a process id, or the path of a socket. */
static bool is_exporter(const char *text)
{
    return text[0] == '/' || (text[0] != '\0' && text[0] != '0' &&
                              text[strspn(text, "0123456789")] == '\0' && strlen(text) < 10);
}

/* A size that blocks can be cut from. */
static void understand_bytes(const struct berth_policy_field *field, const char *name,
                             uint64_t *ret)
{
    if (berth__field_size(field, name, ret) && *ret % BERTH_GRANULE != 0)
        berth__complain(field->complaints, berth__field_line(field, name),
                        "%s is no multiple of %u bytes; expected one, as blocks are", name,
                        (unsigned)BERTH_GRANULE);
}

/* What the tier's segment is called, or what its persistent blocks are kept under. */
static void understand_name(const struct berth_policy_field *field, struct berth_policy_tier *tier)
{
    const struct berth_policy_value *name = berth__field_value(field, "name");
    bool named = traits_of[tier->config.kind].named;
    int verify = tier->config.verify;
    char why[256];

    check_pointless(field, "name", named || traits_of[tier->config.kind].borrowed, tier,
                    "expected it with kind file, dax or shared");
    check_pointless(field, "verify", named, tier, "expected it with kind file or dax");
    if (name)
        tier->config.segment = name->text;
    if (name && berth__name_check(name->text, why, sizeof(why)) < 0)
        berth__complain(field->complaints, name->line, "%s", why);
    if (berth__field_choice(field, "verify", berth__verify_from_name, "way to verify",
                            "commit or full", &verify))
        tier->config.verify = (enum berth_verify)verify;
    if (named && berth__field_find(field, "verify") && !berth__field_find(field, "name"))
        berth__complain(field->complaints, berth__field_line(field, "verify"),
                        "verify has no meaning for a tier without a name; expected name = NAME, "
                        "which makes it persistent");
}

/* Nodes that this machine lacks may be those of the machine that the policy is for. */
static void check_nodes(const struct berth_policy_field *field, const char *nodes)
{
    static struct berth_node_choice choice;
    char why[BERTH_NODES_WHY_MAX], missing[64];

    if (berth__node_choose(nodes, &choice, why, sizeof(why)) < 0)
        berth__warn(field->complaints, berth__field_line(field, "nodes"),
                    "%s; rules go on to their next place while that is so", why);
    else if (berth__node_set_text(&choice.missing, missing, sizeof(missing)) > 0)
        berth__warn(field->complaints, berth__field_line(field, "nodes"),
                    "node %s has no memory here for this user; the tier uses the others", missing);
}

/* Which nodes, and pages of what size. */
static void understand_memory(const struct berth_policy_field *field,
                              struct berth_policy_tier *tier)
{
    bool numa = tier->config.kind == BERTH_KIND_NUMA;
    int mode = tier->config.numa;
    int huge = tier->config.huge_pages;

    if (numa)
        check_missing(field, "nodes", "expected nodes = the numbers of NUMA nodes, as in 1");
    check_pointless(field, "nodes", numa, tier, "expected it with kind numa");
    check_pointless(field, "numa", numa, tier, "expected it with kind numa");
    check_pointless(field, "huge-pages", traits_of[tier->config.kind].huge, tier,
                    "expected it with kind dram, file or numa");
    if (berth__field_nodes(field, &tier->nodes) && tier->nodes) {
        tier->config.nodes = tier->nodes;
        if (numa)
            check_nodes(field, tier->nodes);
    }
    if (berth__field_choice(field, "numa", berth__numa_mode_from_name, "way to use nodes",
                            "bind or preferred", &mode))
        tier->config.numa = (enum berth_numa_mode)mode;
    if (berth__field_choice(field, "huge-pages", berth__huge_pages_from_name, "use of huge pages",
                            "never, advise or always", &huge))
        tier->config.huge_pages = (enum berth_huge_pages)huge;
}

/* Which piece of whose segment a shared tier borrows. */
static void understand_piece(const struct berth_policy_field *field, struct berth_policy_tier *tier)
{
    static const char *const names[] = {"from", "offset", "size"};
    const struct berth_policy_value *from = berth__field_value(field, "from");

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        check_pointless(field, names[i], traits_of[tier->config.kind].borrowed, tier,
                        "expected it with kind shared");
    if (from)
        tier->config.from = from->text;
    if (from && !is_exporter(from->text))
        berth__complain(field->complaints, from->line,
                        "from '%s' is no process; expected a process id, or the path of a socket",
                        from->text);
    understand_bytes(field, "offset", &tier->config.offset);
    understand_bytes(field, "size", &tier->config.size);
    if (berth__field_value(field, "size") && tier->config.size == 0)
        berth__complain(field->complaints, berth__field_line(field, "size"),
                        "size is 0; expected a size, or no size for all up to the segment's end");
    if (tier->config.offset + tier->config.size < tier->config.offset)
        berth__complain(field->complaints, berth__field_line(field, "offset"),
                        "offset and size together are above 2^64 - 1; expected a piece of the "
                        "segment");
}

static void understand_tier(const struct berth_policy_field *field, struct berth_policy_tier *tier)
{
    const struct berth_policy_value *capacity = berth__field_value(field, "capacity");

    *tier = (struct berth_policy_tier){
        .line = field->section->line,
        .config = {.name = field->section->name,
                   .path = "",
                   .nodes = "",
                   .from = "",
                   .segment = "",
                   .fork_copy_max = UINT64_MAX,
                   .decay_ms = DEFAULT_DECAY_MS},
    };
    understand_kind(field, tier);
    understand_path(field, tier);
    if (berth__field_size(field, "capacity", &tier->config.capacity) && capacity &&
        tier->config.capacity == 0)
        berth__complain(field->complaints, capacity->line,
                        "capacity is 0; expected a size, or no capacity for as much as there is");
    berth__field_fork(field, &tier->config.fork);
    berth__field_size(field, "fork-copy-max", &tier->config.fork_copy_max);
    berth__field_decay(field, &tier->config.decay_ms);
    check_pointless(field, "fork", traits_of[tier->config.kind].mapped_shared, tier,
                    "expected it with kind file or dax");
    check_pointless(field, "fork-copy-max", traits_of[tier->config.kind].mapped_shared, tier,
                    "expected it with kind file or dax");
    check_pointless(field, "decay", traits_of[tier->config.kind].host, tier,
                    "expected it with a kind of host memory");
    check_pointless(field, "capacity", !traits_of[tier->config.kind].borrowed, tier,
                    "expected size, which says how much of the segment it borrows");
    understand_memory(field, tier);
    understand_name(field, tier);
    understand_piece(field, tier);
    check_capacity(field, tier);
}

static void understand_site(const struct berth_policy_field *field, struct berth_site_info *site)
{
    unsigned tags = 0;

    *site = (struct berth_site_info){
        .name = field->section->name,
        .pattern = "",
        .side = BERTH_SIDE_BOTH,
        .max_size = UINT64_MAX,
        .line = field->section->line,
    };
    check_missing(field, "path", "expected path = \"MODULE!SYMBOL > ...\"");
    check_missing(field, "tag", "expected weight, activation, kv or workspace");
    berth__field_pattern(field, "path", &site->pattern);
    berth__field_side(field, &site->side);
    berth__field_sizes(field, &site->min_size, &site->max_size);
    if (berth__field_tags(field, &tags) && tags != 0)
        site->tag = (enum berth_tag)__builtin_ctz(tags);
    if (tags == 1u << BERTH_TAG_UNTAGGED)
        berth__complain(field->complaints, berth__field_line(field, "tag"),
                        "a site section cannot take a tag away; expected weight, activation, kv or "
                        "workspace");
}

static void understand_places(const struct berth_policy_field *field,
                              struct berth_policy_rule *rule)
{
    const struct berth_policy_statement *statement = berth__field_find(field, "place");

    check_missing(field, "place", "expected place = TIER, or place = { TIER, TIER }");
    if (!statement || statement->broken) {
        rule->broken = true;
        return;
    }
    if (statement->value_count == 0) {
        berth__complain(field->complaints, statement->line,
                        "the list of places is empty; expected at least one tier");
        rule->broken = true;
        return;
    }
    rule->places = calloc(statement->value_count, sizeof(*rule->places));
    if (!rule->places)
        return;
    for (size_t i = 0; i < statement->value_count; i++)
        rule->places[i] = statement->values[i].text;
    rule->info.place_count = (unsigned)statement->value_count;
}

static int yes_or_no(const char *text)
{
    return strcmp(text, "yes") == 0 ? 1 : strcmp(text, "no") == 0 ? 0 : -ENOENT;
}

static int understand_rule(const struct berth_policy_field *field, struct berth_policy_rule *rule)
{
    struct berth_rule_info *info = &rule->info;
    bool right = true;
    int movable = 0;

    *rule = (struct berth_policy_rule){
        .info = {.name = field->section->name,
                 .side = BERTH_SIDE_BOTH,
                 .tags = BERTH_TAGS_ALL,
                 .pattern = "",
                 .thread = "",
                 .max_size = UINT64_MAX,
                 .sequence_last = UINT64_MAX,
                 .line = field->section->line},
    };
    /* `&` and not `&&`: every one of them is to be looked at. */
    right &= berth__field_tags(field, &info->tags);
    right &= berth__field_side(field, &info->side);
    right &= berth__field_sizes(field, &info->min_size, &info->max_size);
    right &= berth__field_pattern(field, "site", &info->pattern);
    right &= berth__field_thread(field, &info->thread);
    right &= berth__field_sequence(field, &info->sequence_first, &info->sequence_last);
    right &= berth__field_choice(field, "movable", yes_or_no, "answer", "yes or no", &movable);
    info->movable = movable;
    rule->broken = !right;
    understand_places(field, rule);
    return rule->broken || rule->places ? 0 : -ENOMEM;
}

static void understand_option(const struct berth_policy_field *field,
                              struct berth_policy_statement *statement)
{
    char why[BERTH_OPTION_WHY_MAX];
    const struct berth_policy_value *value = statement->values;

    if (statement->broken || statement->value_count != 1)
        return;
    if (berth__option_set(statement->name, strlen(statement->name), value->text,
                          strlen(value->text), BERTH_ORIGIN_DEFAULT, why) < 0)
        berth__complain(field->complaints, value->line, "%s", why);
}

static void understand_options(const struct berth_policy_field *field, struct berth_policy *policy)
{
    for (size_t i = 0; i < field->section->statement_count; i++) {
        understand_option(field, &field->section->statements[i]);
        policy->options[policy->option_count++] = &field->section->statements[i];
    }
}

static int understand_section(const struct berth_policy_field *field, struct berth_policy *policy)
{
    check_name(field);
    switch (field->section->kind) {
    case BERTH_SECTION_TIER:
        understand_tier(field, &policy->tiers[policy->tier_count++]);
        return 0;
    case BERTH_SECTION_SITE:
        understand_site(field, &policy->sites[policy->site_count++]);
        return 0;
    case BERTH_SECTION_RULE:
        return understand_rule(field, &policy->rules[policy->rule_count++]);
    default:
        understand_options(field, policy);
        return 0;
    }
}

static int make_room(const struct berth_policy_document *document, struct berth_policy *policy)
{
    size_t statements = 1;

    for (size_t i = 0; i < document->count; i++)
        statements += document->sections[i].statement_count;
    policy->tiers = calloc(document->count + 1, sizeof(*policy->tiers));
    policy->sites = calloc(document->count + 1, sizeof(*policy->sites));
    policy->rules = calloc(document->count + 1, sizeof(*policy->rules));
    policy->options = calloc(statements, sizeof(*policy->options));
    return policy->tiers && policy->sites && policy->rules && policy->options ? 0 : -ENOMEM;
}

int berth__policy_understand(const struct berth_policy_document *document,
                             struct berth_complaints *complaints, struct berth_policy *ret)
{
    struct berth_policy policy = {0};
    int r = make_room(document, &policy);

    for (size_t i = 0; r == 0 && i < document->count; i++) {
        struct berth_policy_field field = {&document->sections[i], complaints};

        r = understand_section(&field, &policy);
    }
    if (r == 0)
        r = berth__policy_check_names(document, complaints);
    if (r < 0) {
        berth__policy_done(&policy);
        return r;
    }
    berth__policy_check_places(document, &policy, complaints);
    berth__policy_check_reach(&policy, complaints);
    *ret = policy;
    return 0;
}

void berth__policy_done(struct berth_policy *policy)
{
    for (size_t i = 0; i < policy->rule_count; i++)
        free(policy->rules[i].places);
    for (size_t i = 0; i < policy->tier_count; i++)
        free(policy->tiers[i].nodes);
    free(policy->tiers);
    free(policy->sites);
    free(policy->rules);
    free(policy->options);
    *policy = (struct berth_policy){0};
}

int berth__policy_encode(const struct berth_policy *policy, void **ret_bytes, size_t *ret_size,
                         char *why, size_t why_size)
{
    struct berth_table_draft *draft = berth__draft_new();
    int r = draft ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < policy->option_count; i++)
        r = berth__draft_add_option(draft, policy->options[i]->name,
                                    policy->options[i]->values[0].text);
    for (size_t i = 0; r == 0 && i < policy->tier_count; i++)
        r = berth__draft_add_tier(draft, &policy->tiers[i].config, policy->tiers[i].line);
    for (size_t i = 0; r == 0 && i < policy->site_count; i++)
        r = berth__draft_add_site(draft, &policy->sites[i]);
    for (size_t i = 0; r == 0 && i < policy->rule_count; i++)
        r = berth__draft_add_rule(draft, &policy->rules[i].info, policy->rules[i].places);
    if (r == 0)
        r = berth__draft_finish(draft, ret_bytes, ret_size, why, why_size);
    else
        snprintf(why, why_size, "there is no memory for the table");
    berth__draft_free(draft);
    return r;
}
