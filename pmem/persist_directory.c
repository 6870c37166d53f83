/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/persist_directory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define refuse(...) (snprintf(why, why_size, __VA_ARGS__), -EINVAL)

/* A position in a directory's body, of which `left` bytes have not been read. */
struct reader {
    const char *at;
    uint64_t left;
};

uint64_t berth__persist_held(uint64_t size, uint64_t granule)
{
    uint64_t whole = size & ~(granule - 1);

    return size > whole || size == 0 ? whole + granule : whole;
}

void berth__persist_entry_done(struct berth_persist_entry *entry)
{
    free(entry->name);
    free(entry->extents);
    entry->name = NULL;
    entry->extents = NULL;
}

void berth__persist_directory_done(struct berth_persist_directory *directory)
{
    for (size_t i = 0; i < directory->count; i++)
        berth__persist_entry_done(&directory->entries[i]);
    free(directory->entries);
    directory->entries = NULL;
    directory->count = 0;
}

struct berth_persist_entry *
berth__persist_directory_find(const struct berth_persist_directory *directory, const char *name)
{
    for (size_t i = 0; i < directory->count; i++)
        if (strcmp(directory->entries[i].name, name) == 0)
            return &directory->entries[i];
    return NULL;
}

static const void *take(struct reader *reader, uint64_t size)
{
    const char *at = reader->at;

    if (size > reader->left)
        return NULL;
    reader->at += size;
    reader->left -= size;
    return at;
}

/* Takes the block's extents out of what is free: two blocks in one place are found thus. */
static int claim_extents(const struct berth_persist_entry *entry, uint64_t granule,
                         struct berth_extent_table *spare, char *why, size_t why_size)
{
    uint64_t held = 0;

    for (size_t i = 0; i < entry->extent_count; i++) {
        const struct berth_persist_extent *extent = &entry->extents[i];
        int r = extent->size == 0 || (extent->offset | extent->size) % granule != 0
                    ? -EINVAL
                    : berth__extent_table_take(spare, extent->offset, extent->size);

        if (r == -ENOMEM)
            return r;
        if (r < 0)
            return refuse("the block '%s' lies at %" PRIu64 " for %" PRIu64
                          " bytes: beyond the end, which was cut off, or in another block",
                          entry->name, extent->offset, extent->size);
        held += extent->size;
    }
    if (held != berth__persist_held(entry->size, granule))
        return refuse("the block '%s' of %" PRIu64 " bytes has extents of %" PRIu64, entry->name,
                      entry->size, held);
    return 0;
}

