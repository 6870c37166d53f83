/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A trace as the tools hold it: allocations and frees in the order in which they happened, and
 * which free belongs to which allocation.
 *
 * Out of memory, the tool says so and exits.
 */
#ifndef BERTH_TOOLS_TRACE_LOG_H
#define BERTH_TOOLS_TRACE_LOG_H

#include "alloc/trace_record.h"

#include <stddef.h>

/* What an event's `match` says when there is none. */
#define BERTH_TRACE_NONE UINT32_MAX
/* Most events of one trace; its file is refused beyond. */
#define BERTH_TRACE_EVENTS_MAX (UINT32_MAX - 1)

/* No memory is larger: 1 PiB. What a program asked for in vain may be. */
#define BERTH_TRACE_SIZE_MAX ((uint64_t)1 << 50)

struct berth_trace_event {
    uint64_t time_ns; /* since the first event */
    uint64_t address;
    uint64_t size; /* as asked for; of a free, what its allocation asked for where that is known */
    uint64_t held; /* the allocation's size class; 0 = not known */
    uint64_t stream;
    uint64_t thread;
    uint32_t site;  /* index in the log's names; 0 = not known */
    uint32_t match; /* an allocation's free, a free's allocation; BERTH_TRACE_NONE */
    uint32_t line;  /* of the file, for messages; 0 = none */
    uint16_t device;
    uint8_t action; /* enum berth_trace_action, SITE excepted; NOTHING is passed over */
    uint8_t tag;
    uint8_t kind; /* enum berth_trace_kind */
};

struct berth_trace_log {
    struct berth_trace_event *event;
    uint32_t count, room;
    char **site; /* names by index; [0] is "" */
    uint32_t site_count, site_room;
    uint32_t *site_slot; /* by hash, a name's index plus one; 0 = empty; twice site_room of them */
    bool is_truncated;   /* the recorder could not write all there was */
    /* Derived by berth__trace_log_match(): */
    uint64_t max_live;       /* bytes, the most that were live at once */
    uint32_t max_live_event; /* when that was first so */
    uint32_t allocations;    /* that succeeded */
    uint32_t leftovers;      /* of these, never freed */
    uint32_t strange_frees;  /* of memory from before the trace; they have no match */
    uint32_t replaced;       /* allocations whose address came again without a free between */
};

void berth__trace_log_init(struct berth_trace_log *log);
void berth__trace_log_done(struct berth_trace_log *log);

/* A zeroed event at the end. The pointer is good until the next call. */
struct berth_trace_event *berth__trace_log_add(struct berth_trace_log *log);

/* The index of a site's name, which is copied when it is new. Empty: 0. */
uint32_t berth__trace_log_site(struct berth_trace_log *log, const char *name, size_t length);

/*
 * Finds what belongs together, and how much was live. A free gets its allocation's size. An address
 * that is handed out again while it is live ends the earlier allocation there. What was EXISTING
 * becomes an allocation, or nothing where the trace has that allocation itself.
 */
void berth__trace_log_match(struct berth_trace_log *log);

/* Names in files, and the reverse (-ENOENT). */
const char *berth__trace_kind_name(unsigned kind);
int berth__trace_kind_from_name(const char *name, size_t length);

#endif
