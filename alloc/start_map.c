/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/start_map.h"

#define WORD_SHIFT 6
#define WORD_MASK 63

static uint64_t words_of(uint64_t count)
{
    return (count + WORD_MASK) >> WORD_SHIFT;
}

size_t berth__start_map_size(uint64_t count)
{
    uint64_t words = 0;

    do {
        count = words_of(count);
        words += count;
    } while (count > 1);
    return (size_t)(words * sizeof(uint64_t));
}

void berth__start_map_set(uint64_t *map, uint64_t count, uint64_t at)
{
    for (;;) {
        uint64_t words = words_of(count);

        map[at >> WORD_SHIFT] |= (uint64_t)1 << (at & WORD_MASK);
        if (words <= 1)
            return;
        map += words;
        count = words;
        at >>= WORD_SHIFT;
    }
}

void berth__start_map_clear(uint64_t *map, uint64_t count, uint64_t at)
{
    for (;;) {
        uint64_t words = words_of(count);

        map[at >> WORD_SHIFT] &= ~((uint64_t)1 << (at & WORD_MASK));
        if (words <= 1 || map[at >> WORD_SHIFT] != 0)
            return;
        map += words;
        count = words;
        at >>= WORD_SHIFT;
    }
}

/* The last start under a word that is known to have one. */
static uint64_t last_below(const uint64_t *map, uint64_t count, unsigned level, uint64_t word)
{
    for (;; level--) {
        const uint64_t *bits = map;
        uint64_t words = words_of(count);

        for (unsigned i = 0; i < level; i++) {
            bits += words;
            words = words_of(words);
        }
        word = (word << WORD_SHIFT) + WORD_MASK - (uint64_t)__builtin_clzll(bits[word]);
        if (level == 0)
            return word;
    }
}

uint64_t berth__start_map_before(const uint64_t *map, uint64_t count, uint64_t at)
{
    const uint64_t *bits = map;
    uint64_t words = words_of(count);

    for (unsigned level = 0;; level++) {
        uint64_t word = at >> WORD_SHIFT;
        uint64_t found = bits[word] & (~(uint64_t)0 >> (WORD_MASK - (at & WORD_MASK)));

        if (found != 0) {
            at = (word << WORD_SHIFT) + WORD_MASK - (uint64_t)__builtin_clzll(found);
            return level == 0 ? at : last_below(map, count, level - 1, at);
        }
        /* Above, only words before this one are of interest. */
        if (words <= 1 || word == 0)
            return BERTH_START_NONE;
        bits += words;
        words = words_of(words);
        at = word - 1;
    }
}

uint64_t berth__start_map_count(const uint64_t *map, uint64_t count)
{
    uint64_t starts = 0;

    for (uint64_t word = 0; word < words_of(count); word++)
        starts += (uint64_t)__builtin_popcountll(map[word]);
    return starts;
}
