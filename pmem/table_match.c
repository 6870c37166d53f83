/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/table_match.h"

#include "alloc/module.h"
#include "alloc/sandbox.h"
#include "alloc/site_pattern.h"

#include <sys/mman.h>
#include <sys/prctl.h>

/* A thread's name has at most 15 characters: the kernel's TASK_COMM_LEN. */
#define THREAD_NAME_SIZE 16

/* In a slot: there cannot be a plan. A number, because both preload libraries read the slot. */
#define NO_PLAN ((const struct berth_plan *)1)

/* What is found out about a request at most once, and only if some rule asks. */
struct question {
    const struct berth_request *request;
    struct berth_loaded_table *table;
    const _Atomic uint64_t *row; /* of the site; NULL: there is no memory for one */
    bool thread_known;
    char thread[THREAD_NAME_SIZE];
};

/* `*` is any characters, `?` any one. Iterative, so that no pattern is slow or deep. */
static bool glob_matches(const char *glob, const char *text)
{
    const char *star = NULL;
    const char *resume = text;

    while (*text) {
        if (*glob == '*') {
            star = glob++;
            resume = text;
        } else if (*glob == '?' || *glob == *text) {
            glob++;
            text++;
        } else if (star) {
            glob = star + 1;
            text = ++resume;
        } else {
            return false;
        }
    }
    while (*glob == '*')
        glob++;
    return *glob == '\0';
}

static bool pattern_matches(const struct question *question, uint32_t pattern)
{
    return berth__site_cache_test(&question->table->sites, question->row, question->request->site,
                                  pattern);
}

static bool thread_matches(struct question *question, const char *glob)
{
    if (!question->thread_known) {
        if (berth__sandbox_is_on() || prctl(PR_GET_NAME, question->thread, 0, 0, 0) < 0)
            question->thread[0] = '\0';
        question->thread_known = true;
    }
    return glob_matches(glob, question->thread);
}

/* Whether the section speaks of the request, its size apart. */
static bool section_applies(const struct question *question, uint32_t index)
{
    const struct berth_site_entry *entry = &question->table->view.sites[index];

    return (entry->side & question->request->side) && pattern_matches(question, index);
}

/* Whether the rule speaks of the request, its size and what a plan does not know apart. */
static bool rule_applies(const struct question *question, uint32_t index, enum berth_tag tag)
{
    const struct berth_rule_entry *entry = &question->table->view.rules[index];
    const struct berth_rule_state *rule = &question->table->rules[index];

    return (rule->sides & question->request->side) && ((entry->tags >> tag) & 1) &&
           (rule->pattern == BERTH_RULE_NONE || pattern_matches(question, rule->pattern));
}

/* What a plan does not know: threads and sequences. */
static bool rule_is_met(struct question *question, uint32_t index)
{
    const struct berth_rule_entry *entry = &question->table->view.rules[index];
    const struct berth_request *request = question->request;

    if (request->lives)
        return entry->thread == 0 && entry->sequence_first == 0 &&
               entry->sequence_last == UINT64_MAX;
    return request->sequence >= entry->sequence_first &&
           request->sequence <= entry->sequence_last &&
           (entry->thread == 0 ||
            thread_matches(question, berth__table_string(&question->table->view, entry->thread)));
}

static void take_rule(const struct berth_loaded_table *table, uint32_t index, enum berth_side side,
                      struct berth_decision *ret)
{
    const struct berth_rule_state *rule = &table->rules[index];
    const berth_tier_id *places = &table->placed[rule->placed_first];
    unsigned count = rule->host_count;

    if (side == BERTH_SIDE_DEVICE) {
        places += rule->host_count;
        count = rule->device_count;
    }
    ret->rule = index;
    ret->movable = table->view.rules[index].movable != 0;
    ret->place_count = count;
    for (unsigned i = 0; i < count; i++)
        ret->places[i] = places[i];
}

