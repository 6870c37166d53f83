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
 * none of them touches errno, and but for those on persistent blocks none allocates or blocks.
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

/* Undoes the latest push of this thread. Returns 0, or -ENOENT if there is none. 0 without Berth.
 */
int berth_tag_pop(void);

/*
 * Tells that this thread begins a new step (a token, a batch): its sequence numbers start from 0
 * again, so that rules which name a sequence range match the same allocations in each step.
 * Returns 0.
 */
int berth_step(void);

/*
 * As berth_step(), with the caller's word that until this call returns no thread of the program
 * writes to a block that was allocated under a rule with `movable = yes`, and no I/O into one is
 * under way. Blocks that can only be moved then, and for which a move was asked
 * (`berth policy apply --move`), are moved in this call, which takes as long as that takes: it is
 * the one function here that may block. Returns how many were moved: 0 when nothing waits for it,
 * which costs as much as berth_step(), and without Berth.
 */
int berth_step_quiescent(void);

/* 1 when a preloaded Berth library serves this process, else 0. */
int berth_active(void);

/* What berth_describe() tells of a block. Sizes are bytes. */
struct berth_block_info {
    const void *base;   /* the address that the program was given */
    size_t requested;   /* what it asked for */
    size_t held;        /* what the block takes: its size class */
    enum berth_tag tag; /* what it is */
    const char *tier;   /* where it is; valid until the process ends */
    const char *rule;   /* "" when no rule placed it; valid until the next call of this thread */
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
 * Persistent blocks: memory with a name, which a later start of the program finds again. They live
 * in the tiers of the policy that have a name (kind file or dax), page by page, and never in the
 * heap. A new block is zero and writable; berth_persist_commit() makes its contents durable and
 * read-only, for good: whatever happens to the process or the machine meanwhile, a later start
 * finds the block whole, or not at all. free() lets go of a block, as berth_persist_detach() does.
 *
 * All return 0 or a negative errno and leave what `ret` arguments point to as it was on error:
 *
 *     -ENOSYS   no Berth, or only its CUDA side, serves this process
 *     -ENODEV   the policy has no named tier, or it is not available here
 *     -EINVAL   no such name or address can be; or the tier's store is damaged, which is said
 *     -EBUSY    another process is in the way, or the block is being filled already
 *     -EPERM    a forked child asks: its parent's blocks are not its own to change
 *     -EBADMSG  the contents are not what was committed (where the policy says verify = full)
 *     -ENOSPC, -EDQUOT, -EFBIG, -ENOMEM, -EROFS, -EACCES, -EIO, -ENOTSUP
 *
 * A name is up to 255 bytes without control characters; TIER:NAME means that one tier. The full
 * contract is berth_persist(3).
 */
enum berth_persist_state { BERTH_PERSIST_CREATED = 0, BERTH_PERSIST_FOUND = 1 };

/*
 * The committed block of this name, read-only (*ret_state is BERTH_PERSIST_FOUND); or else a new
 * one, to be filled and committed (BERTH_PERSIST_CREATED). -EEXIST: there is one of another size.
 */
int berth_persist(const char *name, size_t size, void **ret_p, unsigned *ret_state);

/* A new block. A committed one of the same name stays until this one is committed. */
int berth_persist_replace(const char *name, size_t size, void **ret_p);

/* The committed block of this name, whatever its size; -ENOENT if there is none. */
int berth_persist_find(const char *name, void **ret_p, size_t *ret_size);

/*
 * Makes the block at `p` durable: when 0 is returned it survives, and is read-only from now on. On
 * error it is as it was, and the call may be repeated. A block that is committed already: 0.
 */
int berth_persist_commit(void *p);

/* Lets go of the block at `p`; one that was not committed is lost. Found twice, let go twice. */
int berth_persist_detach(void *p);

/* Removes the committed block of this name; -EBUSY while this process, or another, has it. */
int berth_persist_remove(const char *name);

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
    int (*persist)(const char *name, size_t size, void **ret_p, unsigned *ret_state);
    int (*persist_replace)(const char *name, size_t size, void **ret_p);
    int (*persist_find)(const char *name, void **ret_p, size_t *ret_size);
    int (*persist_commit)(void *p);
    int (*persist_detach)(void *p);
    int (*persist_remove)(const char *name);
    int (*step_quiescent)(void);
};
typedef const struct berth_api *(*berth_api_v1_fn)(void);

#ifdef __cplusplus
}
#endif

#endif
