/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/trace_csv.h"

#include "alloc/types.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum column {
    COLUMN_THREAD,
    COLUMN_TIME,
    COLUMN_TIME_US,
    COLUMN_TIME_NS,
    COLUMN_ACTION,
    COLUMN_POINTER,
    COLUMN_SIZE,
    COLUMN_STREAM,
    COLUMN_TAG,
    COLUMN_SITE,
    COLUMN_DEVICE,
    COLUMN_KIND,
    COLUMN_COUNT,
    COLUMN_UNKNOWN = COLUMN_COUNT
};

static const char *const column_names[COLUMN_COUNT] = {"Thread", "Time",    "time_us", "time_ns",
                                                       "Action", "Pointer", "Size",    "Stream",
                                                       "Tag",    "Site",    "Device",  "Kind"};

/* A text that is read line by line, field by field. */
struct reader {
    const char *name;
    const char *at, *end;
    uint32_t line;
    unsigned char *column; /* the column of each field of a line */
    size_t columns, room;
    char *field; /* the field that was read last, without its quotes; terminated */
    size_t length, field_room;
    bool ends_line; /* it was the line's last */
    uint64_t first_time;
    bool has_time;
    char *why;
};

__attribute__((format(printf, 2, 3))) static int fail(struct reader *reader, const char *format,
                                                      ...)
{
    char text[BERTH_TRACE_WHY_MAX / 2];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    snprintf(reader->why, BERTH_TRACE_WHY_MAX, "%.200s:%" PRIu32 ": %s", reader->name, reader->line,
             text);
    return -EINVAL;
}

static void put(struct reader *reader, char c)
{
    if (reader->length + 1 >= reader->field_room) {
        reader->field_room = reader->field_room * 2 + 256;
        reader->field = berth__tool_realloc(reader->field, reader->field_room);
    }
    reader->field[reader->length++] = c;
    reader->field[reader->length] = '\0';
}

/* What stands between quotes; "" is a quote. The opening one was passed. */
static int read_quoted(struct reader *reader)
{
    while (reader->at < reader->end && *reader->at != '\n') {
        char c = *reader->at++;

        if (c == '\0')
            return fail(reader, "there is a byte 0; expected text");
        if (c == '"' && (reader->at == reader->end || *reader->at != '"'))
            return 0;
        if (c == '"')
            reader->at++;
        put(reader, c);
    }
    return fail(reader, "a quote is not closed; expected '\"' on the same line");
}

/* The next field of the line, without the blanks around it. */
static int read_field(struct reader *reader)
{
    reader->length = 0;
    put(reader, '\0');
    reader->length = 0;
    while (reader->at < reader->end && *reader->at == ' ')
        reader->at++;
    if (reader->at < reader->end && *reader->at == '"') {
        reader->at++;
        if (read_quoted(reader) < 0)
            return -EINVAL;
    }
    while (reader->at < reader->end && *reader->at != ',' && *reader->at != '\n') {
        if (*reader->at == '\0')
            return fail(reader, "there is a byte 0; expected text");
        put(reader, *reader->at++);
    }
    while (reader->length > 0 &&
           (reader->field[reader->length - 1] == ' ' || reader->field[reader->length - 1] == '\r'))
        reader->field[--reader->length] = '\0';
    reader->ends_line = reader->at == reader->end || *reader->at == '\n';
    if (reader->at < reader->end)
        reader->at++;
    return 0;
}

static unsigned char column_of(const char *name)
{
    for (unsigned char i = 0; i < COLUMN_COUNT; i++)
        if (strcasecmp(column_names[i], name) == 0)
            return i;
    return COLUMN_UNKNOWN;
}

/* Of what has no end, whoever reads it has read no more than shows that. */
static int check_length(struct reader *reader)
{
    size_t left = (size_t)(reader->end - reader->at);

    if (left > BERTH_TRACE_LINE_MAX && !memchr(reader->at, '\0', BERTH_TRACE_LINE_MAX) &&
        !memchr(reader->at, '\n', BERTH_TRACE_LINE_MAX))
        return fail(reader, "the line is longer than %zu bytes; expected a line of a trace",
                    BERTH_TRACE_LINE_MAX);
    return 0;
}