static void take_tag(enum berth_tag tag, struct berth_decision *ret)
{
    ret->tag = tag;
    if (tag != BERTH_TAG_UNTAGGED)
        ret->tagged_by = BERTH_TAGGED_SITE;
}

/* The tag by call path: of the first `site` section that matches. */
static enum berth_tag tag_in_turn(const struct question *question)
{
    const struct berth_table_view *view = &question->table->view;
    uint64_t size = question->request->size;

    for (uint32_t i = 0; i < view->header->sites.count; i++)
        if (size >= view->sites[i].min_size && size <= view->sites[i].max_size &&
            section_applies(question, i))
            return (enum berth_tag)view->sites[i].tag;
    return BERTH_TAG_UNTAGGED;
}

static void rule_in_turn(struct question *question, struct berth_decision *ret)
{
    const struct berth_table_view *view = &question->table->view;
    uint64_t size = question->request->size;

    for (uint32_t i = 0; i < view->header->rules.count; i++)
        if (size >= view->rules[i].min_size && size <= view->rules[i].max_size &&
            rule_applies(question, i, ret->tag) && rule_is_met(question, i)) {
            take_rule(question->table, i, question->request->side, ret);
            return;
        }
}

/* Where a row keeps its plans: the tags per side, then the rules per side and tag. */
static unsigned tag_slot(enum berth_side side)
{
    return side == BERTH_SIDE_DEVICE;
}

static unsigned rule_slot(enum berth_side side, enum berth_tag tag)
{
    return 2 + (side == BERTH_SIDE_DEVICE) * BERTH_TAG_COUNT + tag;
}

_Static_assert(2 + 2 * BERTH_TAG_COUNT == BERTH_TABLE_PLANS, "a slot for every plan");

static size_t list_sections(const struct question *question, struct berth_plan_entry *entries)
{
    const struct berth_table_view *view = &question->table->view;
    size_t count = 0;

    for (uint32_t i = 0; i < view->header->sites.count; i++)
        if (section_applies(question, i))
            entries[count++] = (struct berth_plan_entry){view->sites[i].min_size,
                                                         view->sites[i].max_size, i, true};
    return count;
}

static size_t list_rules(const struct question *question, enum berth_tag tag,
                         struct berth_plan_entry *entries)
{
    const struct berth_table_view *view = &question->table->view;
    size_t count = 0;

    for (uint32_t i = 0; i < view->header->rules.count; i++) {
        const struct berth_rule_entry *rule = &view->rules[i];

        if (rule_applies(question, i, tag))
            entries[count++] =
                (struct berth_plan_entry){rule->min_size, rule->max_size, i,
                                          rule->thread == 0 && rule->sequence_first == 0 &&
                                              rule->sequence_last == UINT64_MAX};
    }
    return count;
}

static const struct berth_plan *build(const struct question *question, unsigned slot,
                                      enum berth_tag tag)
{
    const struct berth_table_header *header = question->table->view.header;
    bool tags = slot == tag_slot(question->request->side);
    size_t room = tags ? header->sites.count : header->rules.count;
    size_t scratch = (room + 1) * sizeof(struct berth_plan_entry);
    void *entries = mmap(NULL, scratch, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const struct berth_plan *plan;

    if (entries == MAP_FAILED)
        return NULL;
    plan = berth__plan_build(&question->table->plans, entries,
                             tags ? list_sections(question, entries)
                                  : list_rules(question, tag, entries));
    munmap(entries, scratch);
    return plan;
}

/* The plan in a slot of the site's row, made if there is none yet; NULL: there cannot be one. */
static const struct berth_plan *get_plan(const struct question *question, unsigned slot,
                                         enum berth_tag tag)
{
    _Atomic(const void *) *at;
    const struct berth_plan *plan;

