/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy_cross.h"

#include "tools/berth/policy_field.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

static int compare_sections(const void *a, const void *b)
{
    const struct berth_policy_section *left = a, *right = b;

    return left->kind != right->kind ? (int)left->kind - (int)right->kind
                                     : strcmp(left->name, right->name);
}

static int compare_statements(const void *a, const void *b)
{
    const struct berth_policy_statement *left = a, *right = b;

    return strcmp(left->name, right->name);
}

static void keep(void *node)
{
    (void)node;
}

/* The entry of `tree` that equals `key`, which is added if there is none; NULL without memory. */
static const void *find_or_add(const void *key, void **tree,
                               int (*compare)(const void *, const void *))
{
    void *const *node = tsearch(key, tree, compare);

    return node ? *node : NULL;
}

/* `seen` holds options by name: those of one section, or of all `options` sections together. */
static int check_statements(const struct berth_policy_section *section, void **seen,
                            struct berth_complaints *complaints)
{
    for (size_t i = 0; i < section->statement_count; i++) {
        const struct berth_policy_statement *statement = &section->statements[i];
        const struct berth_policy_statement *first =
            find_or_add(statement, seen, compare_statements);

        if (!first)
            return -ENOMEM;
        if (first != statement)
            berth__complain(complaints, statement->line,
                            "'%s' is set twice, first in line %u; expected it once",
                            statement->name, first->line);
    }
    return 0;
}

static int check_section(const struct berth_policy_section *section, void **sections,
                         void **options, struct berth_complaints *complaints)
{
    const struct berth_policy_section *first;
    void *seen = NULL;
    int r;

    if (section->kind == BERTH_SECTION_OPTIONS)
        return check_statements(section, options, complaints);
    r = check_statements(section, &seen, complaints);
    tdestroy(seen, keep);
    if (r < 0 || !section->name)
        return r;
    first = find_or_add(section, sections, compare_sections);
    if (!first)
        return -ENOMEM;
    if (first != section)
        berth__complain(complaints, section->line,
                        "%s '%s' exists twice, first in line %u; expected another name",
                        berth__section_names[section->kind], section->name, first->line);
    return 0;
}

int berth__policy_check_names(const struct berth_policy_document *document,
                              struct berth_complaints *complaints)
{
    void *sections = NULL;
    void *options = NULL;
    size_t tiers = 0;
    int r = 0;

    for (size_t i = 0; r == 0 && i < document->count; i++) {
        const struct berth_policy_section *section = &document->sections[i];

        r = check_section(section, &sections, &options, complaints);
        if (section->kind == BERTH_SECTION_TIER && ++tiers == BERTH_TABLE_TIERS_MAX + 1)
            berth__complain(complaints, section->line,
                            "there are more tiers than a process can have; expected at most %d",
                            BERTH_TABLE_TIERS_MAX);
    }
    tdestroy(sections, keep);
    tdestroy(options, keep);
    return r;
}

static struct berth_policy_tier *find_tier(const struct berth_policy *policy, const char *name)
{
    for (size_t i = 0; i < policy->tier_count; i++)
        if (policy->tiers[i].config.name && strcmp(policy->tiers[i].config.name, name) == 0)
            return &policy->tiers[i];
    return NULL;
}

/* The sides that a place can serve; both where its tier's kind is wrong, so as not to mislead. */
static unsigned place_sides(const struct berth_policy *policy,
                            const struct berth_policy_value *place,
                            struct berth_complaints *complaints)
{
    struct berth_policy_tier *tier = find_tier(policy, place->text);

