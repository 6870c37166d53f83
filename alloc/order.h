/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order: points in the work of contexts and streams. What was freed before a point is nobody's once
 * the point has passed.
 *
 * A point is one event of the driver, or, where the driver cannot record one for a whole context
 * (before CUDA 12.5), one for each stream of it that is at work. Events are made once and kept per
 * context; they go with it.
 *
 * The calls behind all this break a stream capture that is open (cuda.h: cuCtxRecordEvent is
 * refused and invalidates it; cuEventQuery and cuStreamQuery are unsafe), and use streams and
 * contexts that the program may destroy meanwhile. So they are made inside a door: who begins a
 * capture, or destroys a stream or a context, shuts it first, and then nobody is inside. While a
 * capture is open nobody gets in. No lock is held inside, and nothing in there waits for the
 * device. Nor is the door shut while anybody does: to destroy a context takes as long as its work,
 * so it is shut only to say that nothing may be asked of that context, and of its points, any more.
 *
 * Any thread. Errors are negative errno, the driver's as berth__device_error() makes them.
 */
#ifndef BERTH_ALLOC_ORDER_H
#define BERTH_ALLOC_ORDER_H

#include "alloc/device.h"

/* False: nothing may be asked of the driver now. True: berth__order_leave() must follow soon. */
bool berth__order_enter(void);
void berth__order_leave(void);

/* Waits until nobody is inside and lets nobody in until it is opened as often as it was shut. */
void berth__order_shut(void);
void berth__order_open(void);

/*
 * With the door shut, around the call that destroys a context: nobody asks anything of it, nor of
 * its points, though the door is opened meanwhile; what needs it answers -EBUSY. False without
 * memory: then the door must stay shut.
 */
bool berth__order_forbid(berth_cu_context context);
bool berth__order_is_forbidden(berth_cu_context context);
void berth__order_allow(berth_cu_context context);

/*
 * What the program has waited for in all of a context: the latest such moment, which is raised and
 * never lowered; 0: none. A later context at the same handle has frees of later moments only.
 */
void berth__order_set_waited(berth_cu_context context, uint64_t moment);
uint64_t berth__order_waited(berth_cu_context context);

/*
 * Whether it is known to be no green context, which is a part of the device. The driver is asked
 * once: the end of other contexts is seen.
 */
bool berth__order_is_plain(berth_cu_context context);

/*
 * Waits until the door is open, which is soon: who shuts it waits for nobody but those inside. At
 * most so long; false if it is not then, or a capture is open.
 */
bool berth__order_await_door(int64_t patience_ns);

/*
 * A second door, for calls that wait for the device, which may take long: who begins a capture
 * shuts this one too, because cuCtxSynchronize in another thread would break it (cuda.h,
 * cuThreadExchangeStreamCaptureMode), while cuMemFree, for which Berth calls it, natively need not.
 * It waits for those inside only so long that their calls have surely begun: a call that is waiting
 * when the capture begins does it no harm, and the device may be waiting for the very thread.
 */
void berth__order_shut_to_waits(void);
void berth__order_open_to_waits(void);
/*
 * Inside this door: waits until the context is idle, as cuCtxSynchronize does. While a capture is
 * open, an error that speaks of it, and the driver is not asked.
 */
int berth__order_sync(berth_cu_context context);

struct berth_order_point {
    struct berth_order_point *next;    /* further events of the same point; or a list of spares */
    struct berth_order_context *owner; /* whose event it is */
    uint64_t generation;               /* of the owner, when the event was made */
    uint64_t departed;                 /* streams of the owner that were destroyed before */
    berth_cu_event event;
};

/*
 * A point behind all work that was queued in the context until now. -EBUSY while a capture is open,
 * the door is shut, or the context is being destroyed;
 * -ENOTSUP where nobody can know all streams of the context, or one ended without a point, as
 * berth__order_is_known() says before; -ENOMEM; or the driver's error.
 */
int berth__order_record(berth_cu_context context, struct berth_order_point **ret);
/*
 * The same, and whether that point has passed already: 1 or 0. *point, if not NULL, is one that is
 * needed no more, and is recorded anew; it is the caller's in any case. -ENOTSUP also where a
 * context has one point for each stream.
 */
int berth__order_probe(berth_cu_context context, struct berth_order_point **point);
/*
 * Called inside the door. A point behind what one stream of the context has been given. Per-thread
 * default streams: only from their own thread.
 */
int berth__order_record_stream(berth_cu_context context, berth_cu_stream stream,
                               struct berth_order_point **ret);
/* Called inside the door: what the stream is given from now on waits for the point. */
int berth__order_make_wait(const struct berth_order_point *point, berth_cu_context context,
                           berth_cu_stream stream);

/* 1: has passed; 0: not yet; -EBUSY: not to be asked now; or the driver's error. */
int berth__order_query(const struct berth_order_point *point);
/*
 * Waits until the point has passed, a capture is begun, or so long that the device may be waiting
 * for this very thread (-ETIMEDOUT). 0 when it has passed. No lock is held by the caller.
 */
int berth__order_wait(const struct berth_order_point *point);
/*
 * The same for a thread that is in relaxed mode (cuThreadExchangeStreamCaptureMode): it may ask
 * about a point that was recorded before a capture was begun while that is open (cuda.h: unsafe
 * calls are not prohibited then, and the event is no part of the capture). Nothing can be recorded.
 */
int berth__order_query_relaxed(const struct berth_order_point *point);
int berth__order_wait_relaxed(const struct berth_order_point *point);
/* The point is not needed any more; its events serve again. NULL is allowed. */
void berth__order_done(struct berth_order_point *point);

/*
 * Called with the door shut, before a stream of the context is destroyed: its work goes on, and
 * points that are recorded later are behind it, too.
 */
void berth__order_depart(berth_cu_context context, berth_cu_stream stream);

/*
 * Streams of this context exist that Berth does not know: without the driver's help its points
 * cannot be recorded from now on.
 */
void berth__order_set_unsure(berth_cu_context context);
/*
 * Work was queued in the stream, for which 0 is not allowed: where points are recorded stream by
 * stream, a per-thread default stream, or one that nobody saw begin, makes its context unsure.
 */
void berth__order_saw_unknown(berth_cu_stream stream);
static inline void berth__order_saw(berth_cu_stream stream)
{
    if (BERTH_UNLIKELY(!berth__driver.cuCtxRecordEvent) && stream != (berth_cu_stream)1)
        berth__order_saw_unknown(stream);
}

/* Whether berth__order_record() can work in the context at all. */
bool berth__order_is_known(berth_cu_context context);

/*
 * Around a synchronisation of the context that succeeds: how many of its streams ended under a
 * capture, without a point behind their work, and that those are done now.
 */
extern _Atomic uint64_t berth__order_losses; /* of all contexts, ever */
uint64_t berth__order_lost_of(berth_cu_context context);
static inline uint64_t berth__order_lost(berth_cu_context of)
{
    return BERTH_UNLIKELY(atomic_load_explicit(&berth__order_losses, memory_order_relaxed) > 0)
               ? berth__order_lost_of(of)
               : 0;
}
void berth__order_synced(berth_cu_context context, uint64_t lost);

/* The context is destroyed: its events are gone, and its points have passed. */
void berth__order_drop(berth_cu_context context);

#endif
