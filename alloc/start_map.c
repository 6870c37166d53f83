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

/* The words of one level; the lowest is the starts themselves. */
static const uint64_t *level_of(const uint64_t *map, uint64_t count, unsigned level)
{
    for (uint64_t words = words_of(count); level > 0; level--) {
        map += words;
        words = words_of(words);
    }
    return map;
}

/* The last start under a word that is known to have one. */
static uint64_t last_below(const uint64_t *map, uint64_t count, unsigned level, uint64_t word)
{
    for (;; level--) {
        uint64_t bits = level_of(map, count, level)[word];

        word = (word << WORD_SHIFT) + WORD_MASK - (uint64_t)__builtin_clzll(bits);
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

/* How many starts are under a word, as the levels above them say where there are any. */
static uint64_t count_below(const uint64_t *map, uint64_t count, unsigned level, uint64_t word)
{
    uint64_t bits = level_of(map, count, level)[word], starts = 0;

    if (level == 0)
        return (uint64_t)__builtin_popcountll(bits);
    for (; bits != 0; bits &= bits - 1) {
        uint64_t below = (word << WORD_SHIFT) + (uint64_t)__builtin_ctzll(bits);

        starts += count_below(map, count, level - 1, below);
    }
    return starts;
}

uint64_t berth__start_map_count(const uint64_t *map, uint64_t count)
{
    unsigned top = 0;

    for (uint64_t words = words_of(count); words > 1; words = words_of(words))
        top++;
    return count_below(map, count, top, 0);
}
