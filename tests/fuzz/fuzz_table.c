/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the bytes of a table are, they are refused or they are safe to use.
 * Method: valid tables with seeded random damage, the header repaired most of the time so that the
 * damage reaches what lies behind it. What is accepted is read whole, installed, asked and patched.
 * LLVMFuzzerTestOneInput is libFuzzer's entry; built with -DBERTH_LIBFUZZER, main is left to it.
 */
#include "alloc/log.h"
#include "alloc/site.h"
#include "pmem/table.h"
#include "pmem/table_build.h"
#include "tests/random_numbers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static int commit_nothing(struct berth_tier *tier, void *address, size_t size)
{
    return 0;
}

static const struct berth_tier_ops file_ops = {.commit = commit_nothing};

static int make_file_tier(struct berth_tier *tier, berth_tier_id id,
                          const struct berth_tier_config *config, char *why, size_t why_size)
{
    tier->sides = BERTH_SIDE_HOST;
    tier->ops = &file_ops;
    return 0;
}

/* Reads every field and string: a sanitizer sees what lies outside. */
static size_t read_whole(const struct berth_table_view *view)
{
    const struct berth_table_header *header = view->header;
    size_t sum = 0;

    for (uint32_t i = 0; i < header->options.count; i++)
        sum += strlen(berth__table_string(view, view->options[i].name)) +
               strlen(berth__table_string(view, view->options[i].value));
    for (uint32_t i = 0; i < header->tiers.count; i++) {
        struct berth_tier_config tier;

        berth__table_tier_info(view, i, &tier, NULL);
        must(strlen(tier.name) < BERTH_NAME_MAX && berth__kind_name(tier.kind));
        must(berth__numa_mode_name(tier.numa) && berth__huge_pages_name(tier.huge_pages) &&
             berth__verify_name(tier.verify));
        sum += strlen(tier.path) + strlen(tier.nodes);
    }
    for (uint32_t i = 0; i < header->sites.count; i++) {
        struct berth_site_info site;

        berth__table_site_info(view, i, &site);
        must(strlen(site.name) < BERTH_NAME_MAX && berth__tag_name(site.tag));
        sum += strlen(site.pattern);
    }
    for (uint32_t i = 0; i < header->rules.count; i++) {
        struct berth_rule_info rule;

        berth__table_rule_info(view, i, &rule);
        must(strlen(rule.name) < BERTH_NAME_MAX && rule.place_count > 0);
        sum += strlen(rule.pattern) + strlen(rule.thread);
        for (unsigned j = 0; j < rule.place_count; j++)
            sum += strlen(berth__table_place_name(view, i, j));
    }
    return sum;
}

static void ask(const struct berth_table_view *view)
{
    static const size_t sizes[] = {0, 1, 4096, 65536, 1 << 20, SIZE_MAX};
    const void *frame = (const char *)qsort + 4;
    berth_site_id site = berth__site_intern(&frame, 1);

    for (unsigned i = 0; i < 6 * 2 * BERTH_TAG_COUNT * 2; i++) {
        struct berth_request request = {
            .side = i % 2 ? BERTH_SIDE_HOST : BERTH_SIDE_DEVICE,
            .size = sizes[i / 2 % 6],
            .tag = (enum berth_tag)(i / 12 % BERTH_TAG_COUNT),
            .site = i / 12 / BERTH_TAG_COUNT ? site : 0,
            .sequence = i,
        };
        struct berth_decision decision;

        berth__table_decide(&request, &decision);
        must(decision.rule == BERTH_RULE_NONE || decision.rule < view->header->rules.count);
        must((unsigned)decision.tag < BERTH_TAG_COUNT && decision.place_count <= BERTH_TIER_MAX);
        for (unsigned j = 0; j < decision.place_count; j++)
            must(berth__tier(decision.places[j]));
    }
}

static void patch(const struct berth_table_view *view, const void *bytes, size_t size)
{
    static const char *const places[] = {"dram"};
    const uint64_t capacity = 1 << 20, most = 1 << 30;
    struct berth_table_change changes[2] = {
        {.places = places, .place_count = 1, .max_size = &most},
        {.capacity = &capacity},
    };
    struct berth_table_view patched_view;
    void *patched;
    size_t patched_size;
    char why[512];

    if (view->header->rules.count == 0 || view->header->tiers.count == 0)
        return;
    changes[0].rule = berth__table_string(view, view->rules[0].name);
    changes[1].tier = berth__table_string(view, view->tiers[0].name);
    if (berth__table_patch(bytes, size, changes, 2, &patched, &patched_size, why, sizeof(why)) < 0)
        return;
    must(berth__table_open(patched, patched_size, &patched_view, why, sizeof(why)) == 0);
    must(strcmp(berth__table_place_name(&patched_view, 0, 0), "dram") == 0);
    free(patched);
}

