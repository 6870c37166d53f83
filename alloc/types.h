/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The words of Berth, each with one meaning.
 *
 *  tag        what bytes are: weight, activation, kv, workspace, or untagged. Four bits.
 *  site       who asked for them: a path of frames, innermost first.
 *  tier       a named kind of memory with a capacity and an ops table.
 *  segment    one reservation from a tier's backend: one cuMemAlloc, one mapping.
 *  block      a piece of a segment that was handed to the program.
 *  pool       the segments and free blocks of one (tier, device, kind).
 *  cache      a thread's own free blocks in front of a pool; see cache.h. "Cached" is what is free
 *             in either, and ready for reuse.
 *  page map   address -> segment, for device memory; the block index: first address -> block.
 *  idle       of a segment: one free block, in which nothing lives; see pool_idle.h.
 *  alone      of a block: it has a segment for itself where others share; see pool_alone.h.
 *  joint      of a segment: it has what a repeating step's large blocks need; see pool_step.h.
 *  sketch     a heap without memory, which shows how high those would lie; see sketch.h.
 *  range      one reservation of device addresses, behind which memory comes page by page.
 *  hole       a block of a range without memory. A claim is a piece of one that a thread owns.
 *  plan       where each allocation of a recorded run is to lie; made by a tool, and followed.
 *  store      the persistent blocks of a named tier, in a file or on a dax device; see persist.h.
 *  commit     of a persistent block: what makes it durable, read-only, and found by name.
 *  home       a device, with the driver's own memory pool that stream-ordered blocks come from; of
 *             a window, whose arenas serve it: a tier, or the blocks that may move (pmem/window.h).
 *  foreign    of memory: given to the program by the driver itself, and only accounted.
 *  limit      what a process, or its blocks of a tag, may have at most, set from outside.
 *  path       by which way a call of the driver came to Berth; see entry_path.h.
 *  trace      the log of allocations and frees; the history is its newest part, kept in memory.
 *  window     a far host tier's slice of Berth's one address reservation.
 *  twin       of a block that has moved to a tier that is mapped shared: its contents' own place.
 *  loan       device memory of somebody else's, mapped here, that a shared tier cuts blocks from:
 *             they are borrowed, and never reach the driver's free.
 *  keeper     the process whose segment is lent.
 *  rule       says which blocks it speaks of, and names places in order.
 *  place      a tier's name in a rule.
 *  table      the compiled, immutable, versioned form of the rules.
 *  threshold  the size from which a block is looked at one by one.
 *  sample     a smaller block that is looked at all the same, and stands for many; pmem/sample.h.
 *  glance     what is kept of a return address: which sizes of it no rule speaks of.
 *  keep       a thread's own large blocks of ordinary memory that it has freed; pmem/keep.h.
 *  sequence   the thread's count of allocations at or above the threshold since berth_step().
 *  point      a moment in the work of a context or a stream, which passes; see order.h.
 *  door       what those pass who ask the driver about points, or wait for it; see order.h.
 *  batch      blocks that were freed and wait for one point.
 *  set        the cached blocks that were freed in the order of one stream.
 *
 * "extent" and "arena" are jemalloc's words, "stream" is CUDA's. An "OS page" and a "GPU page" are
 * written in full. A block is *requested* at one size and *held* at another: its size class.
 */
#ifndef BERTH_ALLOC_TYPES_H
#define BERTH_ALLOC_TYPES_H

#include "alloc/berth.h"

#include <stddef.h>
#include <stdint.h>

/* A tag takes four bits wherever it is stored. */
#define BERTH_TAG_MAX 16
#define BERTH_TAG_COUNT 5

/* By whose word a block has its tag, in falling order of authority. */
enum berth_tag_source {
    BERTH_TAGGED_NONE = 0, /* nobody's: the block is untagged */
    BERTH_TAGGED_API,      /* the program's, by the thread's tag stack or the tagging API */
    BERTH_TAGGED_SITE,     /* a `site` section of the policy */
    BERTH_TAGGED_CLASSIFIER
};
#define BERTH_TAGGED_COUNT 4

enum berth_side { BERTH_SIDE_HOST = 1, BERTH_SIDE_DEVICE = 2, BERTH_SIDE_BOTH = 3 };

