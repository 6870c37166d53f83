/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of many sizes, by each call that makes some, with bytes in them that tell them apart. */
#ifndef BERTH_TESTS_VM_BLOCKS_H
#define BERTH_TESTS_VM_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>

struct block {
    unsigned char *bytes;
    size_t size;
    unsigned seed;
};

struct blocks {
    struct block *items;
    size_t count;
};

/* The program ends where a block cannot be had: no test goes on without. */
void blocks_make(struct blocks *ret, unsigned seed);
/* `count` blocks of `size` bytes. */
void blocks_make_equal(struct blocks *ret, size_t count, size_t size, unsigned seed);
void blocks_fill(const struct blocks *blocks, unsigned seed);
bool blocks_hold(const struct blocks *blocks, unsigned seed);
void blocks_free(struct blocks *blocks);

/* Whether `bytes` is what blocks_fill() wrote at `offset` of a block. */
bool block_matches(const struct block *block, size_t offset, const void *bytes, size_t size);

/* The tier that Berth says the block is in; "" where it says none. */
const char *block_tier(const void *p);

/* How many of the blocks are in this tier. */
size_t blocks_in_tier(const struct blocks *blocks, const char *tier);

#endif
