/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a compiled table, and how to read them.
 *
 * A table is one relocatable block: a header, then arrays of options, tiers, `site` sections, rules
 * and places, then a pool of strings. Every reference is an offset or an index, so the bytes mean
 * the same at any address. Numbers are in the machine's own byte order: a table from a machine of
 * the other order fails the magic. Nothing outside the ranges that the header names is read, and
 * bytes that no range covers must not exist: there is one encoding of one table.
 *
 * berth__table_open() checks everything, so the functions below it check nothing. Bytes that
 * another process can still write must be copied first.
 */
#ifndef BERTH_PMEM_TABLE_FORMAT_H
#define BERTH_PMEM_TABLE_FORMAT_H

#include "alloc/tier_ops.h"
#include "alloc/types.h"

#include <stdbool.h>

#define BERTH_TABLE_MAGIC UINT64_C(0x3162746865726562)
#define BERTH_TABLE_FORMAT 3

/* Tiers that a table may name beside the built-in ones: what a process can register. */
#define BERTH_TABLE_TIERS_MAX (BERTH_TIER_MAX - 3)

/* A set of tags that leaves none out. */
#define BERTH_TAGS_ALL ((1u << BERTH_TAG_COUNT) - 1)

/* A place is the index of one of the table's tiers, or this bit and a built-in tier's id. */
#define BERTH_PLACE_BUILTIN UINT32_C(0x80000000)

/* `count` entries at `offset` from the table's start; for the string pool, bytes. */
struct berth_table_range {
    uint32_t offset;
    uint32_t count;
};

struct berth_table_header {
    uint64_t magic;
    uint32_t format;
    uint32_t header_size;
    uint64_t size;     /* of the whole table */
    uint64_t checksum; /* of the whole table, this field counted as 0 */
    struct berth_table_range options, tiers, sites, rules, places, strings;
};

struct berth_option_entry {
    uint32_t name, value;
};

struct berth_tier_entry {
    uint32_t name, path;
    uint32_t kind, fork;
    uint64_t capacity;
    uint64_t fork_copy_max;
    int64_t decay_ms;
    uint64_t offset, piece_size;
    uint32_t from, segment;
    uint32_t nodes; /* as pmem/node_set.h writes a set */
    uint32_t numa, huge_pages, verify;
    uint32_t line;
    uint32_t zero;
};

struct berth_site_entry {
    uint32_t name, pattern;
    uint32_t tag, side;
    uint64_t min_size, max_size;
    uint32_t line;
    uint32_t zero;
};

struct berth_rule_entry {
    uint32_t name;
    uint32_t pattern, thread; /* 0 = the rule names none */
    uint32_t side, tags;
    uint32_t place_first, place_count;
    uint32_t movable;
    uint32_t line;
    uint32_t zero;
    uint64_t min_size, max_size;
    uint64_t sequence_first, sequence_last;
};

/* A table that was checked. The bytes stay the caller's, and must outlive the view. */
struct berth_table_view {
    const struct berth_table_header *header;
    const struct berth_option_entry *options;
    const struct berth_tier_entry *tiers;
    const struct berth_site_entry *sites;
    const struct berth_rule_entry *rules;
    const uint32_t *places;
    const char *strings;
};

/*
 * Checks every byte. `bytes` must be aligned to 8. 0, or -EINVAL with one sentence in `why`. Calls
 * no malloc.
 */
int berth__table_open(const void *bytes, size_t size, struct berth_table_view *ret, char *why,
                      size_t why_size);

uint64_t berth__table_checksum(const void *bytes, size_t size);

/* A string of the pool. */
static inline const char *berth__table_string(const struct berth_table_view *view, uint32_t offset)
{
    return view->strings + offset;
}

/* What a `site` section says. Sizes are inclusive; strings belong to the table. */
struct berth_site_info {
    const char *name;
    const char *pattern;
    enum berth_tag tag;
    enum berth_side side;
    uint64_t min_size, max_size;
    unsigned line;
};

/* What a rule says. All ranges are inclusive; a pattern or thread of "" matches everything. */
struct berth_rule_info {
    const char *name;
    enum berth_side side;
    unsigned tags; /* bit per tag */
    const char *pattern;
    const char *thread;
    uint64_t min_size, max_size;
    uint64_t sequence_first, sequence_last;
    unsigned place_count;
    bool movable; /* its blocks are served where they can move later */
    unsigned line;
};

/* Each reads one entry; the index is below the count in the header. */
void berth__table_tier_info(const struct berth_table_view *view, uint32_t index,
                            struct berth_tier_config *ret, unsigned *ret_line);
void berth__table_site_info(const struct berth_table_view *view, uint32_t index,
                            struct berth_site_info *ret);
void berth__table_rule_info(const struct berth_table_view *view, uint32_t index,
                            struct berth_rule_info *ret);
/* The name and kind of a rule's nth place. */
const char *berth__table_place_name(const struct berth_table_view *view, uint32_t rule,
                                    unsigned index);
enum berth_tier_kind berth__table_place_kind(const struct berth_table_view *view, uint32_t rule,
                                             unsigned index);

/* The enum berth_side bits that memory of this kind can serve. */
unsigned berth__kind_sides(enum berth_tier_kind kind);

/*
 * The sides on which a rule speaks: its own, less those that none of its places can serve. A rule
 * that names only device memory has nothing to say about host blocks.
 */
unsigned berth__table_rule_sides(const struct berth_table_view *view, uint32_t rule);

/* Whether some rule speaks of host blocks. */
bool berth__table_view_has_host_rule(const struct berth_table_view *view);
/* Whether a tier has a name that persistent blocks are kept under. */
bool berth__table_view_has_named_tier(const struct berth_table_view *view);

/* The built-in tier of this name, or BERTH_TIER_NONE. */
berth_tier_id berth__builtin_find(const char *name);

/*
 * Whether `name` can name a section: letters, digits, '_', '-' and '.', shorter than
 * BERTH_NAME_MAX. 0, or -EINVAL with "what is wrong; what was expected" in `why`.
 */
int berth__name_check(const char *name, char *why, size_t why_size);

#endif
