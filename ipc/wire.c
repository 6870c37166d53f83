/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/wire.h"

#include "ipc/buffer.h"

#include <errno.h>
#include <string.h>

void berth__wire_init(struct berth_wire *wire)
{
    memset(wire, 0, sizeof(*wire));
}

void berth__wire_done(struct berth_wire *wire)
{
    berth__buffer_free(wire->data, wire->size);
    berth__wire_init(wire);
}

/* Drops the rest of a frame that is too long; what remains begins after its newline. */
static void skip_frame(struct berth_wire *wire)
{
    const char *newline = memchr(wire->data + wire->start, '\n', wire->used);
    size_t dropped = wire->used;

    if (newline) {
        dropped = (size_t)(newline - (wire->data + wire->start)) + 1;
        wire->skipping = false;
    }
    wire->start += dropped;
    wire->used -= dropped;
    wire->scanned = 0;
}

/* Makes room for `length` more bytes behind those in use. */
static int reserve(struct berth_wire *wire, size_t length)
{
    size_t needed;
    size_t size = wire->size ? wire->size : 4096;
    char *data;

    if (wire->start > 0) {
        memmove(wire->data, wire->data + wire->start, wire->used);
        wire->start = 0;
    }
    if (__builtin_add_overflow(wire->used, length, &needed))
        return -ENOMEM;
    while (size < needed)
        if (__builtin_mul_overflow(size, 2, &size))
            return -ENOMEM;
    if (size == wire->size)
        return 0;
    data = berth__buffer_resize(wire->data, wire->size, size);
    if (!data)
        return -ENOMEM;
    wire->data = data;
    wire->size = size;
    return 0;
}

int berth__wire_feed(struct berth_wire *wire, const void *bytes, size_t length)
{
    int r;

    if (length == 0)
        return 0;
    r = reserve(wire, length);
    if (r < 0)
        return r;
    memcpy(wire->data + wire->used, bytes, length);
    wire->used += length;
    if (wire->skipping)
        skip_frame(wire);
    return 0;
}

/* The newline that ends the first frame, or NULL; remembers how far it has looked. */
static const char *find_newline(struct berth_wire *wire)
{
    const char *first = wire->data + wire->start;
    const char *newline;

    if (wire->used == wire->scanned)
        return NULL;
    newline = memchr(first + wire->scanned, '\n', wire->used - wire->scanned);
    wire->scanned = newline ? (size_t)(newline - first) : wire->used;
    return newline;
}

bool berth__wire_ready(struct berth_wire *wire)
{
    return find_newline(wire) || wire->used >= BERTH_WIRE_FRAME_MAX;
}

int berth__wire_next(struct berth_wire *wire, const char **ret_frame, size_t *ret_length)
{
    const char *newline = find_newline(wire);
    const char *first = wire->data + wire->start;
    size_t length = newline ? (size_t)(newline - first) : wire->used;

    if (length >= BERTH_WIRE_FRAME_MAX) {
        wire->skipping = true;
        skip_frame(wire);
        return -EMSGSIZE;
    }
    if (!newline)
        return 0;
    wire->start += length + 1;
    wire->used -= length + 1;
    wire->scanned = 0;
    *ret_frame = first;
    *ret_length = length;
    return 1;
}
