/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A snapshot as a process hands it to a client: one file of chunks, which the operation `snapshot`
 * writes and the tools read.
 *
 * A header, then chunks, each a struct berth_snapshot_chunk and its bytes:
 *
 *  SEGMENT  a struct berth_segment_row and its struct berth_block_row's
 *  HISTORY  struct berth_trace_record's, oldest first; there may be several such chunks
 *  SITE     a struct berth_snapshot_site, then for each frame a struct berth_snapshot_frame with
 * the bytes of its module's and its symbol's name OPTION   an option's name and its value as text,
 * each with its terminating zero END      nothing: the file is whole
 */
#ifndef BERTH_IPC_SNAPSHOT_FORMAT_H
#define BERTH_IPC_SNAPSHOT_FORMAT_H

#include "alloc/pool_walk.h"
#include "alloc/trace_record.h"

#define BERTH_SNAPSHOT_MAGIC "berth snapshot 1"

enum berth_snapshot_type {
    BERTH_SNAPSHOT_END,
    BERTH_SNAPSHOT_SEGMENT,
    BERTH_SNAPSHOT_HISTORY,
    BERTH_SNAPSHOT_SITE,
    BERTH_SNAPSHOT_OPTION,
    BERTH_SNAPSHOT_TYPE_COUNT
};

struct berth_snapshot_header {
    char magic[24];
    uint32_t pid, unused;
    uint64_t time_ns, time_real_ns; /* CLOCK_MONOTONIC and CLOCK_REALTIME when it was taken */
};

struct berth_snapshot_chunk {
    uint32_t type, unused;
    uint64_t size; /* bytes that follow */
};

struct berth_snapshot_site {
    uint32_t site, frames;
};

struct berth_snapshot_frame {
    uint64_t offset; /* from the symbol, or from the module's start where there is none */
    uint32_t module_length, symbol_length;
};

#endif
