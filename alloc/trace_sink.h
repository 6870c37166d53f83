/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where records of a trace go: places by number, in a file that grows or in a ring.
 *
 * A file's records lie in pieces of 4 MiB, each allocated on the disk, then mapped, then published
 * in a directory. Any thread.
 */
#ifndef BERTH_ALLOC_TRACE_SINK_H
#define BERTH_ALLOC_TRACE_SINK_H

#include "alloc/trace_record.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

#define BERTH_TRACE_PIECE_SHIFT 16 /* 65536 records, 4 MiB */
#define BERTH_TRACE_PIECE ((uint64_t)1 << BERTH_TRACE_PIECE_SHIFT)
/* Pieces of one file: 256 GiB of records. */
#define BERTH_TRACE_PIECES_MAX ((uint64_t)1 << 16)

struct berth_trace_sink {
    struct berth_trace_header *header;
    struct berth_trace_record *ring; /* NULL: a file */
    uint64_t ring_room;
    /* A file: */
    _Atomic(struct berth_trace_record *) *piece; /* the directory */
    pthread_mutex_t lock;                        /* held by the thread that makes a piece */
    int fd;
    dev_t device; /* that `fd` is still the trace's is asked before each use */
    ino_t inode;
    pid_t pid;         /* whose trace it is */
    _Atomic int ended; /* no further piece can be had: 1, and the errno in `error` */
    int error;
};

/* Makes the file a sink; `fd` is duplicated. 0 or negative errno; nothing is kept then. */
int berth__trace_sink_open(struct berth_trace_sink *sink, int fd);
/* Makes a ring of `records` places. */
int berth__trace_sink_ring(struct berth_trace_sink *sink, uint64_t records);

/* The next number. */
uint64_t berth__trace_sink_take(struct berth_trace_sink *sink);
/* The place of a number, or NULL: there is no room any more. */
struct berth_trace_record *berth__trace_sink_place(struct berth_trace_sink *sink, uint64_t number);

/*
 * Lets go of the file, whose size stays. Its addresses stay too, with other memory behind them,
 * because a writer may be late.
 */
void berth__trace_sink_close(struct berth_trace_sink *sink, uint64_t *ret_records,
                             bool *ret_truncated);

#endif