static int read_entry(struct reader *reader, const struct berth_persist_super *super,
                      struct berth_extent_table *spare, struct berth_persist_entry *entry,
                      char *why, size_t why_size)
{
    const void *head = take(reader, sizeof(struct berth_persist_record));
    struct berth_persist_record record;
    const void *name, *extents;
    size_t extents_size;

    if (!head)
        return refuse("its directory ends in the middle of a record");
    memcpy(&record, head, sizeof(record));
    extents_size = (size_t)record.extent_count * sizeof(entry->extents[0]);
    if (record.size > INT64_MAX || record.name_length == 0 ||
        record.name_length > BERTH_PERSIST_NAME_MAX ||
        !(name = take(reader, berth__persist_name_bytes(record.name_length))) ||
        strnlen(name, record.name_length + 1) != record.name_length ||
        !(extents = take(reader, extents_size)))
        return refuse("its directory has a record that cannot be");
    entry->name = strdup(name);
    entry->extents = malloc(extents_size ? extents_size : 1);
    if (!entry->name || !entry->extents)
        return -ENOMEM;
    memcpy(entry->extents, extents, extents_size);
    entry->extent_count = record.extent_count;
    entry->size = record.size;
    entry->generation = record.generation;
    entry->created = record.created;
    entry->sum = record.sum;
    return claim_extents(entry, super->granule, spare, why, why_size);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int check_names(const struct berth_persist_directory *directory, char *why, size_t why_size)
{
    char **names = calloc(directory->count + 1, sizeof(names[0]));
    int r = 0;

    if (!names)
        return -ENOMEM;
    for (size_t i = 0; i < directory->count; i++)
        names[i] = directory->entries[i].name;
    qsort(names, directory->count, sizeof(names[0]), compare_names);
    for (size_t i = 1; r == 0 && i < directory->count; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            r = refuse("its directory has two blocks of the name '%s'", names[i]);
    free(names);
    return r;
}

static int read_entries(struct reader *reader, const struct berth_persist_super *super,
                        uint64_t limit, uint64_t count, struct berth_persist_directory *directory,
                        char *why, size_t why_size)
{
    struct berth_extent_table spare;
    int r = 0;

    berth__extent_table_init(&spare, super->granule);
    if (limit > super->data_offset)
        r = berth__extent_table_give(&spare, super->data_offset, limit - super->data_offset);
    for (uint64_t i = 0; r == 0 && i < count; i++) {
        struct berth_persist_entry entry = {0};

        r = read_entry(reader, super, &spare, &entry, why, why_size);
        if (r == 0)
            directory->entries[directory->count++] = entry;
        else
            berth__persist_entry_done(&entry);
    }
    berth__extent_table_done(&spare);
    if (r == 0 && reader->left > 0)
        return refuse("its directory has %" PRIu64 " bytes after its last record", reader->left);
    return r < 0 ? r : check_names(directory, why, why_size);
}

size_t berth__persist_directory_size(const struct berth_persist_head *head,
                                     const struct berth_persist_super *super)
{
    uint64_t most = super->directory_size - sizeof(*head);

    /* A size that cannot be is refused when it is read. */
    return sizeof(*head) + (size_t)(head->body_size < most ? head->body_size : most);
}

int berth__persist_directory_read(const void *place, uint64_t generation,
                                  const struct berth_persist_super *super, uint64_t limit,
                                  struct berth_persist_directory *ret, char *why, size_t why_size)
{
    struct berth_persist_directory directory = {.generation = generation};
    struct berth_persist_head head;
    struct reader reader;
    int r;

    r = berth__persist_head_read(place, super, directory.generation, &head, why, why_size);
    if (r < 0)
        return r;
    if (head.record_count > head.body_size / sizeof(struct berth_persist_record))
        return refuse("its directory claims %" PRIu64 " records", head.record_count);
    directory.entries = calloc(head.record_count + 1, sizeof(directory.entries[0]));
    if (!directory.entries)
        return -ENOMEM;
    reader = (struct reader){(const char *)place + sizeof(head), head.body_size};
    r = read_entries(&reader, super, limit, head.record_count, &directory, why, why_size);
    if (r < 0) {
        berth__persist_directory_done(&directory);
        return r;
    }
    *ret = directory;
    return 0;
}

static size_t record_size(const struct berth_persist_entry *entry)
{
    return sizeof(struct berth_persist_record) + berth__persist_name_bytes(strlen(entry->name)) +
           entry->extent_count * sizeof(entry->extents[0]);
}

static char *write_record(char *at, const struct berth_persist_entry *entry)
{
    size_t name_length = strlen(entry->name);
    struct berth_persist_record record = {
        .size = entry->size,
        .generation = entry->generation,
        .created = entry->created,
        .sum = entry->sum,
        .name_length = (uint32_t)name_length,
        .extent_count = (uint32_t)entry->extent_count,
    };

    memcpy(at, &record, sizeof(record));
    at += sizeof(record);
    memset(at, 0, berth__persist_name_bytes(name_length));
    memcpy(at, entry->name, name_length);
    at += berth__persist_name_bytes(name_length);
    memcpy(at, entry->extents, entry->extent_count * sizeof(entry->extents[0]));
    return at + entry->extent_count * sizeof(entry->extents[0]);
}

/* The next generation's head and records, as they will lie on the medium. */
static int make_image(const struct berth_persist_directory *directory,
                      const struct berth_persist_super *super,
                      const struct berth_persist_entry *drop, const struct berth_persist_entry *add,
                      char **ret_image, size_t *ret_size)
{
    struct berth_persist_head head;
    size_t body = 0, count = 0;
    char *image, *at;

    for (size_t i = 0; i < directory->count; i++)
        if (&directory->entries[i] != drop)
            body += record_size(&directory->entries[i]);
    if (add)
        body += record_size(add);
    if (body > super->directory_size - sizeof(head))
        return -ENOSPC;
    image = malloc(sizeof(head) + body);
    if (!image)
        return -ENOMEM;
    at = image + sizeof(head);
    for (size_t i = 0; i < directory->count; i++) {
        if (&directory->entries[i] == drop)
            continue;
        at = write_record(at, &directory->entries[i]);
        count++;
    }
    if (add) {
        at = write_record(at, add);
        count++;
    }
    berth__persist_head_make(&head, super, directory->generation + 1, count, image + sizeof(head),
                             body);
    memcpy(image, &head, sizeof(head));
    *ret_image = image;
    *ret_size = sizeof(head) + body;
    return 0;
}

/* The order is the point: the directory is durable before the record that puts it in force. */
static int write_generation(void *base, const struct berth_persist_super *super,
                            const struct berth_persist_media *media, uint64_t generation,
                            const char *image, size_t size, bool *ret_unknown)
{
    char *place = (char *)base + super->directory_offset[generation % 2];
    char *commit = (char *)base + BERTH_PERSIST_PAGE;
    uint64_t word = berth__persist_commit_word(super, generation);
    int r;

    media->store(media->context, place, image, size);
    r = berth__persist_media_persist(media, place, size);
    if (r < 0)
        return r;
    *ret_unknown = true;
    media->store(media->context, commit, &word, sizeof(word));
    r = berth__persist_media_persist(media, commit, sizeof(word));
    *ret_unknown = r < 0;
    return r;
}

static void delete_entry(struct berth_persist_directory *directory, size_t at)
{
    berth__persist_entry_done(&directory->entries[at]);
    directory->count--;
    memmove(&directory->entries[at], &directory->entries[at + 1],
            (directory->count - at) * sizeof(directory->entries[0]));
}

int berth__persist_directory_commit(struct berth_persist_directory *directory, void *base,
                                    const struct berth_persist_super *super,
                                    const struct berth_persist_media *media,
                                    const struct berth_persist_entry *drop,
                                    struct berth_persist_entry *add, bool *ret_unknown)
{
    size_t drop_index = drop ? (size_t)(drop - directory->entries) : 0;
    struct berth_persist_entry *grown;
    char *image = NULL;
    size_t size = 0;
    int r;

    *ret_unknown = false;
    if (directory->generation >= UINT32_MAX)
        return -EOVERFLOW;
    grown = realloc(directory->entries, (directory->count + 2) * sizeof(grown[0]));
    if (!grown)
        return -ENOMEM;
    directory->entries = grown;
    drop = drop ? &grown[drop_index] : NULL;
    if (add)
        add->generation = directory->generation + 1;
    r = make_image(directory, super, drop, add, &image, &size);
    if (r == 0)
        r = write_generation(base, super, media, directory->generation + 1, image, size,
                             ret_unknown);
    free(image);
    if (r < 0)
        return r;
    directory->generation++;
    if (add)
        grown[directory->count++] = *add;
    if (drop)
        delete_entry(directory, drop_index);
    return 0;
}