static int read_header(struct reader *reader)
{
    unsigned found = 0;

    reader->line = 1;
    if (check_length(reader) < 0)
        return -EINVAL;
    do {
        unsigned char column;

        if (read_field(reader) < 0)
            return -EINVAL;
        column = column_of(reader->field);
        if (column != COLUMN_UNKNOWN && (found & 1U << column))
            return fail(reader, "column '%.40s' is there twice; expected it once", reader->field);
        found |= 1U << column;
        if (reader->columns == reader->room) {
            reader->room = reader->room * 2 + 16;
            reader->column = berth__tool_realloc(reader->column, reader->room);
        }
        reader->column[reader->columns++] = column;
    } while (!reader->ends_line);
    for (unsigned i = 0; i < 3; i++) {
        static const enum column needed[] = {COLUMN_ACTION, COLUMN_POINTER, COLUMN_SIZE};

        if (!(found & 1U << needed[i]))
            return fail(reader,
                        "there is no column '%s'; expected a header line with at least "
                        "Action,Pointer,Size",
                        column_names[needed[i]]);
    }
    return 0;
}

/* A whole number, decimal or 0x hexadecimal; all of the text, which is not empty. */
static bool parse_number(const char *text, uint64_t *ret)
{
    bool is_hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    unsigned base = is_hex ? 16 : 10;
    uint64_t value = 0;

    if (is_hex)
        text += 2;
    if (!*text)
        return false;
    for (; *text; text++) {
        unsigned digit = *text >= '0' && *text <= '9'   ? (unsigned)(*text - '0')
                         : *text >= 'a' && *text <= 'f' ? (unsigned)(*text - 'a') + 10
                         : *text >= 'A' && *text <= 'F' ? (unsigned)(*text - 'A') + 10
                                                        : 16;

        if (digit >= base || __builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, digit, &value))
            return false;
    }
    *ret = value;
    return true;
}

/* "123" or "123.25" in units of `unit` nanoseconds. */
static bool parse_decimal(const char *text, uint64_t unit, uint64_t *ret)
{
    const char *point = strchr(text, '.');
    size_t whole = point ? (size_t)(point - text) : strlen(text);
    char digits[32];
    uint64_t value = 0;

    if (whole == 0 || whole >= sizeof(digits) || text[1] == 'x')
        return false;
    memcpy(digits, text, whole);
    digits[whole] = '\0';
    if (!parse_number(digits, &value) || __builtin_mul_overflow(value, unit, &value))
        return false;
    for (const char *at = point ? point + 1 : ""; *at; at++) {
        if (*at < '0' || *at > '9')
            return false;
        unit /= 10;
        if (__builtin_add_overflow(value, unit * (uint64_t)(*at - '0'), &value))
            return false;
    }
    *ret = value;
    return true;
}

#define SECOND_NS UINT64_C(1000000000)

/* Seconds, or a time of day as RMM writes it; its first versions put a colon before the fraction.
 */
static bool parse_time(const char *text, uint64_t *ret)
{
    uint64_t part[2], seconds;
    char digits[32];

    if (!strchr(text, ':'))
        return parse_decimal(text, SECOND_NS, ret);
    for (int i = 0; i < 2; i++) {
        size_t n = strcspn(text, ":");

        if (text[n] != ':' || n == 0 || n >= sizeof(digits))
            return false;
        memcpy(digits, text, n);
        digits[n] = '\0';
        if (!parse_number(digits, &part[i]) || part[i] > 1000)
            return false;
        text += n + 1;
    }
    if (snprintf(digits, sizeof(digits), "%s", text) >= (int)sizeof(digits))
        return false;
    digits[strcspn(digits, ":")] = digits[strcspn(digits, ":")] == ':' ? '.' : '\0';
    if (!parse_decimal(digits, SECOND_NS, &seconds) || seconds > 100 * SECOND_NS)
        return false;
    *ret = (part[0] * 3600 + part[1] * 60) * SECOND_NS + seconds;
    return true;
}