enum berth_tier_kind {
    BERTH_KIND_NONE = 0,
    BERTH_KIND_DEVICE, /* cuMemAlloc on the current device */
    BERTH_KIND_SHARED, /* device memory borrowed from a pool that several processes map */
    BERTH_KIND_PINNED, /* page-locked host memory made by the CUDA driver */
    BERTH_KIND_DRAM,   /* ordinary memory */
    BERTH_KIND_FILE,   /* a file in a directory of any filesystem */
    BERTH_KIND_DAX,    /* a device-dax character device */
    BERTH_KIND_NUMA,   /* memory of given NUMA nodes, CXL included */
    BERTH_KIND_COUNT
};

/* What a MAP_SHARED tier does when the program forks (see tier_ops.h). */
enum berth_fork_rule { BERTH_FORK_COPY = 0, BERTH_FORK_SHARE = 1 };

/* How strictly a tier keeps to its NUMA nodes. */
enum berth_numa_mode {
    BERTH_NUMA_BIND = 0,  /* no page elsewhere: the tier is full when they are */
    BERTH_NUMA_PREFERRED, /* elsewhere when they are full */
    BERTH_NUMA_COUNT
};

/* Whether a tier's memory is in huge pages. */
enum berth_huge_pages {
    BERTH_HUGE_NEVER = 0, /* as the system has it */
    BERTH_HUGE_ADVISE,    /* the kernel is asked for transparent ones */
    BERTH_HUGE_ALWAYS,    /* of those that were reserved (hugetlb) */
    BERTH_HUGE_COUNT
};

/* What is verified of a named tier's content when it is opened. */
enum berth_verify {
    BERTH_VERIFY_COMMIT = 0, /* that each block was committed */
    BERTH_VERIFY_FULL,       /* its checksum too */
    BERTH_VERIFY_COUNT
};

/* Index of a tier in this process; stable from registration to process end. */
typedef uint8_t berth_tier_id;
#define BERTH_TIER_MAX 64
#define BERTH_TIER_NONE ((berth_tier_id)255)

/* Built-in tiers have fixed ids, so that the fast paths need no lookup. */
#define BERTH_TIER_DEVICE ((berth_tier_id)0)
#define BERTH_TIER_PINNED ((berth_tier_id)1)
#define BERTH_TIER_DRAM ((berth_tier_id)2)

/* Longest name of a tier or rule, with its terminator; the policy checker refuses longer ones. */
#define BERTH_NAME_MAX 64

/* A call site's number in this process (alloc/site.h); 0 = not known. */
typedef uint32_t berth_site_id;

#define BERTH_KIB ((uint64_t)1 << 10)
#define BERTH_MIB ((uint64_t)1 << 20)
#define BERTH_GIB ((uint64_t)1 << 30)

#define BERTH_LIKELY(x) __builtin_expect(!!(x), 1)
#define BERTH_UNLIKELY(x) __builtin_expect(!!(x), 0)

/*
 * Exported to the program: hooks and the public API.
 *
 * BERTH_SHARED marks data of which a process has exactly one, although libberth.so and
 * libberth-malloc.so both contain the code that uses it: ELF symbol lookup binds both libraries to
 * the first definition. Such data is zero- or constant-initialised, because either library may be
 * used before its constructor has run.
 */
#define BERTH_EXPORT __attribute__((visibility("default")))
#define BERTH_SHARED __attribute__((visibility("default")))

/* Names for files, tables and JSON; NULL past the end. */
const char *berth__tag_name(unsigned tag);
const char *berth__kind_name(unsigned kind);
const char *berth__tag_source_name(unsigned source);
/* The reverse; -ENOENT for a name that is none. */
int berth__tag_from_name(const char *name);
int berth__kind_from_name(const char *name);

/* The same for the choices that a `tier` section has. */
const char *berth__numa_mode_name(unsigned mode);
const char *berth__huge_pages_name(unsigned pages);
const char *berth__verify_name(unsigned verify);
int berth__numa_mode_from_name(const char *name);
int berth__huge_pages_from_name(const char *name);
int berth__verify_from_name(const char *name);

#endif
