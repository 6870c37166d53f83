/* SPDX-License-Identifier: Apache-2.0 */
#include "vocabulary.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MIN 1024

/* FNV-1a with a final mix, because slots are taken from the low bits. */
static uint64_t bytes_hash(const unsigned char *bytes, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325u;

    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

static size_t slot_find(const struct berth_vocabulary *vocabulary, const unsigned char *bytes,
                        size_t size)
{
    size_t slot = bytes_hash(bytes, size) & (vocabulary->slot_count - 1);

    while (vocabulary->slots[slot] != BERTH_ID_NONE) {
        const struct berth_vocabulary_entry *entry = &vocabulary->entries[vocabulary->slots[slot]];

        if (entry->size == size && memcmp(entry->bytes, bytes, size) == 0)
            break;
        slot = (slot + 1) & (vocabulary->slot_count - 1);
    }
    return slot;
}

/* At most half of the slots are ever taken, so a search always ends at a free one. */
static int slots_grow(struct berth_vocabulary *vocabulary)
{
    size_t count = vocabulary->slot_count ? vocabulary->slot_count * 2 : SLOTS_MIN;
    struct berth_vocabulary grown = *vocabulary;

    if (vocabulary->slot_count > 2 * (vocabulary->used + 1))
        return 0;
    grown.slots = malloc(count * sizeof(grown.slots[0]));
    grown.slot_count = count;
    if (!grown.slots)
        return -ENOMEM;
    memset(grown.slots, 0xff, count * sizeof(grown.slots[0]));
    for (size_t i = 0; i < vocabulary->slot_count; i++) {
        uint32_t id = vocabulary->slots[i];

        if (id != BERTH_ID_NONE)
            grown.slots[slot_find(&grown, grown.entries[id].bytes, grown.entries[id].size)] = id;
    }
    free(vocabulary->slots);
    *vocabulary = grown;
    return 0;
}

static int ids_grow(struct berth_vocabulary *vocabulary, size_t count)
{
    size_t room = vocabulary->id_room ? vocabulary->id_room : SLOTS_MIN;
    struct berth_vocabulary_entry *grown;

    while (room < count)
        room *= 2;
    if (room > vocabulary->id_room) {
        grown = realloc(vocabulary->entries, room * sizeof(grown[0]));
        if (!grown)
            return -ENOMEM;
        memset(grown + vocabulary->id_room, 0, (room - vocabulary->id_room) * sizeof(grown[0]));
        vocabulary->entries = grown;
        vocabulary->id_room = room;
    }
    if (count > vocabulary->id_count)
        vocabulary->id_count = count;
    return 0;
}

int berth__vocabulary_add(struct berth_vocabulary *vocabulary, uint32_t id,
                          const unsigned char *bytes, size_t size, bool findable)
{
    unsigned char *copy;
    int r;

    if (id < vocabulary->id_count && vocabulary->entries[id].bytes)
        return -EEXIST;
    if (findable && berth__vocabulary_find(vocabulary, bytes, size) != BERTH_ID_NONE)
        return -EEXIST;
    r = ids_grow(vocabulary, (size_t)id + 1);
    if (r == 0 && findable)
        r = slots_grow(vocabulary);
    if (r < 0)
        return r;
    copy = malloc(size + 1);
    if (!copy)
        return -ENOMEM;
    memcpy(copy, bytes, size);
    vocabulary->entries[id] = (struct berth_vocabulary_entry){copy, size};
    if (findable) {
        vocabulary->slots[slot_find(vocabulary, bytes, size)] = id;
        vocabulary->used++;
    }
    return 0;
}

uint32_t berth__vocabulary_find(const struct berth_vocabulary *vocabulary,
                                const unsigned char *bytes, size_t size)
{
    if (vocabulary->slot_count == 0)
        return BERTH_ID_NONE;
    return vocabulary->slots[slot_find(vocabulary, bytes, size)];
}

const unsigned char *berth__vocabulary_bytes(const struct berth_vocabulary *vocabulary, uint32_t id,
                                             size_t *ret_size)
{
    if (id >= vocabulary->id_count || !vocabulary->entries[id].bytes)
        return NULL;
    *ret_size = vocabulary->entries[id].size;
    return vocabulary->entries[id].bytes;
}

void berth__vocabulary_done(struct berth_vocabulary *vocabulary)
{
    for (size_t i = 0; i < vocabulary->id_count; i++)
        free(vocabulary->entries[i].bytes);
    free(vocabulary->entries);
    free(vocabulary->slots);
    *vocabulary = (struct berth_vocabulary){0};
}
