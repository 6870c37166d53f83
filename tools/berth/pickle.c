/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/pickle.h"

#include "tools/berth/tool.h"

#include <stdlib.h>
#include <string.h>

/* The operations, by their bytes (Python's pickletools names them). */
enum {
    OP_PROTO = 0x80,
    OP_STOP = '.',
    OP_MARK = '(',
    OP_EMPTY_DICT = '}',
    OP_SETITEMS = 'u',
    OP_EMPTY_LIST = ']',
    OP_APPENDS = 'e',
    OP_BINUNICODE = 'X',
    OP_BININT = 'J',
    OP_LONG1 = 0x8a,
    OP_BINFLOAT = 'G',
    OP_NEWTRUE = 0x88,
    OP_NEWFALSE = 0x89,
    OP_TUPLE2 = 0x86,
    OP_BINPUT = 'q',
    OP_LONG_BINPUT = 'r',
    OP_BINGET = 'h',
    OP_LONG_BINGET = 'j',
};

/* A text that was written, and its number. */
struct berth_pickle_text {
    char *text; /* NULL: an empty slot */
    size_t length;
    uint32_t number;
};

static void put(struct berth_pickle *pickle, int byte)
{
    fputc(byte, pickle->out);
}

static void put_uint(struct berth_pickle *pickle, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        put(pickle, (int)(value >> 8 * i & 0xff));
}

void berth__pickle_begin(struct berth_pickle *pickle, FILE *out)
{
    memset(pickle, 0, sizeof(*pickle));
    pickle->out = out;
    put(pickle, OP_PROTO);
    put(pickle, 2);
}

void berth__pickle_end(struct berth_pickle *pickle)
{
    put(pickle, OP_STOP);
    for (uint32_t i = 0; i < pickle->text_room; i++)
        free(pickle->text[i].text);
    free(pickle->text);
}

uint32_t berth__pickle_keep(struct berth_pickle *pickle)
{
    uint32_t number = pickle->memo++;

    put(pickle, number < 256 ? OP_BINPUT : OP_LONG_BINPUT);
    put_uint(pickle, number, number < 256 ? 1 : 4);
    return number;
}

void berth__pickle_kept(struct berth_pickle *pickle, uint32_t number)
{
    put(pickle, number < 256 ? OP_BINGET : OP_LONG_BINGET);
    put_uint(pickle, number, number < 256 ? 1 : 4);
}

static uint32_t hash_of(const char *text, size_t length)
{
    uint32_t hash = 0x811c9dc5;

    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x01000193;
    return hash ^ hash >> 15;
}

/* Where the text is, or the empty slot for it. */
static struct berth_pickle_text *slot_of(const struct berth_pickle *pickle, const char *text,
                                         size_t length)
{
    uint32_t at = hash_of(text, length) & (pickle->text_room - 1);

    while (pickle->text[at].text &&
           (pickle->text[at].length != length || memcmp(pickle->text[at].text, text, length) != 0))
        at = (at + 1) & (pickle->text_room - 1);
    return &pickle->text[at];
}

static void grow(struct berth_pickle *pickle)
{
    struct berth_pickle_text *old = pickle->text;
    uint32_t old_room = pickle->text_room;

    pickle->text_room = old_room ? old_room * 2 : 256;
    pickle->text = berth__tool_realloc(NULL, pickle->text_room * sizeof(*pickle->text));
    memset(pickle->text, 0, pickle->text_room * sizeof(*pickle->text));
    for (uint32_t i = 0; i < old_room; i++)
        if (old[i].text)
            *slot_of(pickle, old[i].text, old[i].length) = old[i];
    free(old);
}

/* What is not printable ASCII is "?": names come from files that anybody may have made. */
static void put_text(struct berth_pickle *pickle, const char *text, size_t length)
{
    put(pickle, OP_BINUNICODE);
    put_uint(pickle, length, 4);
    for (size_t i = 0; i < length; i++)
        put(pickle, text[i] < ' ' || text[i] > '~' ? '?' : text[i]);
}

void berth__pickle_text(struct berth_pickle *pickle, const char *text, size_t length)
{
    struct berth_pickle_text *slot;

    if (pickle->text_count >= pickle->text_room / 2)
        grow(pickle);
    slot = slot_of(pickle, text, length);
    if (slot->text) {
        berth__pickle_kept(pickle, slot->number);
        return;
    }
    slot->text = berth__tool_realloc(NULL, length + 1);
    memcpy(slot->text, text, length);
    slot->length = length;
    pickle->text_count++;
    put_text(pickle, text, length);
    slot->number = berth__pickle_keep(pickle);
}

void berth__pickle_word(struct berth_pickle *pickle, const char *word)
{
    berth__pickle_text(pickle, word, strlen(word));
}

void berth__pickle_integer(struct berth_pickle *pickle, int64_t value)
{
    if (value >= INT32_MIN && value <= INT32_MAX) {
        put(pickle, OP_BININT);
        put_uint(pickle, (uint64_t)value, 4);
        return;
    }
    put(pickle, OP_LONG1);
    put(pickle, 8);
    put_uint(pickle, (uint64_t)value, 8);
}

/* Its bytes begin with the highest. */
void berth__pickle_real(struct berth_pickle *pickle, double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof(bits));
    put(pickle, OP_BINFLOAT);
    for (int i = 7; i >= 0; i--)
        put(pickle, (int)(bits >> 8 * i & 0xff));
}

void berth__pickle_bool(struct berth_pickle *pickle, bool value)
{
    put(pickle, value ? OP_NEWTRUE : OP_NEWFALSE);
}

void berth__pickle_dict(struct berth_pickle *pickle)
{
    put(pickle, OP_EMPTY_DICT);
}

void berth__pickle_list(struct berth_pickle *pickle)
{
    put(pickle, OP_EMPTY_LIST);
}

void berth__pickle_open(struct berth_pickle *pickle)
{
    put(pickle, OP_MARK);
}

void berth__pickle_close_dict(struct berth_pickle *pickle)
{
    put(pickle, OP_SETITEMS);
}

void berth__pickle_close_list(struct berth_pickle *pickle)
{
    put(pickle, OP_APPENDS);
}

void berth__pickle_pair(struct berth_pickle *pickle)
{
    put(pickle, OP_TUPLE2);
}

void berth__pickle_next(struct berth_pickle *pickle, uint64_t index)
{
    if (index == 0 || index % BERTH_PICKLE_PART != 0)
        return;
    berth__pickle_close_list(pickle);
    berth__pickle_open(pickle);
}
