/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trace: an event log of device allocations and of memory that the driver serves itself.
 *
 * Two sinks, each on or off: a file that somebody gave, which is appended to, and the history, a
 * ring in this process's memory with the newest records (option `history`). Hooks ask
 * berth__trace_on(), one relaxed load, and everything else happens only then.
 *
 * A record is written without a lock into a place that its writer took by one addition; only the
 * thread that needs a new piece of the file waits for the disk. Space is allocated before it is
 * mapped, so that a full disk ends the trace with one line and never with SIGBUS. A forked child
 * writes nothing: the trace is its parent's.
 */
#ifndef BERTH_ALLOC_TRACE_H
#define BERTH_ALLOC_TRACE_H

#include "alloc/trace_record.h"
#include "alloc/types.h"

#include <stdatomic.h>
#include <stddef.h>

/* Bits of berth__trace_state. */
enum {
    BERTH_TRACE_TO_FILE = 1,
    BERTH_TRACE_TO_HISTORY = 2,
    BERTH_TRACE_PATHS = 4, /* call paths are wanted even where no rule names a site */
};

extern _Atomic unsigned berth__trace_state;

static inline bool berth__trace_on(void)
{
    return BERTH_UNLIKELY(atomic_load_explicit(&berth__trace_state, memory_order_relaxed) != 0);
}

static inline bool berth__trace_wants_paths(void)
{
    return (atomic_load_explicit(&berth__trace_state, memory_order_relaxed) & BERTH_TRACE_PATHS) !=
           0;
}

/* What is to be recorded of one call. */
struct berth_trace_call {
    enum berth_trace_action action;
    enum berth_trace_kind kind;
    uintptr_t address;
    uint64_t requested, held;
    uint64_t stream;
    berth_site_id site;
    enum berth_tag tag;
    int device;
};

/*
 * The numbers of a record to be, in each sink. A call that gives memory back takes them before it
 * does, because afterwards the address may be somebody else's.
 */
struct berth_trace_place {
    void *trace;            /* the trace to a file that gave the number; NULL = none */
    uint64_t file, history; /* UINT64_MAX = none */
    uint64_t time_ns;
};

void berth__trace_take(struct berth_trace_place *ret);
/* Writes the record. The action NOTHING gives the place up. Keeps errno. */
void berth__trace_write(const struct berth_trace_place *place, const struct berth_trace_call *call);
/* Both in one. */
void berth__trace_record(const struct berth_trace_call *call);

/*
 * Begins a trace in an empty regular file, which is the trace's from then on (a descriptor of its
 * own is kept). 0; -EBUSY when one is going on; -EINVAL for what is no such file; or the errno of
 * what failed, with a sentence in `why`. Not in a hook's fast path.
 */
int berth__trace_start(int fd, bool with_paths, char *why, size_t why_size);
/* Ends it; how many records there are, and whether some are missing. -ENOENT when there is none. */
int berth__trace_stop(uint64_t *ret_records, bool *ret_truncated);
/* How many there are now; 0 without a trace. */
uint64_t berth__trace_count(void);

/* Begins the history with room for `records`; the second call, and 0, do nothing. */
int berth__trace_keep_history(uint64_t records);
/*
 * Copies the newest records, oldest first, into `ret`, which has room for `most`; how many. Those
 * that are written at the same moment are left out.
 */
size_t berth__trace_history(struct berth_trace_record *ret, size_t most);
/* How many records the history has room for; 0 when it is off. */
size_t berth__trace_history_room(void);

/*
 * A trace that the environment asks for: BERTH_TRACE=path, remembered at bootstrap, because the
 * process that uses CUDA may be a child of the one that was started. Begun by
 * berth__trace_begin_wanted(), once, when the driver is initialised; the history too.
 */
void berth__trace_want(const char *path);
bool berth__trace_is_wanted(void);
void berth__trace_begin_wanted(void);

/* Records the blocks that are live already. */
void berth__trace_existing(void);

#endif