    if (tier) {
        tier->used = true;
        if (tier->kind_known && tier->config.kind == BERTH_KIND_DAX && tier->config.segment[0])
            berth__warn(complaints, place->line,
                        "place '%s' takes no blocks by rule: a dax tier with a name holds "
                        "persistent blocks alone; rules go on to their next place",
                        place->text);
        return tier->kind_known ? berth__kind_sides(tier->config.kind) : BERTH_SIDE_BOTH;
    }
    switch (berth__builtin_find(place->text)) {
    case BERTH_TIER_DEVICE:
        return BERTH_SIDE_DEVICE;
    case BERTH_TIER_PINNED:
        berth__warn(complaints, place->line,
                    "place 'pinned' takes no blocks by rule in this version; rules go on to their "
                    "next place");
        return BERTH_SIDE_HOST;
    case BERTH_TIER_DRAM:
        return BERTH_SIDE_HOST;
    default:
        berth__complain(complaints, place->line,
                        "place '%s' is no tier; expected the name of a tier section, or device, "
                        "pinned or dram",
                        place->text);
        return BERTH_SIDE_BOTH;
    }
}

static bool is_repeated(const struct berth_policy_statement *statement, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (strcmp(statement->values[i].text, statement->values[index].text) == 0)
            return true;
    return false;
}

static void check_rule_places(const struct berth_policy_section *section,
                              const struct berth_policy *policy, struct berth_policy_rule *rule,
                              struct berth_complaints *complaints)
{
    struct berth_policy_field field = {section, complaints};
    const struct berth_policy_statement *statement = berth__field_find(&field, "place");
    unsigned sides = 0;

    if (!statement || statement->broken)
        return;
    for (size_t i = 0; i < statement->value_count; i++) {
        const struct berth_policy_value *place = &statement->values[i];

        sides |= place_sides(policy, place, complaints);
        if (is_repeated(statement, i))
            berth__complain(complaints, place->line,
                            "place '%s' stands twice in the list; expected it once", place->text);
    }
    rule->sides = sides & rule->info.side;
    if (statement->value_count > 0 && rule->sides == 0 && !rule->broken)
        berth__complain(complaints, statement->line, "no place can serve side %s; expected %s",
                        rule->info.side == BERTH_SIDE_HOST ? "host" : "device",
                        rule->info.side == BERTH_SIDE_HOST ? "a tier of host memory"
                                                           : "a tier of kind device or shared");
    else if (rule->info.movable && rule->sides == BERTH_SIDE_DEVICE)
        berth__warn(complaints, berth__field_line(&field, "movable"),
                    "movable = yes changes nothing: only host blocks move, and the places of this "
                    "rule serve none");
}

/* A tier of persistent blocks, which the program asks for by name, and which need no rule. */
static bool is_named(const struct berth_tier_config *config)
{
    return (config->kind == BERTH_KIND_FILE || config->kind == BERTH_KIND_DAX) && config->segment &&
           *config->segment;
}

void berth__policy_check_places(const struct berth_policy_document *document,
                                struct berth_policy *policy, struct berth_complaints *complaints)
{
    size_t rule = 0;
    bool named = false;

    for (size_t i = 0; i < document->count; i++)
        if (document->sections[i].kind == BERTH_SECTION_RULE)
            check_rule_places(&document->sections[i], policy, &policy->rules[rule++], complaints);
    for (size_t i = 0; i < policy->tier_count; i++)
        if (!policy->tiers[i].used && !is_named(&policy->tiers[i].config) &&
            policy->tiers[i].config.name && policy->tiers[i].config.name[0] &&
            find_tier(policy, policy->tiers[i].config.name) == &policy->tiers[i])
            berth__warn(complaints, policy->tiers[i].line, "tier '%s' is the place of no rule",
                        policy->tiers[i].config.name);
    for (size_t i = 0; i < policy->tier_count; i++)
        named |= is_named(&policy->tiers[i].config);
    if (policy->rule_count == 0 && !named && complaints->errors == 0)
        berth__warn(complaints, 0, "there is no rule; every block goes to its usual place");
}

/* Whether `first` matches every block that `second` matches, of one group or another that may. */
static bool covers(const struct berth_policy_rule *first, const struct berth_policy_rule *second)
{
    const struct berth_rule_info *a = &first->info, *b = &second->info;

    return (b->tags & ~a->tags) == 0 && (second->sides & ~first->sides) == 0 &&
           a->min_size <= b->min_size && a->max_size >= b->max_size &&
           a->sequence_first <= b->sequence_first && a->sequence_last >= b->sequence_last;
}