static int set_time(struct reader *reader, struct berth_trace_event *event, bool is_good,
                    uint64_t time)
{
    if (!is_good)
        return fail(reader,
                    "'%.40s' is no time; expected seconds, HH:MM:SS or a count of the "
                    "column's unit",
                    reader->field);
    if (!reader->has_time) {
        reader->has_time = true;
        reader->first_time = time;
    }
    /* Lines of several threads need not be in order of time. */
    event->time_ns = time > reader->first_time ? time - reader->first_time : 0;
    return 0;
}

static int set_number(struct reader *reader, uint64_t *ret, const char *what)
{
    if (reader->length == 0)
        return 0;
    if (!parse_number(reader->field, ret))
        return fail(reader, "'%.40s' is no %s; expected a whole number, decimal or 0x...",
                    reader->field, what);
    return 0;
}

static int set_action(struct reader *reader, struct berth_trace_event *event)
{
    if (strcasecmp(reader->field, "allocate") == 0)
        event->action = BERTH_TRACE_ALLOCATE;
    else if (strcasecmp(reader->field, "free") == 0 || strcasecmp(reader->field, "deallocate") == 0)
        event->action = BERTH_TRACE_FREE;
    else if (strcasecmp(reader->field, "allocate failure") == 0)
        event->action = BERTH_TRACE_FAILURE;
    else
        return fail(reader,
                    "action '%.40s' is not known; expected allocate, free, deallocate or "
                    "\"allocate failure\"",
                    reader->field);
    return 0;
}

static int set_word(struct reader *reader, uint8_t *ret, int value, const char *what)
{
    if (reader->length == 0)
        return 0;
    if (value < 0)
        return fail(reader, "%s '%.40s' is not known", what, reader->field);
    *ret = (uint8_t)value;
    return 0;
}

static int set_device(struct reader *reader, struct berth_trace_event *event)
{
    uint64_t device = 0;

    if (set_number(reader, &device, "device") < 0)
        return -EINVAL;
    if (device > UINT16_MAX)
        return fail(reader, "device %" PRIu64 " is too high; expected 0 to %d", device, UINT16_MAX);
    event->device = (uint16_t)device;
    return 0;
}

static int set_field(struct reader *reader, struct berth_trace_log *log,
                     struct berth_trace_event *event, enum column column)
{
    uint64_t time = 0;
    bool is_good;

    switch (column) {
    case COLUMN_THREAD:
        return set_number(reader, &event->thread, "thread");
    case COLUMN_TIME:
        is_good = parse_time(reader->field, &time);
        return reader->length ? set_time(reader, event, is_good, time) : 0;
    case COLUMN_TIME_US:
        is_good = parse_decimal(reader->field, 1000, &time);
        return reader->length ? set_time(reader, event, is_good, time) : 0;
    case COLUMN_TIME_NS:
        is_good = parse_decimal(reader->field, 1, &time);
        return reader->length ? set_time(reader, event, is_good, time) : 0;
    case COLUMN_ACTION:
        return set_action(reader, event);
    case COLUMN_POINTER:
        return set_number(reader, &event->address, "pointer");
    case COLUMN_SIZE:
        return set_number(reader, &event->size, "size");
    case COLUMN_STREAM:
        return set_number(reader, &event->stream, "stream");
    case COLUMN_TAG:
        return set_word(reader, &event->tag, berth__tag_from_name(reader->field), "tag");
    case COLUMN_SITE:
        event->site = berth__trace_log_site(log, reader->field, reader->length);
        return 0;
    case COLUMN_DEVICE:
        return set_device(reader, event);
    case COLUMN_KIND:
        return set_word(reader, &event->kind,
                        berth__trace_kind_from_name(reader->field, reader->length), "kind");
    default:
        return 0;
    }
}

static int check_event(struct reader *reader, const struct berth_trace_event *event)
{
    if (event->action != BERTH_TRACE_FAILURE && event->address == 0)
        return fail(reader, "there is no pointer; expected the address of the memory");
    if (event->action == BERTH_TRACE_ALLOCATE && event->size == 0)
        return fail(reader, "an allocation has no size; expected at least 1 byte");
    if (event->size > BERTH_TRACE_SIZE_MAX && event->action == BERTH_TRACE_ALLOCATE)
        return fail(reader, "size %" PRIu64 " is larger than any device; expected at most 1 PiB",
                    event->size);
    return 0;
}

