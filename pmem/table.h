/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mapping table: which bytes live where.
 *
 * A table is compiled by the tools (pmem/table_build.h) into one relocatable block of bytes, and
 * reaches the process as a file or a sealed memfd. berth__table_install() validates every offset
 * in it, makes its tiers, and publishes it by one atomic pointer swap under the next version
 * number. Readers take no lock; an old table is freed once no reader can still see it.
 */
#ifndef BERTH_PMEM_TABLE_H
#define BERTH_PMEM_TABLE_H

#include "alloc/types.h"

#include <stdbool.h>

struct berth_block_detail;

#define BERTH_RULE_NONE UINT32_MAX

/* Room for any reason. */
#define BERTH_TABLE_WHY_MAX 512

/* What is asked of a table. */
struct berth_request {
    enum berth_side side; /* host or device, not both */
    size_t size;          /* bytes, as the program asked */
    enum berth_tag tag;   /* of the thread's tag stack; untagged lets the `site` sections decide */
    berth_site_id site;   /* 0 = not captured: rules and sections that name a path do not match */
    uint64_t sequence;
    bool lives; /* the block exists already: rules that name a thread or a sequence do not speak of
                   it */
    enum berth_tag guess; /* the classifier's, where nobody else tags the block */
};

/* What it answers. Self-contained: it does not point into the table. */
struct berth_decision {
    uint64_t version; /* of the table that decided; 0 = there is none */
    uint32_t rule;    /* index, or BERTH_RULE_NONE */
    enum berth_tag tag;
    enum berth_tag_source tagged_by;
    bool movable;                         /* the block is to be served where it can move */
    unsigned place_count;                 /* 0 = the default place: dram, or device */
    berth_tier_id places[BERTH_TIER_MAX]; /* in order; tiers that serve this side only */
};

/*
 * Decides for one allocation, and counts the match. Lock-free, no system call, no allocation once
 * the site has been seen (a new site's names are matched once per table). Any thread, also inside
 * malloc. Without a table: version 0, no rule, the request's tag, no places.
 */
void berth__table_decide(const struct berth_request *request, struct berth_decision *ret);

/* The same for a block that exists: nothing is counted. */
void berth__table_consider(const struct berth_request *request, struct berth_decision *ret);

/*
 * Counts that `decision`'s rule asked for `tier` and did not get it (the next place is tried), if
 * its table is still in force. The tier's own account is alloc/stats.h's.
 */
void berth__table_count_spill(const struct berth_decision *decision, berth_tier_id tier,
                              size_t size);

/*
 * Validates `bytes` (any alignment, any content), makes the tiers, publishes. `origin` is kept for
 * people (a path, "agent"). A tier that cannot be made is said once on stderr and its places are
 * passed over: that is no error. 0, or -EINVAL with one sentence in `why`; the table in force stays
 * then. Bootstrap or control thread only. Copies `bytes`. Sets the options that the table names and
 * the thresholds of berth__gate. Waits for readers of the table before, never for its own thread.
 */
int berth__table_install(const void *bytes, size_t size, const char *origin, char *why,
                         size_t why_size);

/*
 * Tiers of which `berth run` has told the user that they cannot be had, as "name,name", or NULL:
 * the next installs do not say it again. Bootstrap sets it around its install and then takes it
 * back, because the text is the environment's, which the program may change from main on.
 */
void berth__table_set_told(const char *names);
/* Whether the user was told of this tier already. */
bool berth__table_was_told(const char *tier);

/* What one `site` section or rule of a table says of a request, asked afterwards. */
enum berth_verdict {
    BERTH_VERDICT_MATCHES,
    BERTH_VERDICT_SIDE,      /* it speaks of the other side, or its places cannot serve this one */
    BERTH_VERDICT_TAG,       /* it names other tags */
    BERTH_VERDICT_TOO_SMALL, /* the block is below its least size */
    BERTH_VERDICT_TOO_LARGE,
    BERTH_VERDICT_NO_SITE,  /* it names a path, and that of the block was not read */
    BERTH_VERDICT_SITE,     /* it names another path */
    BERTH_VERDICT_THREAD,   /* all else matches; it names a thread, which is not known any more */
    BERTH_VERDICT_SEQUENCE, /* the same for a sequence range */
};
#define BERTH_VERDICT_COUNT 9

/* A size that is not known: no bound of a section or rule is compared with it. */
#define BERTH_SIZE_UNKNOWN SIZE_MAX

/*
 * The verdict of the section, or rule, at `index` of the version. The request's sequence does not
 * count; its tag is the block's for rules, and no matter for sections. 0; -ESTALE when another
 * version is in force; -ENOENT past the last.
 */
int berth__table_judge_section(uint64_t version, uint32_t index,
                               const struct berth_request *request, enum berth_verdict *ret);
int berth__table_judge_rule(uint64_t version, uint32_t index, const struct berth_request *request,
                            enum berth_verdict *ret);

/*
 * A lower bound of the sizes from which some rule can match a host block of a thread without a tag,
 * for a call that returns to `return_address`; never above `most`. Reads the call's names if a rule
 * needs them. Any thread, also inside malloc.
 */
size_t berth__table_least_size(const void *return_address, size_t most);

/*
 * Why a tier of that version, by its index in it, could not be made in this process; "" for one
 * that was, or when that version is gone.
 */
const char *berth__table_missing_why(uint64_t version, uint32_t tier,
                                     char buffer[BERTH_TABLE_WHY_MAX]);

/* The version in force; 0 if none was installed. */
uint64_t berth__table_version(void);

/* The name of a rule for people and for berth_describe(); "" if that version is gone. */
const char *berth__table_rule_name(uint64_t version, uint32_t rule, char buffer[BERTH_NAME_MAX]);

/*
 * What berth_describe() tells of a block that was found. The strings are good until the calling
 * thread asks again, and the tier's for ever.
 */
void berth__table_describe(const struct berth_block_detail *detail, struct berth_block_info *ret);

/*
 * Sets the thresholds of berth__gate from the options and the table in force; without a table,
 * blocks from the record threshold on are looked at. For who changes options later on.
 */
void berth__table_update_gate(void);
/* berth__plain_renew(), where the malloc side is loaded; set by it before the first table. */
extern BERTH_SHARED void (*berth__table_plain)(size_t threshold, bool is_wanted,
                                               uint64_t sample_interval);
/* Whether call sites are read, of blocks of either side. */
bool berth__table_reads_sites(void);

/*
 * For statistics and for `policy show`: the bytes of the table in force, to be read by
 * pmem/table_format.h. *ret_size is set whenever there is a table. -ENOENT: there is none; -ENOSPC:
 * `room` is too small. `bytes` must be aligned to 8.
 */
int berth__table_copy(void *bytes, size_t room, size_t *ret_size, uint64_t *ret_version);

/* What a rule of that version did since it was installed. -ESTALE when another is in force. */
struct berth_rule_counts {
    uint64_t matched_blocks, matched_bytes;
    uint64_t spilled_blocks, spilled_bytes; /* once per place that had no room */
};
int berth__table_rule_counts(uint64_t version, uint32_t rule, struct berth_rule_counts *ret);

/* Where that version came from, cut to `room`. -ESTALE when another is in force. */
int berth__table_origin(uint64_t version, char *text, size_t room);

#endif