    if (!question->row)
        return NULL;
    at = berth__site_cache_slot(&question->table->sites, question->row, slot);
    plan = atomic_load_explicit(at, memory_order_acquire);
    if (BERTH_UNLIKELY(!plan)) {
        plan = build(question, slot, tag);
        /* Two threads may build the same plan: either will do. Failure is remembered too. */
        atomic_store_explicit(at, plan ? plan : NO_PLAN, memory_order_release);
    }
    return plan == NO_PLAN ? NULL : plan;
}

static enum berth_tag match_tag(const struct question *question)
{
    const struct berth_table_view *view = &question->table->view;
    const struct berth_plan *plan;
    const struct berth_plan_step *step;

    if (view->header->sites.count == 0 || question->request->site == 0)
        return BERTH_TAG_UNTAGGED;
    plan = get_plan(question, tag_slot(question->request->side), BERTH_TAG_UNTAGGED);
    if (!plan)
        return tag_in_turn(question);
    step = berth__plan_find(plan, question->request->size);
    return step->count == 0 ? BERTH_TAG_UNTAGGED
                            : (enum berth_tag)view->sites[plan->indexes[step->first]].tag;
}

static void match_rule(struct question *question, struct berth_decision *ret)
{
    enum berth_side side = question->request->side;
    const struct berth_plan *plan = get_plan(question, rule_slot(side, ret->tag), ret->tag);
    const struct berth_plan_step *step;

    if (!plan) {
        rule_in_turn(question, ret);
        return;
    }
    step = berth__plan_find(plan, question->request->size);
    for (uint32_t i = 0; i < step->count; i++) {
        uint32_t index = plan->indexes[step->first + i];

        if (rule_is_met(question, index)) {
            take_rule(question->table, index, side, ret);
            return;
        }
    }
}

void berth__table_match(struct berth_loaded_table *table, const struct berth_request *request,
                        struct berth_decision *ret)
{
    struct question question = {.request = request, .table = table};