static int read_line(struct reader *reader, struct berth_trace_log *log)
{
    struct berth_trace_event event = {.match = BERTH_TRACE_NONE, .line = reader->line};
    size_t fields = 0;

    do {
        if (read_field(reader) < 0)
            return -EINVAL;
        if (fields == reader->columns)
            return fail(reader, "there are more fields than the header has; expected %zu",
                        reader->columns);
        if (set_field(reader, log, &event, reader->column[fields++]) < 0)
            return -EINVAL;
    } while (!reader->ends_line);
    if (fields < reader->columns)
        return fail(reader, "there are %zu fields; expected %zu as in the header", fields,
                    reader->columns);
    if (check_event(reader, &event) < 0)
        return -EINVAL;
    if (log->count == BERTH_TRACE_EVENTS_MAX)
        return fail(reader, "there are too many lines; expected at most %u",
                    BERTH_TRACE_EVENTS_MAX);
    *berth__trace_log_add(log) = event;
    return 0;
}

static bool is_blank_line(const struct reader *reader)
{
    const char *at = reader->at;

    while (at < reader->end && (*at == ' ' || *at == '\r'))
        at++;
    return at == reader->end || *at == '\n';
}

int berth__trace_csv_check_header(const char *name, const char *text, size_t length,
                                  char why[BERTH_TRACE_WHY_MAX])
{
    struct reader reader = {.name = name, .at = text, .end = text + length, .why = why};
    int r = read_header(&reader);

    free(reader.column);
    free(reader.field);
    return r;
}

int berth__trace_csv_parse(const char *name, const char *text, size_t length,
                           struct berth_trace_log *log, char why[BERTH_TRACE_WHY_MAX])
{
    struct reader reader = {.name = name, .at = text, .end = text + length, .why = why};
    int r;

    berth__trace_log_init(log);
    r = read_header(&reader);
    while (r == 0 && reader.at < reader.end) {
        reader.line++;
        r = check_length(&reader);
        if (r == 0 && is_blank_line(&reader)) {
            const char *newline = memchr(reader.at, '\n', (size_t)(reader.end - reader.at));

            reader.at = newline ? newline + 1 : reader.end;
        } else if (r == 0) {
            r = read_line(&reader, log);
        }
    }
    free(reader.column);
    free(reader.field);
    if (r == 0)
        berth__trace_log_match(log);
    return r;
}

/* A name with quotes around it where a comma or a quote is in it; always on one line. */
static void write_text(const char *text, FILE *out)
{
    bool is_quoted = strpbrk(text, ",\"") != NULL;

    if (is_quoted)
        fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc((unsigned char)*text < ' ' ? '?' : *text, out);
    }
    if (is_quoted)
        fputc('"', out);
}

static const char *action_name(unsigned action)
{
    switch (action) {
    case BERTH_TRACE_ALLOCATE:
        return "allocate";
    case BERTH_TRACE_FREE:
        return "free";
    default:
        return "allocate failure";
    }
}

void berth__trace_csv_write(const struct berth_trace_log *log, uint64_t started_real_ns, FILE *out)
{
    fputs("Thread,Time,Action,Pointer,Size,Stream,Tag,Site,Device,Kind\n", out);
    for (uint32_t i = 0; i < log->count; i++) {
        const struct berth_trace_event *event = &log->event[i];
        uint64_t time = started_real_ns + event->time_ns;

        if (event->action == BERTH_TRACE_NOTHING)
            continue;
        fprintf(out,
                "%" PRIu64 ",%" PRIu64 ".%09" PRIu64 ",%s,0x%" PRIx64 ",%" PRIu64 ",0x%" PRIx64
                ",%s,",
                event->thread, time / SECOND_NS, time % SECOND_NS, action_name(event->action),
                event->address, event->size, event->stream, berth__tag_name(event->tag));
        write_text(log->site[event->site], out);
        fprintf(out, ",%u,%s\n", event->device, berth__trace_kind_name(event->kind));
    }
}
