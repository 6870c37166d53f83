/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams, as the program makes, uses and destroys them.
 *
 * A handle may be used again for another stream after its stream was destroyed, so a stream is its
 * record here: the record ends with the stream. The two default streams have a record per context,
 * and the per-thread one per context and thread (checklist 34, 35).
 *
 * Records are found without a lock and never unmapped; a record that ended serves a later stream.
 * Before a stream or a context is destroyed it is unlisted with the door of alloc/order.h shut, so
 * whoever is inside may use the handle of any stream that is listed.
 */
#ifndef BERTH_ALLOC_STREAM_H
#define BERTH_ALLOC_STREAM_H

#include "alloc/device.h"
#include "alloc/size_class.h"
#include "alloc/stats.h"

/* CU_STREAM_LEGACY, CU_STREAM_PER_THREAD: what handle 0 means depends on the entry point. */
#define BERTH_STREAM_LEGACY ((berth_cu_stream)1)
#define BERTH_STREAM_PER_THREAD ((berth_cu_stream)2)

static inline bool berth__stream_is_default(berth_cu_stream handle)
{
    return (uintptr_t)handle <= 2;
}

struct berth_stream_block;

/*
 * What was freed in the order of one stream and is cached; see alloc/pool_stream.h. With it the
 * counters of what the stream was given, and numbers for blocks.
 */
struct berth_stream_set {
    atomic_int lock; /* held for a few instructions */
    /*
     * Counted where berth__stream_each_cached() looks, from its first block on until somebody finds
     * it empty there: who frees and allocates in turn does not count.
     */
    bool is_listed;
    _Atomic uint32_t *listed_in[2]; /* NULL: nobody looks for it; written before it is found */
    /* What was freed before is done of what the stream was given: berth__stream_wait_begin(). */
    _Atomic uint64_t done_alone;
    uint64_t next_id, last_id;
    uint64_t cached;     /* bytes */
    uint64_t cached_low; /* the least since the account was last made up */
    struct berth_stats_part part;
    uint64_t filled[(BERTH_SIZE_CLASS_COUNT + 63) / 64];      /* derived: classes with blocks */
    struct berth_stream_block *first[BERTH_SIZE_CLASS_COUNT]; /* newest first */
};

enum berth_stream_state {
    BERTH_STREAM_FREE,  /* the record is nobody's */
    BERTH_STREAM_READY, /* the stream can be used */
    BERTH_STREAM_ENDING /* it is being destroyed, or its context is */
};

struct berth_stream {
    struct berth_stream *next;       /* of the same bucket; appended only */
    _Atomic int state;               /* written last */
    _Atomic(berth_cu_stream) handle; /* never 0 */
    _Atomic(berth_cu_context) context;
    _Atomic uint64_t thread; /* whose default stream it is; 0 otherwise */
    _Atomic int device;
    _Atomic bool
        is_made; /* by a call that Berth saw; false: a default stream, or first seen in use */
    struct berth_stream_set set;
};

/*
 * The stream of a handle that is not 0; default ones in the calling thread's context. 0, or an
 * error: no context, no memory, or what the driver says of a handle that it does not know.
 */
int berth__stream_find(berth_cu_stream handle, struct berth_stream **ret);
/* The same of what was found before; NULL for others. */
struct berth_stream *berth__stream_peek(berth_cu_stream handle);

/* The program made a stream in its current context. */
void berth__stream_made(berth_cu_stream handle);

/*
 * Around the call that destroys a stream: NULL when it is none that is listed. `retire` takes what
 * is cached in its set while the handle is still good.
 */
struct berth_stream *berth__stream_destroy_begin(berth_cu_stream handle,
                                                 void (*retire)(struct berth_stream *stream));
void berth__stream_destroy_end(struct berth_stream *stream, bool is_destroyed);

/* The same around a call that may destroy a context, whose work is then over. */
void berth__stream_drop_begin(berth_cu_context context);
void berth__stream_drop_end(berth_cu_context context, bool is_destroyed,
                            void (*retire)(struct berth_stream *stream));

/*
 * Calls `visit` for each stream that can be used and that has cached blocks, or had, or for those
 * of a context that the program has made, until it does not return 0; returns that. No lock is
 * held. The first costs nothing for the other streams, however many they are.
 */
int berth__stream_each_cached(int (*visit)(struct berth_stream *stream, void *argument),
                              void *argument);
int berth__stream_each_made(berth_cu_context context,
                            int (*visit)(struct berth_stream *stream, void *argument),
                            void *argument);

/* A set without blocks is counted no more. In alloc/pool_stream_set.c. */
void berth__stream_set_unlist(struct berth_stream_set *set);

/* Whether the calling thread may use the stream: not where it is another thread's default one. */
bool berth__stream_is_reachable(const struct berth_stream *stream);

/*
 * Called for a stream that can be asked for nothing more: in a thread that ends, for its own
 * default streams; and for one whose handle has come again.
 */
extern void (*const berth__stream_thread_ends)(struct berth_stream *stream);

#endif
