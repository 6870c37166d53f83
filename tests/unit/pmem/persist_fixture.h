/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a directory of its own, and contents that tell which write they come from. */
#ifndef BERTH_TESTS_PERSIST_FIXTURE_H
#define BERTH_TESTS_PERSIST_FIXTURE_H

#include "pmem/persist_store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern char fixture_path[64]; /* of the store */
extern char fixture_why[BERTH_PERSIST_WHY_MAX];

int fixture_start(void **state);
int fixture_finish(void **state);
/* Removes the store's file. */
int fixture_clear(void **state);

struct berth_persist_store *fixture_open(bool create, uint64_t capacity);
int fixture_try(const char *path, bool create, bool read_only);

/* Fills a block with words that depend on `seed` and the position. */
void fixture_fill(struct berth_persist_block *block, uint64_t seed);
/* Whether the block is of this size and was filled with this seed. */
bool fixture_holds(const struct berth_persist_block *block, uint64_t size, uint64_t seed);

/* Creates or replaces, fills, commits, and detaches. */
void fixture_put(struct berth_persist_store *store, const char *name, uint64_t size, uint64_t seed);
void fixture_expect(struct berth_persist_store *store, const char *name, uint64_t size,
                    uint64_t seed);
void fixture_expect_none(struct berth_persist_store *store, const char *name);

/* All of a file; free() it. */
unsigned char *fixture_read(const char *path, size_t *ret_size);
void fixture_write(const char *path, const void *data, size_t size);

#endif
