/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/classifier_parts.h"

#include <sys/mman.h>

static void *map(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* Untouched pages of the tables cost nothing: they fill as keys come. */
bool berth__class_tables_make(struct berth_classifier *classifier)
{
    struct berth_class_family *families = map(BERTH_CLASS_FAMILIES * sizeof(*families));
    struct berth_class_key *keys = map(BERTH_CLASS_KEYS * sizeof(*keys));

    _Atomic uint32_t *used = map(BERTH_CLASS_KEYS * sizeof(*used));

    if (!families || !keys || !used)
        return false;
    atomic_store_explicit(&classifier->used_keys, used, memory_order_release);
    atomic_store_explicit(&classifier->families, families, memory_order_release);
    atomic_store_explicit(&classifier->keys, keys, memory_order_release);
    return true;
}

uint32_t berth__class_family(struct berth_classifier *classifier, const void *caller)
{
    struct berth_class_family *families =
        atomic_load_explicit(&classifier->families, memory_order_acquire);
    uintptr_t id = (uintptr_t)caller;
    uint32_t at = (uint32_t)berth__class_mix(id) % BERTH_CLASS_FAMILIES;

    if (id == 0)
        return 0;
    for (uint32_t i = 0; i < BERTH_CLASS_FAMILIES; i++, at = (at + 1) % BERTH_CLASS_FAMILIES) {
        uintptr_t there = 0;

        if (at == 0)
            continue;
        if (atomic_load_explicit(&families[at].id, memory_order_relaxed) == id)
            return at;
        if (atomic_compare_exchange_strong_explicit(&families[at].id, &there, id,
                                                    memory_order_relaxed, memory_order_relaxed) ||
            there == id)
            return at;
    }
    return 0;
}

uint64_t berth__class_key_id(uint32_t family, uint64_t size, berth_site_id site)
{
    uint64_t id = berth__class_mix(berth__class_mix(size) + ((uint64_t)site << 16) + family);

    return id ? id : 1;
}

/* So that a judgement looks at no more keys than there are. */
static void note_used(struct berth_classifier *classifier, uint32_t at)
{
    _Atomic uint32_t *used = atomic_load_explicit(&classifier->used_keys, memory_order_acquire);
    uint32_t next = atomic_fetch_add_explicit(&classifier->used_key_count, 1, memory_order_relaxed);

    atomic_store_explicit(&used[next], at, memory_order_relaxed);
}

static void key_reset(struct berth_class_key *key)
{
    key->last_birth = key->first_dead = key->second_dead = key->longest = 0;
    key->births = key->deaths = key->instant = 0;
    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++)
        key->finals[tag] = 0;
    key->appended = 0;
}

struct berth_class_key *berth__class_key(struct berth_classifier *classifier, uint64_t id,
                                         bool make)
{
    struct berth_class_key *keys = atomic_load_explicit(&classifier->keys, memory_order_acquire);
    struct berth_class_key *oldest = NULL;
    uint64_t there;

    for (uint32_t i = 0; i < BERTH_CLASS_KEY_PROBES; i++) {
        struct berth_class_key *key = &keys[(id + i) % BERTH_CLASS_KEYS];

        there = berth__class_load(&key->id);
        if (there == id)
            return key;
        if (!oldest || there == 0 ||
            (berth__class_load(&oldest->id) != 0 &&
             berth__class_load(&key->last_birth) < berth__class_load(&oldest->last_birth)))
            oldest = key;
        if (there == 0)
            break;
    }
    if (!make)
        return NULL;
    there = 0;
    /* A place is taken once, and then changes its owner. */
    if (berth__class_load(&oldest->id) == 0 &&
        atomic_compare_exchange_strong_explicit(&oldest->id, &there, id, memory_order_relaxed,
                                                memory_order_relaxed)) {
        note_used(classifier, (uint32_t)(oldest - keys));
        return oldest;
    }
    key_reset(oldest);
    atomic_store_explicit(&oldest->id, id, memory_order_relaxed);
    return oldest;
}
