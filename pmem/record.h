/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records: what is known of each block in a window.
 *
 * At most one block of an OS page or more begins in an OS page, so its record is that page's entry
 * of the page map (window.h):
 *
 *     word 0:  requested + 1 (48 bits) | tag (4) | whose word that is (3) | where in the page the
 *              block begins, in units of 8 bytes (9)
 *     word 1:  site (32) | rule (20) | the lowest bits of the table's version (12)
 *     word 2:  birth
 *     word 3:  the classifier's state; of a sample (sample.h), what it stands for
 *
 * Smaller blocks share pages. jemalloc gives a page to one size class at a time, so blocks that
 * begin in one page lie that size apart: the page's entry then has word 0 = 0 and in word 1 the
 * address of an array of such records (48 bits) and the size class / 8 (16), and a block's index is
 * its offset divided by the class. An array stays with its page until the page serves another use.
 *
 * Synchronisation: a block's record is written by whoever owns the block; readers of others
 * (berth_describe) get a snapshot. Words are relaxed atomics, arrays are published by
 * compare-and-swap. Between two uses of a page lies a free, and jemalloc's locks. Others may give a
 * block another tag, or change its state: its owner's free takes word 0 away in one exchange, so
 * that a block leaves the account with the tag that it had last.
 */
#ifndef BERTH_PMEM_RECORD_H
#define BERTH_PMEM_RECORD_H

#include "alloc/types.h"

#include <stdbool.h>

struct berth_record {
    size_t requested;
    berth_site_id site;
    uint32_t rule;    /* BERTH_RULE_NONE if no rule placed it */
    uint64_t version; /* of the table; its lowest 12 bits when read back */
    enum berth_tag tag;
    enum berth_tag_source tagged_by;
    uint64_t birth;  /* berth__birth_now() (alloc/birth.h) when it was handed out; resizing in place
                        keeps it */
    uint64_t state;  /* the classifier's; 0 for a block that it has not looked at */
    uint64_t sample; /* 0, or it is a sample, and stands for so many blocks (sample.h); it has no
                        state then, and no rule */
};

/* Rules from the lesser number on are recorded as none; versions are told apart modulo 4096. */
#define BERTH_RECORD_RULE_NONE 0xfffffu
#define BERTH_RECORD_RULE_SAMPLE 0xffffeu
#define BERTH_RECORD_VERSION_MASK 0xfffu

/*
 * Writes, reads, or takes away the record of the block at `p` that is held at `held` bytes. Setting
 * fails with -ENOMEM when there is no memory for an array: the block then has no record. Getting
 * and clearing are false for a block that has none.
 */
int berth__record_set(const void *p, size_t held, const struct berth_record *record);
bool berth__record_get(const void *p, size_t held, struct berth_record *ret);
bool berth__record_clear(const void *p, size_t held, struct berth_record *ret);

/*
 * Gives a live block of at least an OS page, whose record is as it `was`, the tag `to`, by the word
 * of `tagged_by`. The account is the caller's to move. False, and nothing changed, for a block that
 * is gone or whose size, tag or state is another: as they are, for one that was handed out at the
 * same address meanwhile. Any thread.
 */
bool berth__record_retag(const void *p, size_t held, const struct berth_record *was,
                         enum berth_tag to, enum berth_tag_source tagged_by);

/*
 * Says which rule of which table has placed the live block, of at least an OS page, where it is
 * now. By who keeps it from being freed meanwhile.
 */
void berth__record_set_rule(const void *p, uint32_t rule, uint64_t version);

/*
 * The block that may contain `p`: the nearest one that begins at or before `p`. `p` lies in a
 * window. False if there is none. Whether the block reaches as far as `p` is for the caller to see.
 */
bool berth__record_find(const void *p, const void **ret_base, struct berth_record *ret);

#endif
