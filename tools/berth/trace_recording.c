/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/types.h"
#include "tools/berth/tool.h"
#include "tools/berth/trace_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A site's number in a recording; alloc/site.h gives out no higher ones. */
#define SITE_MAX ((uint32_t)1 << 20)
/* A longer name is cut. */
#define NAME_MAX_BYTES ((size_t)1 << 16)

/* A name that is put together from its pieces. */
struct name {
    char *text;
    size_t length;
    uint32_t index; /* in the log, once it is complete */
};

struct recording {
    const unsigned char *bytes; /* of the first record */
    size_t places;
    struct name *name;
    size_t names;
    size_t name_bytes; /* of all names; never more than the pieces have */
};

bool berth__trace_is_recording(const void *bytes, size_t size)
{
    return size >= sizeof(BERTH_TRACE_MAGIC) &&
           memcmp(bytes, BERTH_TRACE_MAGIC, sizeof(BERTH_TRACE_MAGIC)) == 0;
}

/* A copy of the record at a place, if one was finished there. */
static bool record_at(const struct recording *recording, size_t place,
                      struct berth_trace_record *ret)
{
    memcpy(ret, recording->bytes + place * sizeof(*ret), sizeof(*ret));
    return ret->stamp != 0 && (ret->stamp - 1) % recording->places == place &&
           ret->action < BERTH_TRACE_ACTION_COUNT;
}

static void add_piece(struct recording *recording, const struct berth_trace_record *record)
{
    size_t length = strnlen(record->text, BERTH_TRACE_TEXT);
    struct name *name;

    if (record->site >= SITE_MAX || record->address >= NAME_MAX_BYTES - BERTH_TRACE_TEXT)
        return;
    if (record->site >= recording->names) {
        size_t names = record->site + (size_t)64;

        recording->name = berth__tool_realloc(recording->name, names * sizeof(*recording->name));
        memset(recording->name + recording->names, 0,
               (names - recording->names) * sizeof(*recording->name));
        recording->names = names;
    }
    name = &recording->name[record->site];
    if (record->address + length > name->length) {
        size_t wanted = (size_t)record->address + length;

        recording->name_bytes += wanted - name->length;
        if (recording->name_bytes > recording->places * BERTH_TRACE_TEXT) {
            recording->name_bytes -= wanted - name->length;
            return;
        }
        name->text = berth__tool_realloc(name->text, wanted);
        memset(name->text + name->length, '?', wanted - name->length);
        name->length = wanted;
    }
    memcpy(name->text + record->address, record->text, length);
}

static void read_names(struct recording *recording, struct berth_trace_log *log)
{
    for (size_t place = 0; place < recording->places; place++) {
        struct berth_trace_record record;

        if (record_at(recording, place, &record) && record.action == BERTH_TRACE_SITE)
            add_piece(recording, &record);
    }
    for (size_t i = 0; i < recording->names; i++)
        recording->name[i].index = berth__trace_log_site(
            log, recording->name[i].text ? recording->name[i].text : "", recording->name[i].length);
}

/* A site without a name, of a program that was killed in that moment, is told by its number. */
static uint32_t site_of(const struct recording *recording, struct berth_trace_log *log,
                        uint32_t site)
{
    char text[32];

    if (site == 0)
        return 0;
    if (site < recording->names && recording->name[site].length > 0)
        return recording->name[site].index;
    return berth__trace_log_site(log, text, (size_t)snprintf(text, sizeof(text), "site-%u", site));
}

/* Whether a record is one that a process can have written. */
static bool is_usable(const struct berth_trace_record *record)
{
    switch (record->action) {
    case BERTH_TRACE_FAILURE:
        return true;
    case BERTH_TRACE_FREE:
        return record->address != 0;
    case BERTH_TRACE_ALLOCATE:
    case BERTH_TRACE_EXISTING:
        return record->address != 0 && record->requested > 0 &&
               record->requested <= BERTH_TRACE_SIZE_MAX;
    default:
        return false;
    }
}

static void add_event(const struct recording *recording, struct berth_trace_log *log,
                      const struct berth_trace_record *record, uint64_t started_ns)
{
    struct berth_trace_event *event = berth__trace_log_add(log);
    uint32_t site = site_of(recording, log, record->site);

    event->time_ns = record->time_ns > started_ns ? record->time_ns - started_ns : 0;
    event->address = record->address;
    /* Of a free, what its allocation had; that is found later. */
    event->size = record->action == BERTH_TRACE_FREE ? 0 : record->requested;
    event->held = record->held;
    event->stream = record->stream;
    event->thread = record->thread;
    event->site = site;
    event->device = record->device;
    event->action = record->action;
    event->tag = record->tag < BERTH_TAG_COUNT ? record->tag : BERTH_TAG_UNTAGGED;
    event->kind = record->kind < BERTH_TRACE_KIND_COUNT ? record->kind : BERTH_TRACE_DEVICE;
}

/* The place of the oldest record: in a ring it follows the newest one. */
static size_t first_place(const struct recording *recording)
{
    uint64_t newest = 0;

    for (size_t place = 0; place < recording->places; place++) {
        struct berth_trace_record record;

        if (record_at(recording, place, &record) && record.stamp > newest)
            newest = record.stamp;
    }
    return newest > recording->places ? newest % recording->places : 0;
}

int berth__trace_recording_parse(const char *name, const void *bytes, size_t size,
                                 struct berth_trace_log *log, uint64_t *ret_started_real_ns,
                                 char why[BERTH_TRACE_WHY_MAX])
{
    struct recording recording = {.bytes = (const unsigned char *)bytes + BERTH_TRACE_HEADER_SIZE};
    struct berth_trace_header header;
    size_t first;

    berth__trace_log_init(log);
    memset(&header, 0, sizeof(header));
    if (size >= BERTH_TRACE_HEADER_SIZE && berth__trace_is_recording(bytes, size))
        memcpy(&header, bytes, sizeof(header));
    if (header.header_size != BERTH_TRACE_HEADER_SIZE ||
        header.record_size != sizeof(struct berth_trace_record)) {
        snprintf(why, BERTH_TRACE_WHY_MAX,
                 "%.200s: it is no recording, or one of another layout; expected a recording of "
                 "this version of berth",
                 name);
        return -EINVAL;
    }
    recording.places = (size - BERTH_TRACE_HEADER_SIZE) / sizeof(struct berth_trace_record);
    *ret_started_real_ns = header.started_real_ns;
    log->is_truncated = header.is_truncated;
    read_names(&recording, log);
    first = first_place(&recording);
    for (size_t i = 0; i < recording.places && log->count < BERTH_TRACE_EVENTS_MAX; i++) {
        struct berth_trace_record record;

        if (record_at(&recording, (first + i) % recording.places, &record) && is_usable(&record))
            add_event(&recording, log, &record, header.started_ns);
    }
    for (size_t i = 0; i < recording.names; i++)
        free(recording.name[i].text);
    free(recording.name);
    berth__trace_log_match(log);
    return 0;
}
