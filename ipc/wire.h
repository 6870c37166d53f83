/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of the protocol: a frame is one line of JSON, ended by a newline. Pure: no I/O.
 *
 * Bytes go in as they come, frames come out whole. A frame that is longer than
 * BERTH_WIRE_FRAME_MAX is reported once and skipped up to its newline, so that what a peer can make
 * this process hold is bounded and the frames after it are still understood.
 */
#ifndef BERTH_IPC_WIRE_H
#define BERTH_IPC_WIRE_H

#include <stdbool.h>
#include <stddef.h>

/* Longest frame, its newline included. */
#define BERTH_WIRE_FRAME_MAX ((size_t)1 << 20) /* 1 MiB */

/* Bytes between what was fed and what was taken: data[start, start + used). Owned by one thread. */
struct berth_wire {
    char *data;
    size_t size; /* of the allocation */
    size_t start;
    size_t used;
    size_t scanned; /* of `used`, how many are known not to be a newline */
    bool skipping;  /* inside a frame that is too long */
};

void berth__wire_init(struct berth_wire *wire);
void berth__wire_done(struct berth_wire *wire);

/* Appends `length` bytes. 0, or -ENOMEM, and then nothing is appended. */
int berth__wire_feed(struct berth_wire *wire, const void *bytes, size_t length);

/* Whether berth__wire_next() would answer something other than 0. */
bool berth__wire_ready(struct berth_wire *wire);

/*
 * Takes the next frame: 1, with the frame without its newline in *ret_frame (valid until the next
 * feed; empty for an empty line); 0 when more bytes are needed; -EMSGSIZE when a frame is too long,
 * once for each such frame.
 */
int berth__wire_next(struct berth_wire *wire, const char **ret_frame, size_t *ret_length);

#endif
