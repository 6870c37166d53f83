/* SPDX-License-Identifier: Apache-2.0 */
/* Movable blocks of the host side, the tiers that they move between, and what is known of them. */
#ifndef BERTH_TESTS_PMEM_MOVE_FIXTURE_H
#define BERTH_TESTS_PMEM_MOVE_FIXTURE_H

#include "alloc/types.h"
#include "pmem/move.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

/* Files in memory; the same of 1 MiB at the most; files on a disk, if fixture_disk(). */
extern berth_tier_id tier_shm, tier_small, tier_disk;
extern const char *fixture_live_why; /* why nothing can move live here, or NULL */
extern bool fixture_sees_pins;

int fixture_start(void **state);
/* Skips the test where nothing can move live. */
void fixture_needs_live(void);

bool fixture_is_tmpfs(const char *path);
/* A directory that is on a disk, or NULL. */
const char *fixture_disk(void);
/* Installs the table with these tiers whose one rule wants movable blocks in tier `first`. */
void fixture_policy(const char *first);

unsigned char *fixture_get(size_t size);
unsigned char *fixture_change(void *p, size_t size);
void fixture_fill(unsigned char *p, size_t size, unsigned seed);
bool fixture_is_filled(const unsigned char *p, size_t size, unsigned seed);

enum berth_move_result fixture_move(void *p, berth_tier_id to, bool quiet);

const char *fixture_tier_of(const void *p);
uint64_t fixture_held(berth_tier_id tier);
uint64_t fixture_reserved(berth_tier_id tier);
/* Whether the page at `p` is that of a file mapping. */
bool fixture_is_mapped_shared(const void *p);

#endif
