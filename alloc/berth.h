/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth.h - what a program may tell Berth, and ask it.
 *
 * A program needs none of this to run under Berth. One that knows what its bytes are can say so,
 * and is then placed by rules that name tags instead of call paths:
 *
 *     berth_tag_push(BERTH_TAG_WEIGHT);
 *     w = malloc(bytes);
 *     berth_tag_pop();
 *
 * Link with `pkg-config --libs berth`: a small static archive that forwards to the preloaded
 * library, or does nothing when there is none, so the same program runs with and without Berth.
 * Every function may be called from any thread at any time, constructors and destructors included;
 * none of them allocates, blocks or touches errno.
 *
 * Environment read by the preloaded library: BERTH_POLICY (a compiled table), BERTH_OPTIONS
 * ("key=value,..."), BERTH_DEBUG ("level,topic:level,..."), BERTH_CONTROL ("always"). libberth(7).
 */
#ifndef BERTH_H
#define BERTH_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BERTH_VERSION_MAJOR 0
#define BERTH_VERSION_MINOR 1

/* What bytes are. The values are part of the ABI and of the protocol. */
enum berth_tag {
    BERTH_TAG_UNTAGGED = 0,
    BERTH_TAG_WEIGHT = 1,
    BERTH_TAG_ACTIVATION = 2,
    BERTH_TAG_KV = 3,
    BERTH_TAG_WORKSPACE = 4
};

/* A thread's tag stack is this deep; see berth_tag_push(). */
#define BERTH_TAG_DEPTH_MAX 128

/*
 * Until the matching berth_tag_pop(), blocks that this thread allocates, on the host or on a
 * device, carry `tag`. It takes precedence over every rule that would tag by call path.
 * Returns 0; -EINVAL for a value that is no tag; -ENOSPC when the stack is full (the innermost tag
 * then stays in force, and this push must not be popped). 0 without Berth.
 */
int berth_tag_push(enum berth_tag tag);

/* Undoes the latest push of this thread. Returns 0, or -ENOENT if there is none. 0 without Berth. */
int berth_tag_pop(void);

/*
 * Tells that this thread begins a new step (a token, a batch): its sequence numbers start from 0
 * again, so that rules which name a sequence range match the same allocations in each step.
 * Returns 0.
 */
int berth_step(void);

/* 1 when a preloaded Berth library serves this process, else 0. */
int berth_active(void);

/* What berth_describe() tells of a block. Sizes are bytes. */
struct berth_block_info {
    const void *base;    /* the address that the program was given */
    size_t requested;    /* what it asked for */
    size_t held;         /* what the block takes: its size class */
    enum berth_tag tag;  /* what it is */
    const char *tier;    /* where it is; valid until the process ends */
    const char *rule;    /* "" when no rule placed it; valid until the next call of this thread */
};

/*
 * Tells where the block that contains the host or device address `p` lives. `info_size` is
 * sizeof(*ret_info), so that the structure can grow. Returns 0; -ENOENT when the address is in no
 * block that Berth accounts one by one (small blocks that no rule placed are counted in total
 * only); -ENOSYS without Berth; -EINVAL for a size that is too small. On error *ret_info is
 * unchanged. The answer is a snapshot: the caller must know that the block stays allocated.
 */
int berth_describe(const void *p, struct berth_block_info *ret_info, size_t info_size);

/*
 * What the preload libraries export for the static archive: dlsym("berth_api_v1") yields a function
 * of this type. A later version appends fields; `size` says how many are there.
 */
struct berth_api {
    size_t size;
    int (*tag_push)(enum berth_tag tag);
    int (*tag_pop)(void);
    int (*step)(void);
    int (*describe)(const void *p, struct berth_block_info *ret_info, size_t info_size);
};
typedef const struct berth_api *(*berth_api_v1_fn)(void);

#ifdef __cplusplus
}
#endif

#endif
