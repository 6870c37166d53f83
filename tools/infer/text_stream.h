/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text stream: writes the bytes of tokens as they come, in whole characters. A
 * token may end inside a character: those bytes wait for the rest. Bytes that no
 * continuation can make valid become U+FFFD, so the output is always UTF-8.
 */
#ifndef BERTH_INFER_TEXT_STREAM_H
#define BERTH_INFER_TEXT_STREAM_H

#include <stddef.h>
#include <stdio.h>

struct berth_text_stream {
    FILE *file;
    unsigned char pending[4]; /* the start of a character */
    size_t pending_size;
};

/* 0, or -EIO when the file does not take the bytes. */
int berth__text_stream_write(struct berth_text_stream *stream, const unsigned char *bytes,
                             size_t size);
/* Writes what is left over at the end of a text, as U+FFFD. */
int berth__text_stream_finish(struct berth_text_stream *stream);

#endif
