/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tier is: a name, a kind, a capacity, and how its backend is asked for memory.
 *
 * pmem/ implements the host kinds, alloc/device.c the device kind, ipc/ the shared kind; each
 * registers a maker for its kind at bootstrap. A kind without a maker is unavailable in this
 * process: its places are passed over, which is said once.
 *
 * The registry is append-only: a tier, once made, keeps its id until the process ends, because
 * blocks in it may be alive. Readers take no lock; makers run before threads exist or on the
 * control thread, one at a time (berth__tier_ensure() holds the registry's lock).
 */
#ifndef BERTH_ALLOC_TIER_OPS_H
#define BERTH_ALLOC_TIER_OPS_H

#include "alloc/types.h"

#include <stdatomic.h>

/* What a policy's `tier` section says. Strings belong to the caller. */
struct berth_tier_config {
    const char *name;
    enum berth_tier_kind kind;
    const char *path;  /* file: a directory; dax: a device; "" if none */
    uint64_t capacity; /* bytes; 0 = what the backend has */
    enum berth_fork_rule fork;
    uint64_t fork_copy_max; /* bytes that a fork may copy; UINT64_MAX = any */
    int64_t decay_ms;       /* how long unused pages are kept; -1 = for ever, 0 = not at all */
    const char *nodes;      /* numa: as pmem/node_set.h writes a set. NULL is the same as "" */
    enum berth_numa_mode numa;
    enum berth_huge_pages huge_pages; /* dram, file, numa */
    enum berth_verify verify;         /* of a named file or dax tier */
    /* shared: which piece of whose segment is borrowed. NULL is the same as "". */
    const char *from;      /* a process id or the path of a socket; "" = whoever is named later */
    const char *segment;   /* the segment's name there; "" = the tier's own. file, dax: what the
                              persistent blocks are kept under; "" = none are */
    uint64_t offset, size; /* of the piece, in bytes; size 0 = up to the segment's end */
};

struct berth_tier {
    char name[BERTH_NAME_MAX];
    enum berth_tier_kind kind;
    unsigned sides;            /* enum berth_side bits that it can serve */
    _Atomic uint64_t capacity; /* 0 = no limit of Berth's own; may change while running */
    const struct berth_tier_ops *ops;
    void *state;      /* the implementation's */
    const char *path; /* "" if none; never freed */
    /* As configured when it was made; see struct berth_tier_config. */
    enum berth_fork_rule fork;
    uint64_t fork_copy_max;
    int64_t decay_ms;
    enum berth_numa_mode numa;
    enum berth_huge_pages huge_pages;
    enum berth_verify verify;
    const char *nodes, *from, *segment; /* "" if none; never freed */
    uint64_t offset, size;
};

/*
 * A tier's verbs. All return 0 or negative errno, change nothing on failure, may be called from any
 * thread, and do not call malloc. A verb that a kind does not have is NULL. Where the segments of
 * device kinds come from is the pool's business: the driver, or what was lent (pool_borrow.h).
 */
struct berth_tier_ops {
    /* Host kinds: puts memory behind [address, address + size), OS-page aligned, in the window. */
    int (*commit)(struct berth_tier *tier, void *address, size_t size);
    /* Host kinds: gives the memory back; the range then reads as zero once committed again. */
    int (*decommit)(struct berth_tier *tier, void *address, size_t size);
    /* One line on what backs the tier, for `berth stat --json`. */
    void (*describe)(const struct berth_tier *tier, char *text, size_t text_size);
    /* Host kinds: makes addresses that were never used before ready for commit. -ESTALE: they may
     * be somebody else's from now on, and are not to be used again. */
    int (*map)(struct berth_tier *tier, void *address, size_t size);
};

/* Makes a tier of one kind in `tier`, whose name, kind, capacity and path are filled in already. */
typedef int (*berth_tier_maker)(struct berth_tier *tier, berth_tier_id id,
                                const struct berth_tier_config *config, char *why, size_t why_size);

void berth__tier_set_maker(enum berth_tier_kind kind, berth_tier_maker make);

/*
 * Finds the tier of this name, or makes it. An existing tier keeps all but its capacity, which is
 * updated; when the configuration says anything else of it, -EEXIST. -ENOTSUP: no maker for
 * the kind here; -ENOSPC: BERTH_TIER_MAX tiers exist; else what the maker said. `why` gets one
 * sentence without the tier's name.
 */
int berth__tier_ensure(const struct berth_tier_config *config, berth_tier_id *ret_id, char *why,
                       size_t why_size);

/*
 * What a configuration says otherwise of a tier that exists, and what cannot change while blocks
 * live in it: the name of that option of a `tier` section, or NULL.
 */
const char *berth__tier_difference(const struct berth_tier *tier,
                                   const struct berth_tier_config *config);

/* The tier, or NULL if there is none with this id. The pointer stays valid. */
struct berth_tier *berth__tier(berth_tier_id id);
/* The id of a name, or BERTH_TIER_NONE. */
berth_tier_id berth__tier_find(const char *name);
/* One more than the highest id in use; built-ins included. */
unsigned berth__tier_count(void);

/*
 * Takes `size` bytes of the tier's capacity, or -ENOSPC; of a tier of kind device also of what the
 * process may have (alloc/limit.h), or -EDQUOT. Backends call it before they ask for
 * memory, and berth__tier_release() after giving it back: stats' `reserved` is kept by this pair.
 */
int berth__tier_reserve(berth_tier_id id, uint64_t size);
void berth__tier_release(berth_tier_id id, uint64_t size);
/* The same as the first without asking, for host memory whose addresses come back to their tier. */
void berth__tier_reserve_beyond(berth_tier_id id, uint64_t size);

#endif
