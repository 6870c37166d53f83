/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where berth_describe() asks: one function per side, set by the preload library that serves the
 * side before its first block exists, NULL while there is none.
 *
 * Each fills *ret and returns 0, or returns -ENOENT (the address is in no block that this side
 * accounts one by one) and leaves *ret as it is. Any thread; they allocate nothing.
 */
#ifndef BERTH_ALLOC_DESCRIBE_H
#define BERTH_ALLOC_DESCRIBE_H

#include "alloc/types.h"

/*
 * The same with what the public structure has no room for. A host block may be freed while it is
 * looked at: what is told then is of one that was there a moment ago.
 */
struct berth_block_detail {
    uintptr_t base;
    uint64_t requested, held;
    enum berth_side side;
    berth_tier_id tier;
    enum berth_tag tag;
    enum berth_tag_source tagged_by;
    berth_site_id site;
    uint32_t rule;         /* UINT32_MAX: none placed it */
    uint64_t version;      /* of the table that decided; 0: there was none */
    uint64_t age_ns;       /* 0: not known */
    uint64_t offset;       /* of a host block in its window, as in the tier's file */
    uint64_t sample;       /* it stands for so many blocks (alloc/site_account.h); 0: for itself */
    uint32_t class_number; /* the classifier's (alloc/classifier.h); 0: it does not follow it */
};
extern BERTH_SHARED int (*berth__detail_host)(const void *p, struct berth_block_detail *ret);
extern BERTH_SHARED int (*berth__detail_device)(const void *p, struct berth_block_detail *ret);

extern BERTH_SHARED int (*berth__describe_host)(const void *p, struct berth_block_info *ret);
extern BERTH_SHARED int (*berth__describe_device)(const void *p, struct berth_block_info *ret);

/* berth_describe() itself, under a name that the program cannot interpose. */
int berth__describe(const void *p, struct berth_block_info *ret_info, size_t info_size);

#endif
