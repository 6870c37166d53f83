/* SPDX-License-Identifier: Apache-2.0 */
#include "text_stream.h"

#include "utf8.h"

#include <errno.h>
#include <string.h>

static int bytes_put(struct berth_text_stream *stream, const void *bytes, size_t size)
{
    return fwrite(bytes, 1, size, stream->file) == size ? 0 : -EIO;
}

static int replacement_put(struct berth_text_stream *stream)
{
    return bytes_put(stream, BERTH_UTF8_REPLACEMENT, strlen(BERTH_UTF8_REPLACEMENT));
}

/* Takes one byte; at most four are ever pending, because five can be no prefix. */
static int byte_take(struct berth_text_stream *stream, unsigned char byte)
{
    enum berth_utf8_status status;
    uint32_t code;
    size_t taken;
    int r = 0;

    stream->pending[stream->pending_size++] = byte;
    while (r == 0 && stream->pending_size > 0) {
        status = berth__utf8_next(stream->pending, stream->pending_size, &code, &taken);
        if (status == BERTH_UTF8_INCOMPLETE)
            break;
        r = status == BERTH_UTF8_VALID ? bytes_put(stream, stream->pending, taken)
                                       : replacement_put(stream);
        stream->pending_size -= taken;
        memmove(stream->pending, stream->pending + taken, stream->pending_size);
    }
    return r;
}

int berth__text_stream_write(struct berth_text_stream *stream, const unsigned char *bytes,
                             size_t size)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < size; i++)
        r = byte_take(stream, bytes[i]);
    return r;
}

int berth__text_stream_finish(struct berth_text_stream *stream)
{
    int r = stream->pending_size > 0 ? replacement_put(stream) : 0;

    stream->pending_size = 0;
    return r;
}
