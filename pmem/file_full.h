/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a filesystem has refused for lack of space, so that it is not asked again in vain: ext4, for
 * one, commits its journal before it says no, some 10 ms each time.
 *
 * A refusal of some size holds for it and for larger ones while no more space is free than was then
 * (fstatfs(2)), whoever frees it, and until the clock's second has passed: what a filesystem says
 * is free may be so only later, or for others. Smaller ones are asked for.
 *
 * Any thread; no lock. Calls no malloc and keeps errno.
 */
#ifndef BERTH_PMEM_FILE_FULL_H
#define BERTH_PMEM_FILE_FULL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct berth_file_full {
    _Atomic uint64_t refused; /* the last refusal, in one word (file_full.c); 0 = none */
};

/* Whether to ask the filesystem of `fd` for `size` bytes is in vain. */
bool berth__file_full_for(const struct berth_file_full *full, int fd, size_t size);

/* It has just refused them, and has back what it may have given of them. */
void berth__file_full_note(struct berth_file_full *full, int fd, size_t size);

void berth__file_full_forget(struct berth_file_full *full);

#endif