static unsigned accepted;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    void *bytes = malloc(size ? size : 1);
    struct berth_table_view view;
    char why[512];

    berth__log_configure("none");
    berth__tier_set_maker(BERTH_KIND_FILE, make_file_tier);
    memcpy(bytes, data, size);
    if (berth__table_open(bytes, size, &view, why, sizeof(why)) == 0) {
        accepted++;
        must(read_whole(&view) < SIZE_MAX);
        if (berth__table_install(bytes, size, "fuzz", why, sizeof(why)) == 0)
            ask(&view);
        patch(&view, bytes, size);
    } else {
        must(strlen(why) > 0 && strlen(why) < sizeof(why));
        must(berth__table_install(bytes, size, "fuzz", why, sizeof(why)) < 0);
    }
    free(bytes);
    return 0;
}

#ifndef BERTH_LIBFUZZER

static void make_seed(unsigned which, void **ret_bytes, size_t *ret_size)
{
    static const char *const places[] = {"slow", "absent", "dram", "device"};
    struct berth_table_draft *draft = berth__draft_new();
    char why[512];

    berth__draft_add_option(draft, "record-threshold", "64K");
    berth__draft_add_tier(
        draft,
        &(struct berth_tier_config){
            .name = "slow", .kind = BERTH_KIND_FILE, .path = "/slow", .fork_copy_max = UINT64_MAX},
        1);
    berth__draft_add_tier(draft,
                          &(struct berth_tier_config){
                              .name = "absent", .kind = BERTH_KIND_DAX, .path = "/dev/dax0.0"},
                          2);
    berth__draft_add_tier(draft,
                          &(struct berth_tier_config){.name = "cxl",
                                                      .kind = BERTH_KIND_NUMA,
                                                      .nodes = "0-2,5",
                                                      .numa = BERTH_NUMA_PREFERRED,
                                                      .huge_pages = BERTH_HUGE_ALWAYS},
                          3);
    for (unsigned i = 0; i < 1 + which * 40; i++) {
        berth__draft_add_site(draft, &(struct berth_site_info){.name = "s",
                                                               .pattern = "libc.so.6!q*>**",
                                                               .tag = BERTH_TAG_WEIGHT,
                                                               .side = BERTH_SIDE_BOTH,
                                                               .max_size = UINT64_MAX});
        berth__draft_add_rule(draft,
                              &(struct berth_rule_info){.name = "r",
                                                        .side = BERTH_SIDE_BOTH,
                                                        .tags = 1u << (i % BERTH_TAG_COUNT),
                                                        .pattern = i % 2 ? "lib*" : "",
                                                        .thread = i % 3 ? "" : "fuzz*",
                                                        .max_size = UINT64_MAX,
                                                        .sequence_last = UINT64_MAX,
                                                        .movable = i % 5 == 0,
                                                        .place_count = 1 + i % 4},
                              places);
    }
    must(berth__draft_finish(draft, ret_bytes, ret_size, why, sizeof(why)) == 0);
    berth__draft_free(draft);
}

/* A number that is likely to be at an edge. */
static uint32_t edge_value(size_t size)
{
    const uint32_t values[] = {0,
                               1,
                               2,
                               (uint32_t)size,
                               (uint32_t)size - 1,
                               UINT32_MAX,
                               INT32_MAX,
                               0x80000000,
                               0x80000003,
                               64,
                               (uint32_t)random_next()};

    return values[random_next() % (sizeof(values) / sizeof(values[0]))];
}

static size_t damage(uint8_t *bytes, size_t size)
{
    unsigned hits = 1 + (unsigned)(random_next() % 4);

    for (unsigned i = 0; i < hits; i++) {
        size_t at = random_next() % size;
        uint32_t value = edge_value(size);

        if (random_next() % 2)
            bytes[at] = (uint8_t)value;
        else if (at / 4 * 4 + 4 <= size)
            memcpy(bytes + at / 4 * 4, &value, sizeof(value));
    }
    if (random_next() % 16 == 0)
        size = random_next() % size;
    return size;
}

static void repair(uint8_t *bytes, size_t size)
{
    struct berth_table_header *header = (void *)bytes;

    if (size < sizeof(*header))
        return;
    header->magic = BERTH_TABLE_MAGIC;
    header->format = BERTH_TABLE_FORMAT;
    header->header_size = sizeof(*header);
    header->size = size;
    header->checksum = berth__table_checksum(bytes, size);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 20000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 20260726;

    printf("seed %llu, %u rounds\n", (unsigned long long)seed, rounds);
    random_start(seed);
    for (unsigned round = 0; round < rounds; round++) {
        void *bytes;
        size_t size;

        make_seed(round % 3, &bytes, &size);
        if (round >= 3) {
            size = damage(bytes, size);
            if (random_next() % 8)
                repair(bytes, size);
        }
        LLVMFuzzerTestOneInput(bytes, size);
        free(bytes);
        if (round == 2)
            must(accepted == 3);
    }
    printf("%u of %u tables were accepted\n", accepted, rounds);
    return accepted > 3 ? 0 : 1;
}

#endif