    question.row = berth__site_cache_row(&table->sites, request->site);
    if (ret->tag == BERTH_TAG_UNTAGGED)
        take_tag(match_tag(&question), ret);
    berth__table_take_guess(request, ret);
    match_rule(&question, ret);
}

void berth__table_match_in_turn(struct berth_loaded_table *table,
                                const struct berth_request *request, struct berth_decision *ret)
{
    struct question question = {.request = request, .table = table};

    if (ret->tag == BERTH_TAG_UNTAGGED)
        take_tag(tag_in_turn(&question), ret);
    berth__table_take_guess(request, ret);
    rule_in_turn(&question, ret);
}

static enum berth_verdict judge_size(size_t size, uint64_t min_size, uint64_t max_size)
{
    if (size == BERTH_SIZE_UNKNOWN)
        return BERTH_VERDICT_MATCHES;
    if (size < min_size)
        return BERTH_VERDICT_TOO_SMALL;
    return size > max_size ? BERTH_VERDICT_TOO_LARGE : BERTH_VERDICT_MATCHES;
}

static enum berth_verdict judge_pattern(const struct question *question, uint32_t pattern)
{
    if (pattern == BERTH_RULE_NONE)
        return BERTH_VERDICT_MATCHES;
    if (question->request->site == 0)
        return BERTH_VERDICT_NO_SITE;
    return pattern_matches(question, pattern) ? BERTH_VERDICT_MATCHES : BERTH_VERDICT_SITE;
}

enum berth_verdict berth__table_match_section(struct berth_loaded_table *table, uint32_t index,
                                              const struct berth_request *request)
{
    const struct berth_site_entry *entry = &table->view.sites[index];
    struct question question = {.request = request, .table = table};
    enum berth_verdict verdict = judge_size(request->size, entry->min_size, entry->max_size);

    if (!(entry->side & request->side))
        return BERTH_VERDICT_SIDE;
    if (verdict != BERTH_VERDICT_MATCHES)
        return verdict;
    question.row = berth__site_cache_row(&table->sites, request->site);
    return judge_pattern(&question, index);
}

enum berth_verdict berth__table_match_rule(struct berth_loaded_table *table, uint32_t index,
                                           const struct berth_request *request)
{
    const struct berth_rule_entry *entry = &table->view.rules[index];
    const struct berth_rule_state *rule = &table->rules[index];
    struct question question = {.request = request, .table = table};
    enum berth_verdict verdict = judge_size(request->size, entry->min_size, entry->max_size);

    if (!(rule->sides & request->side))
        return BERTH_VERDICT_SIDE;
    if (!((entry->tags >> request->tag) & 1))
        return BERTH_VERDICT_TAG;
    if (verdict != BERTH_VERDICT_MATCHES)
        return verdict;
    question.row = berth__site_cache_row(&table->sites, request->site);
    verdict = judge_pattern(&question, rule->pattern);
    if (verdict != BERTH_VERDICT_MATCHES)
        return verdict;
    if (entry->thread != 0)
        return BERTH_VERDICT_THREAD;
    return entry->sequence_first == 0 && entry->sequence_last == UINT64_MAX
               ? BERTH_VERDICT_MATCHES
               : BERTH_VERDICT_SEQUENCE;
}

/* What is known of a call by its return address; names are read only if a pattern needs them. */
struct caller {
    struct berth_request request;
    struct question question;
    const void *return_address;
    const char *module; /* NULL: not known */
    bool is_read;
};

static bool caller_matches(struct caller *caller, uint32_t pattern)
{
    struct berth_loaded_table *table = caller->question.table;

    if (caller->module && !berth__site_pattern_may_begin(table->patterns[pattern], caller->module))
        return false;
    if (!caller->is_read) {
        caller->request.site = berth__site_intern(&caller->return_address, 1);
        caller->question.row = berth__site_cache_row(&table->sites, caller->request.site);
        caller->is_read = true;
    }
    return caller->request.site != 0 && pattern_matches(&caller->question, pattern);
}

/* From which size on a section gives the call's blocks each tag. */
static void find_tags(struct caller *caller, size_t most, size_t least[BERTH_TAG_COUNT])
{
    const struct berth_table_view *view = &caller->question.table->view;

    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++)
        least[tag] = tag == BERTH_TAG_UNTAGGED ? 0 : SIZE_MAX;
    for (uint32_t i = 0; i < view->header->sites.count; i++) {
        const struct berth_site_entry *entry = &view->sites[i];

        if ((entry->side & BERTH_SIDE_HOST) && entry->min_size < most &&
            entry->min_size < least[entry->tag] && caller_matches(caller, i))
            least[entry->tag] = (size_t)entry->min_size;
    }
}

/* The least size of a block that has some tag of the rule's, by sections and the rule's own bound.
 */
static size_t least_of_rule(const struct berth_rule_entry *entry,
                            const size_t by_tag[BERTH_TAG_COUNT])
{
    size_t least = SIZE_MAX;

    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++)
        if (((entry->tags >> tag) & 1) && by_tag[tag] < least)
            least = by_tag[tag];
    return least < entry->min_size ? (size_t)entry->min_size : least;
}

size_t berth__table_match_least(struct berth_loaded_table *table, const void *return_address,
                                size_t most)
{
    struct caller caller = {.request = {.side = BERTH_SIDE_HOST},
                            .question = {.request = &caller.request, .table = table},
                            .return_address = return_address};
    const struct berth_table_view *view = &table->view;
    size_t by_tag[BERTH_TAG_COUNT];

    if (table->site_sides & BERTH_SIDE_HOST)
        caller.module = berth__module_name_at(return_address);
    find_tags(&caller, most, by_tag);
    for (uint32_t i = 0; i < view->header->rules.count; i++) {
        const struct berth_rule_state *rule = &table->rules[i];
        size_t least = least_of_rule(&view->rules[i], by_tag);

        if ((rule->sides & BERTH_SIDE_HOST) && least < most &&
            (rule->pattern == BERTH_RULE_NONE || caller_matches(&caller, rule->pattern)))
            most = least;
    }
    return most;
}
