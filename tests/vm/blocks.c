/* SPDX-License-Identifier: Apache-2.0 */
#include "blocks.h"

#include "alloc/berth.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* From less than an OS page to several of the largest pages that tiers are mapped by. */
static const size_t sizes[] = {24,     700,     4096,           20000,   65536,   100000,
                               300000, 1 << 20, (2 << 20) + 13, 3 << 20, 5000000, (4 << 20) - 1};
#define SIZE_COUNT (sizeof(sizes) / sizeof(sizes[0]))

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "a block could not be allocated\n");
        exit(1);
    }
    return p;
}

/* Each way of making a block in turn. */
static void *make(size_t way, size_t size)
{
    void *p = NULL;

    switch (way % 5) {
    case 0:
        return malloc(size);
    case 1:
        return calloc(1, size);
    case 2:
        return aligned_alloc(64, (size + 63) / 64 * 64);
    case 3:
        return realloc(malloc(size / 2 + 1), size);
    default:
        return posix_memalign(&p, 4096, size) == 0 ? p : NULL;
    }
}

/* Different from word to word, from block to block and from fill to fill. */
static uint64_t pattern(const struct block *block, size_t word)
{
    uint64_t x = ((uint64_t)block->seed << 40) ^ (block->size << 8) ^ word;

    x *= 0x9e3779b97f4a7c15ULL;
    return x ^ (x >> 29);
}

/* The built-in ones where all of a word counts: emulated, a call costs more than what it does. */
static void fill(struct block *block, unsigned seed)
{
    size_t words = block->size / 8, rest = block->size % 8;
    uint64_t word;

    block->seed = seed;
    for (size_t i = 0; i < words; i++) {
        word = pattern(block, i);
        __builtin_memcpy(block->bytes + 8 * i, &word, 8);
    }
    word = pattern(block, words);
    memcpy(block->bytes + 8 * words, &word, rest);
}

bool block_matches(const struct block *block, size_t offset, const void *bytes, size_t size)
{
    const unsigned char *byte = bytes;
    size_t done = 0;
    uint64_t seen;

    for (; offset % 8 == 0 && size - done >= 8; done += 8) {
        __builtin_memcpy(&seen, byte + done, 8);
        if (seen != pattern(block, (offset + done) / 8))
            return false;
    }
    while (done < size) {
        uint64_t word = pattern(block, (offset + done) / 8);
        size_t within = (offset + done) % 8;
        size_t n = 8 - within < size - done ? 8 - within : size - done;

        if (memcmp((const unsigned char *)&word + within, byte + done, n) != 0)
            return false;
        done += n;
    }
    return true;
}

void blocks_fill(const struct blocks *blocks, unsigned seed)
{
    for (size_t i = 0; i < blocks->count; i++)
        fill(&blocks->items[i], seed + (unsigned)i);
}

bool blocks_hold(const struct blocks *blocks, unsigned seed)
{
    for (size_t i = 0; i < blocks->count; i++) {
        struct block block = blocks->items[i];

        block.seed = seed + (unsigned)i;
        if (!block_matches(&block, 0, block.bytes, block.size)) {
            fprintf(stderr, "block %zu of %zu bytes does not hold what was written\n", i,
                    block.size);
            return false;
        }
    }
    return true;
}

static void allot(struct blocks *ret, size_t count)
{
    ret->items = must(calloc(count, sizeof(*ret->items)));
    ret->count = count;
}

void blocks_make(struct blocks *ret, unsigned seed)
{
    allot(ret, 2 * SIZE_COUNT);
    for (size_t i = 0; i < ret->count; i++) {
        ret->items[i].size = sizes[i % SIZE_COUNT];
        ret->items[i].bytes = must(make(i, ret->items[i].size));
    }
    blocks_fill(ret, seed);
}

void blocks_make_equal(struct blocks *ret, size_t count, size_t size, unsigned seed)
{
    allot(ret, count);
    for (size_t i = 0; i < count; i++) {
        ret->items[i].size = size;
        ret->items[i].bytes = must(malloc(size));
        fill(&ret->items[i], seed + (unsigned)i);
    }
}

void blocks_free(struct blocks *blocks)
{
    for (size_t i = 0; i < blocks->count; i++)
        free(blocks->items[i].bytes);
    free(blocks->items);
    blocks->items = NULL;
    blocks->count = 0;
}

const char *block_tier(const void *p)
{
    struct berth_block_info info;

    return berth_describe(p, &info, sizeof(info)) == 0 ? info.tier : "";
}

size_t blocks_in_tier(const struct blocks *blocks, const char *tier)
{
    size_t count = 0;

    for (size_t i = 0; i < blocks->count; i++)
        count += strcmp(block_tier(blocks->items[i].bytes), tier) == 0;
    return count;
}
