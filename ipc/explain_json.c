/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/explain_json.h"

#include "alloc/classifier.h"
#include "alloc/describe.h"
#include "alloc/options.h"
#include "alloc/pool.h"
#include "alloc/pool_walk.h"
#include "alloc/quantity.h"
#include "alloc/site_account.h"
#include "alloc/tier_ops.h"
#include "ipc/json.h"
#include "ipc/site_json.h"
#include "ipc/table_json.h"
#include "pmem/table.h"
#include "pmem/table_format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What is to be explained: a block, or any block that a site asks for. */
struct subject {
    bool is_block;
    struct berth_block_detail block;
    struct berth_request request; /* what the sections and rules are asked about */
};

static int set(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

static const char *side_name(enum berth_side side)
{
    return side == BERTH_SIDE_HOST ? "host" : "device";
}

/* The NUMA node of the memory behind `p`; negative where the kernel does not say. */
static int node_of(uintptr_t p)
{
    void *page = (void *)(p & ~(uintptr_t)0xfff);
    int status = -1;

    /* Without target nodes it only tells where pages are; not touched: -ENOENT. */
    if (syscall(SYS_move_pages, 0, 1UL, &page, NULL, &status, 0) != 0)
        return -1;
    return status;
}

/* Where the block's bytes are, as far as its kind of memory has more to tell than a name. */
static int add_place(json_t *object, const struct berth_block_detail *block)
{
    const struct berth_tier *tier = berth__tier(block->tier);
    struct berth_block_row row;
    struct berth_block_view view;
    int device = -1, node, r = 0;

    if (block->side == BERTH_SIDE_HOST) {
        node = node_of(block->base);
        r = set(object, "node", node >= 0 ? json_integer(node) : json_null());
        if (r == 0 && (tier->kind == BERTH_KIND_FILE || tier->kind == BERTH_KIND_DAX))
            r = set(object, "offset", json_integer((json_int_t)block->offset));
        return r;
    }
    if (berth__pool_find(block->base, &view) < 0)
        r = set(object, "segment", json_string("stream"));
    else
        r = set(object, "segment",
                json_string(view.page_size     ? "range"
                            : view.is_borrowed ? "borrowed"
                            : view.is_whole    ? "own"
                                               : "shared"));
    if (r == 0 && berth__pool_row(block->base, &row, &device) == 0 && device >= 0)
        r = set(object, "device", json_integer(device));
    return r;
}

/*
 * What the classifier thinks of the block, which may not be what it is tagged as. Where the
 * program's own tags are not heeded, also what the program said, by which it can be measured.
 */
static int add_class(json_t *object, const struct berth_block_detail *block)
{
    bool is_blind = berth__option(BERTH_OPTION_CLASSIFIER) == BERTH_CLASSIFIER_BLIND;
    struct berth_class_view view;
    char why[BERTH_CLASS_WHY_MAX];

    if (!berth__classifier_view(berth__classifier(block->side), block->class_number, &view, why,
                                sizeof(why)))
        return 0;
    return set(object, "class",
               json_pack("{s:s,s:s,s:I,s:s,s:s*}", "tag", berth__tag_name(view.tag), "certainty",
                         berth__class_level_name(view.level), "changes", (json_int_t)view.changes,
                         "why", why, "program", is_blind ? berth__tag_name(view.noted) : NULL));
}

/* Of a sample, how many blocks of its kind it stands for. */
static int add_sample(json_t *object, const struct berth_block_detail *block)
{
    if (block->sample == 0)
        return 0;
    return set(
        object, "stands_for",
        json_integer((json_int_t)((block->sample + BERTH_SAMPLE_ONE / 2) / BERTH_SAMPLE_ONE)));
}

static json_t *block_json(const struct berth_block_detail *block)
{
    const struct berth_tier *tier = berth__tier(block->tier);
    char address[24], rule[BERTH_NAME_MAX];
    json_t *object;

    snprintf(address, sizeof(address), "0x%llx", (unsigned long long)block->base);
    object = json_pack("{s:s,s:s,s:I,s:I,s:s,s:s,s:s,s:s,s:o,s:o,s:I,s:o}", "base", address, "side",
                       side_name(block->side), "requested", (json_int_t)block->requested, "held",
                       (json_int_t)block->held, "tag", berth__tag_name(block->tag), "tagged_by",
                       berth__tag_source_name(block->tagged_by), "tier", tier->name, "kind",
                       berth__kind_name(tier->kind), "rule",
                       block->rule == BERTH_RULE_NONE
                           ? json_null()
                           : json_string(berth__table_rule_name(block->version, block->rule, rule)),
                       "rule_index",
                       block->rule == BERTH_RULE_NONE ? json_null()
                                                      : json_integer((json_int_t)block->rule),
                       "version", (json_int_t)block->version, "age_ns",
                       block->age_ns ? json_integer((json_int_t)block->age_ns) : json_null());
    if (object && (add_place(object, block) < 0 || add_class(object, block) < 0 ||
                   add_sample(object, block) < 0)) {
        json_decref(object);
        return NULL;
    }
    return object;
}

static const char *const verdict_names[BERTH_VERDICT_COUNT] = {
    [BERTH_VERDICT_MATCHES] = "matches",
    [BERTH_VERDICT_SIDE] = "side",
    [BERTH_VERDICT_TAG] = "tag",
    [BERTH_VERDICT_TOO_SMALL] = "too-small",
    [BERTH_VERDICT_TOO_LARGE] = "too-large",
    [BERTH_VERDICT_NO_SITE] = "no-site",
    [BERTH_VERDICT_SITE] = "site",
    [BERTH_VERDICT_THREAD] = "thread",
    [BERTH_VERDICT_SEQUENCE] = "sequence",
};

/* A table in force, and the page of its sections or rules that is asked for. */
static json_t *sections_json(const struct berth_table_view *view, uint64_t version,
                             const struct subject *subject, uint64_t first)
{
    json_t *array = json_array();

    for (uint64_t i = first;
         array && i < view->header->sites.count && json_array_size(array) < BERTH_PAGE_ENTRIES_MAX;
         i++) {
        struct berth_site_info info;
        enum berth_verdict verdict;

        berth__table_site_info(view, (uint32_t)i, &info);
        if (berth__table_judge_section(version, (uint32_t)i, &subject->request, &verdict) < 0)
            break;
        if (json_array_append_new(
                array,
                json_pack("{s:s,s:s,s:s,s:s,s:I,s:o}", "name", info.name, "verdict",
                          verdict_names[verdict], "tag", berth__tag_name(info.tag), "pattern",
                          info.pattern, "min_size", (json_int_t)info.min_size, "max_size",
                          info.max_size > INT64_MAX ? json_null()
                                                    : json_integer((json_int_t)info.max_size))) <
            0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static json_t *tags_json(unsigned tags)
{
    json_t *array = json_array();

    for (unsigned tag = 0; array && tag < BERTH_TAG_COUNT; tag++)
        if ((tags >> tag & 1) &&
            json_array_append_new(array, json_string(berth__tag_name(tag))) < 0) {
            json_decref(array);
            array = NULL;
        }
    return array;
}

static json_t *places_json(const struct berth_table_view *view, uint32_t rule, unsigned count)
{
    json_t *array = json_array();

    for (unsigned i = 0; array && i < count; i++)
        if (json_array_append_new(array, json_string(berth__table_place_name(view, rule, i))) < 0) {
            json_decref(array);
            array = NULL;
        }
    return array;
}

static json_t *rules_json(const struct berth_table_view *view, uint64_t version,
                          const struct subject *subject, uint64_t first)
{
    json_t *array = json_array();

    for (uint64_t i = first;
         array && i < view->header->rules.count && json_array_size(array) < BERTH_PAGE_ENTRIES_MAX;
         i++) {
        struct berth_rule_info info;
        enum berth_verdict verdict;

        berth__table_rule_info(view, (uint32_t)i, &info);
        if (berth__table_judge_rule(version, (uint32_t)i, &subject->request, &verdict) < 0)
            break;
        if (json_array_append_new(
                array,
                json_pack("{s:s,s:s,s:o,s:s,s:s,s:I,s:o,s:o}", "name", info.name, "verdict",
                          verdict_names[verdict], "tags", tags_json(info.tags), "pattern",
                          info.pattern, "thread", info.thread, "min_size",
                          (json_int_t)info.min_size, "max_size",
                          info.max_size > INT64_MAX ? json_null()
                                                    : json_integer((json_int_t)info.max_size),
                          "places", places_json(view, (uint32_t)i, info.place_count))) < 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

/* What the table in force says; nothing where there is none. */
static int add_table(json_t *object, const struct subject *subject, uint64_t first_section,
                     uint64_t first_rule)
{
    struct berth_table_view view;
    char why[BERTH_TABLE_WHY_MAX];
    uint64_t version = 0;
    void *bytes = NULL;
    size_t size = 0;
    int r = berth__table_json_take(&bytes, &size, &version);

    if (r == -ENOENT)
        return 0;
    /* What is in force was checked: opening it cannot fail. */
    if (r == 0)
        r = berth__table_open(bytes, size, &view, why, sizeof(why));
    if (r == 0)
        r = set(object, "section_count", json_integer((json_int_t)view.header->sites.count));
    if (r == 0)
        r = set(object, "rule_count", json_integer((json_int_t)view.header->rules.count));
    if (r == 0)
        r = set(object, "sections", sections_json(&view, version, subject, first_section));
    if (r == 0)
        r = set(object, "rules", rules_json(&view, version, subject, first_rule));
    free(bytes);
    return r;
}

/* The block that contains the request's address. */
static int find_block(const char *text, struct subject *ret, struct berth_failure *failure)
{
    struct berth_block_detail *block = &ret->block;
    char *end = NULL;
    uintptr_t address;
    int r = -ENOENT;

    errno = 0;
    address = text ? (uintptr_t)strtoull(text, &end, 16) : 0;
    if (!text || strncmp(text, "0x", 2) != 0 || end == text + 2 || *end || errno != 0)
        return berth__failure_set(
            failure, "bad-request",
            "\"address\" is no address; expected a text as \"0x7f0012345000\"");
    if (berth__detail_host)
        r = berth__detail_host((const void *)address, block);
    if (r < 0 && berth__detail_device)
        r = berth__detail_device((const void *)address, block);
    if (r < 0)
        return berth__failure_set(failure, "no-block",
                                  "no block that is accounted by itself contains %.32s; small "
                                  "blocks that no rule placed are not",
                                  text);
    ret->is_block = true;
    ret->request.side = block->side;
    ret->request.size = block->requested;
    ret->request.tag = block->tag;
    ret->request.site = block->site;
    return 0;
}

static int read_name(const json_t *request, const char *key, int (*find)(const char *), int *ret,
                     struct berth_failure *failure)
{
    const json_t *value = json_object_get(request, key);
    int found = value && json_is_string(value) ? find(json_string_value(value)) : -ENOENT;

    if (!value)
        return 0;
    if (found < 0)
        return berth__failure_set(failure, "bad-request", "\"%s\" is not one that there is", key);
    *ret = found;
    return 0;
}

static int side_from_name(const char *name)
{
    if (strcmp(name, "host") == 0)
        return BERTH_SIDE_HOST;
    return strcmp(name, "device") == 0 ? BERTH_SIDE_DEVICE : -ENOENT;
}

/* The tag that most of the site's live bytes have, and the side that they are on. */
static void know_site(berth_site_id site, int *ret_tag, int *ret_side)
{
    struct berth_site_reading cell;
    uint64_t most = 0;

    for (unsigned i = 0; berth__site_account_cell(site, i, &cell); i++) {
        unsigned sides = berth__kind_sides(berth__tier(cell.tier)->kind);

        if (i > 0 && cell.held <= most)
            continue;
        most = cell.held;
        *ret_tag = (int)cell.tag;
        *ret_side = sides & BERTH_SIDE_HOST ? BERTH_SIDE_HOST : BERTH_SIDE_DEVICE;
    }
}

static int find_site(const json_t *request, struct subject *ret, struct berth_failure *failure)
{
    const json_t *site = json_object_get(request, "site");
    const json_t *size = json_object_get(request, "size");
    int tag = BERTH_TAG_UNTAGGED, side = BERTH_SIDE_HOST;
    int r;

    if (!site)
        return berth__failure_set(
            failure, "bad-request",
            "there is neither \"address\" nor \"site\"; expected one of them");
    if (!json_is_integer(site))
        return berth__failure_set(failure, "bad-request", "\"site\" is no number of a site");
    if (json_integer_value(site) < 1 || json_integer_value(site) >= (json_int_t)berth__site_count())
        return berth__failure_set(failure, "no-site", "there is no such call site");
    if (size && (!json_is_integer(size) || json_integer_value(size) < 0))
        return berth__failure_set(failure, "bad-request", "\"size\" is no number of bytes");
    ret->request.site = (berth_site_id)json_integer_value(site);
    know_site(ret->request.site, &tag, &side);
    r = read_name(request, "tag", berth__tag_from_name, &tag, failure);
    if (r == 0)
        r = read_name(request, "side", side_from_name, &side, failure);
    ret->request.side = (enum berth_side)side;
    ret->request.tag = (enum berth_tag)tag;
    ret->request.size = size ? (size_t)json_integer_value(size) : BERTH_SIZE_UNKNOWN;
    return r;
}

static int read_index(const json_t *request, const char *key, uint64_t *ret,
                      struct berth_failure *failure)
{
    const json_t *value = json_object_get(request, key);

    if (!value)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return berth__failure_set(failure, "bad-request", "\"%s\" is no index; expected 0 or more",
                                  key);
    *ret = (uint64_t)json_integer_value(value);
    return 0;
}

static int add_site(json_t *object, berth_site_id site)
{
    int r = set(object, "site", berth__site_json_account(site));

    return r == 0 ? set(object, "frames", berth__site_json_frames(site, BERTH_SITE_FRAMES_MAX)) : r;
}

int berth__explain_json(const json_t *request, json_t *object, struct berth_failure *failure)
{
    const json_t *address = json_object_get(request, "address");
    struct subject subject = {.is_block = false};
    uint64_t first_section = 0, first_rule = 0;
    int r = read_index(request, "first_section", &first_section, failure);

    if (r == 0)
        r = read_index(request, "first_rule", &first_rule, failure);
    berth__classifier_refresh();
    if (r == 0)
        r = address ? find_block(json_string_value(address), &subject, failure)
                    : find_site(request, &subject, failure);
    if (r == 0)
        r = berth__table_json_identity(object);
    if (r == 0 && subject.is_block)
        r = set(object, "block", block_json(&subject.block));
    if (r == 0)
        r = set(object, "side", json_string(side_name(subject.request.side)));
    if (r == 0)
        r = set(object, "tag", json_string(berth__tag_name(subject.request.tag)));
    if (r == 0 && subject.request.site != 0)
        r = add_site(object, subject.request.site);
    return r == 0 ? add_table(object, &subject, first_section, first_rule) : r;
}
