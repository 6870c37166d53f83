/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream-ordered memory: what cuMemFreeAsync gave back is cached in its stream's set.
 *
 * Every block is one allocation of the driver's, out of the device's default memory pool: so its
 * attributes, its access by peers and its end by cuMemFree are native, and what the driver keeps in
 * one piece needs no cutting here. A block that was freed on a stream serves the same stream again
 * at once: the order of the stream is all the order it needs, and no call of the driver is made.
 * The legacy stream alone is given a mark, an event, where it frees: blocking streams wait for each
 * other by whatever it is given, and may count on that.
 * Another stream gets it when it is known to be idle, or when its stream turns out to be idle. Else
 * the driver is asked for more; and only where that has none, a dependency is put between the two
 * streams, which is counted: what the one does may wait for the other.
 *
 * A block whose stream was destroyed is retired until a point behind that stream's work has passed.
 *
 * Only the device's default pool is served, while it is the device's current one. The attributes
 * that a program sets on it hold: no reuse across streams where it forbids it.
 *
 * The account is tier `device`'s: held, cached, reserved; a retired block is reserved only.
 */
#ifndef BERTH_ALLOC_POOL_STREAM_H
#define BERTH_ALLOC_POOL_STREAM_H

#include "alloc/pool.h"
#include "alloc/stream.h"

struct berth_segment;

/*
 * A block in the order of the stream, whose handle is not 0. 0; BERTH_POOL_FORWARD when the call is
 * the driver's (size 0, a pool of the program's own, an unknown stream, no host memory); or the
 * driver's error. *ret_address is unchanged unless 0 is returned. No capture is open.
 */
int berth__stream_alloc(const struct berth_pool_request *request, berth_cu_stream handle,
                        uintptr_t *ret_address);

/*
 * Frees it in the order of the stream, which is not captured. -ENOENT: no such block; -EINVAL: it
 * is free already, or the address lies inside it; BERTH_POOL_FORWARD: the call is the driver's,
 * between the two below.
 */
int berth__stream_free(uintptr_t address, berth_cu_stream handle);

/*
 * The legacy stream waits for all blocking ones, and they for it, once it is given something: a
 * free is such a thing, of whatever memory. What is freed without the driver gives it nothing, so a
 * mark stands for it, before the block can be anybody's; other streams need none. False: it could
 * not be made.
 */
bool berth__stream_mark(const struct berth_stream *stream);

/*
 * Around a call of the driver that frees a live block: takes it out, because the address may be
 * somebody else's at once, and afterwards ends it or brings it back. 0, -ENOENT or -EINVAL.
 */
int berth__stream_leave_begin(uintptr_t address, struct berth_stream_block **ret);
void berth__stream_leave_end(struct berth_stream_block *block, bool is_freed);

/* As berth__pool_find(). */
int berth__stream_find_block(uintptr_t address, struct berth_block_view *ret);

/*
 * The live block at `base` has got properties that the next one must not have (synchronous copies,
 * a handle in other hands): it goes back to the driver when it is freed.
 */
void berth__stream_set_last(uintptr_t base);

/* The driver gave this block's address to somebody else: it was freed in a way no hook saw. */
void berth__stream_forget(struct berth_segment *segment);

/* Bytes that are ready for reuse by some stream, of a device or of all of them. */
uint64_t berth__stream_cached(int device);
/*
 * What the device has back once that is given back: all of the driver's pool. While the program has
 * memory of it no more than is certain: see alloc/pool_stream_whole.c. Asks the driver.
 */
uint64_t berth__stream_obtainable(int device);
/*
 * Gives what is cached on the device, or on BERTH_POOL_ALL_DEVICES, back to the driver, and makes
 * the driver's pool give it to the device. Returns the bytes. Waits for the device. Nothing while a
 * capture is open.
 */
uint64_t berth__stream_release(int device);

/* The same, but leaves the driver's pool as it is, which `pool` names. For cuMemPoolTrimTo. */
uint64_t berth__stream_release_pool(berth_cu_pool pool);

/* CUmemPool_attribute, cuda.h. */
enum {
    BERTH_CU_POOL_REUSE_OPPORTUNISTIC = 2,
    BERTH_CU_POOL_REUSE_DEPENDENCIES = 3,
    BERTH_CU_POOL_RELEASE_THRESHOLD = 4,
    BERTH_CU_POOL_RESERVED_CURRENT = 5,
    BERTH_CU_POOL_USED_CURRENT = 7,
    BERTH_CU_POOL_USED_HIGH = 8
};

/*
 * Around a call of the program's that waits for all work of a stream, or, where the handle is 0, of
 * the context: what the streams that it was for had cached when it began is done. The driver gives
 * such memory to the device then; here it stays cached, and goes back without a wait and in no
 * order when memory is short. After the call only if that succeeded.
 */
uint64_t berth__stream_wait_begin(void);
void berth__stream_wait_end(uint64_t begin, berth_cu_context context, berth_cu_stream handle);
/*
 * Gives back what is known to be done, on a device or on all of them, so that `need` bytes come
 * free if there are so many. Waits for nobody. Returns the bytes; 0 while a capture is open.
 */
uint64_t berth__stream_release_done(int device, uint64_t need);

/* The program set an attribute of a pool; and the driver answered a question for one. */
void berth__stream_attribute_set(berth_cu_pool pool, int attribute, const void *value);
void berth__stream_attribute_correct(berth_cu_pool pool, int attribute, void *value);
/* The program chose a pool for the device. */
void berth__stream_pool_chosen(int device, berth_cu_pool pool);

/* For berth__stream_destroy_begin() and berth__stream_drop_end(). */
void berth__stream_retire(struct berth_stream *stream);
void berth__stream_retire_idle(struct berth_stream *stream);
/* The context is gone, and what was retired in it idle. Any thread. */
void berth__stream_context_gone(berth_cu_context context);
/*
 * The same two for a green context, whose work the primary one's synchronisation waits for (cuda.h,
 * cuCtxSynchronize), and whose events end with it.
 */
void berth__stream_retire_green(struct berth_stream *stream);
void berth__stream_green_gone(berth_cu_context context);
/* For berth__stream_thread_ends. */
void berth__stream_retire_thread(struct berth_stream *stream);

/* How often a block went from one stream to another because its stream was idle; or by a wait. */
struct berth_stream_counts {
    _Atomic uint64_t idle_reuses, waiting_reuses;
};
extern struct berth_stream_counts berth__stream_counts;

/* What all devices hold, counted by walking; for tests. */
struct berth_stream_audit {
    uint64_t reserved, cached, live;
    uint64_t retired; /* of `cached` */
};
void berth__stream_audit(struct berth_stream_audit *ret);

#endif