/*
 * Rules of one site pattern and one pattern of thread names. What takes all that a rule names is in
 * its own group, or in one of those without a pattern: no other is looked at, and of each group no
 * more than its first rules, so that a policy of very many is checked in a moment, too.
 */
#define GROUP_MAX 1000

struct reach_group {
    const char *pattern, *thread;
    const struct berth_policy_rule **rules; /* in order; none of them is taken by another */
    size_t count;
};

static int compare_groups(const void *a, const void *b)
{
    const struct reach_group *left = a, *right = b;
    int r = strcmp(left->pattern, right->pattern);

    return r ? r : strcmp(left->thread, right->thread);
}

static void group_free(void *node)
{
    struct reach_group *group = node;

    free(group->rules);
    free(group);
}

/* "" and "*" are the same thread names: any. */
static const char *thread_of(const struct berth_policy_rule *rule)
{
    return strcmp(rule->info.thread, "*") == 0 ? "" : rule->info.thread;
}

/* The first of the group's rules that takes all that `rule` names, if it comes before `best`. */
static const struct berth_policy_rule *first_in_group(const char *pattern, const char *thread,
                                                      void *const *groups,
                                                      const struct berth_policy_rule *rule,
                                                      const struct berth_policy_rule *best)
{
    const struct reach_group key = {.pattern = pattern, .thread = thread};
    struct reach_group *const *found = tfind(&key, groups, compare_groups);

    for (size_t i = 0; found && i < (*found)->count; i++) {
        const struct berth_policy_rule *other = (*found)->rules[i];

        if (best && other >= best)
            break;
        if (covers(other, rule))
            return other;
    }
    return best;
}

static const struct berth_policy_rule *find_taker(const struct berth_policy_rule *rule,
                                                  void *const *groups)
{
    const char *patterns[] = {"", rule->info.pattern}, *threads[] = {"", thread_of(rule)};
    const struct berth_policy_rule *best = NULL;

    for (size_t i = 0; i < (patterns[1][0] ? 2 : 1); i++)
        for (size_t k = 0; k < (threads[1][0] ? 2 : 1); k++)
            best = first_in_group(patterns[i], threads[k], groups, rule, best);
    return best;
}

/* Without memory a warning is missing, and nothing else. */
static void add_to_group(const struct berth_policy_rule *rule, void **groups)
{
    struct reach_group key = {.pattern = rule->info.pattern, .thread = thread_of(rule)};
    struct reach_group **found = tfind(&key, groups, compare_groups);
    struct reach_group *group = found ? *found : calloc(1, sizeof(*group));
    const struct berth_policy_rule **grown;

    if (!group || group->count == GROUP_MAX)
        return;
    grown = group->rules;
    if ((group->count & (group->count - 1)) == 0)
        grown = realloc(group->rules, (group->count ? 2 * group->count : 1) * sizeof(grown[0]));
    if (grown) {
        group->rules = grown;
        grown[group->count++] = rule;
    }
    if (found)
        return;
    group->pattern = key.pattern;
    group->thread = key.thread;
    if (!grown || !tsearch(group, groups, compare_groups))
        group_free(group);
}

void berth__policy_check_reach(const struct berth_policy *policy,
                               struct berth_complaints *complaints)
{
    void *groups = NULL;

    /* What a wrong rule would have matched is not known. */
    if (complaints->errors > 0)
        return;
    for (size_t i = 0; i < policy->rule_count; i++) {
        const struct berth_policy_rule *rule = &policy->rules[i];
        const struct berth_policy_rule *taker = find_taker(rule, &groups);

        if (taker)
            berth__warn(complaints, rule->info.line,
                        "rule '%s' never matches, because rule '%s' in line %u takes all that it "
                        "names",
                        rule->info.name, taker->info.name, taker->info.line);
        else
            add_to_group(rule, &groups);
    }
    tdestroy(groups, group_free);
}
