/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A persistent store as it lies on its medium (a file, or a dax device from its first byte):
 *
 *     | superblock | commit page | directory 0 | directory 1 | ...to data_offset | blocks |
 *
 * The superblock says where everything is and never changes. The commit page holds one 8-byte word,
 * the commit record: the number of the directory that is in force (its generation) and a checksum
 * of that number. Generation g lies in directory g % 2. To change anything, the other directory is
 * written and made durable, and then the word, which arrives whole or not at all: at any instant
 * the medium holds the old state or the new one. Nothing is read of the directory that is not in
 * force.
 *
 * Blocks are listed once their contents are durable: one that was never committed is not there.
 *
 * Numbers are in the byte order of the machine that made the store; the magic number tells. Every
 * byte that is read is covered by a checksum, and every number is checked before it is used: the
 * functions here refuse with one sentence in `why`, which does not name the medium.
 */
#ifndef BERTH_PMEM_PERSIST_FORMAT_H
#define BERTH_PMEM_PERSIST_FORMAT_H

#include "pmem/persist_sum.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BERTH_PERSIST_MAGIC UINT64_C(0x314d5048545245b2)
#define BERTH_PERSIST_DIRECTORY_MAGIC UINT64_C(0x315249444d5042b2)
#define BERTH_PERSIST_VERSION 1
/* The superblock's and the commit page's size, on every machine. */
#define BERTH_PERSIST_PAGE ((uint64_t)4096)
#define BERTH_PERSIST_UUID_SIZE 16
/* Of a store, as of a tier; of a block. Without the NUL. */
#define BERTH_PERSIST_STORE_NAME_MAX 63
#define BERTH_PERSIST_NAME_MAX 255
/* One directory is at least, and at most, so large; berth__persist_super_make() chooses. */
#define BERTH_PERSIST_DIRECTORY_MIN ((uint64_t)4096)
#define BERTH_PERSIST_DIRECTORY_MAX ((uint64_t)64 << 20)
/* Room for any reason that a function of the store gives. */
#define BERTH_PERSIST_WHY_MAX 512

/* At offset 0. Every other byte of its page is zero. */
struct berth_persist_super {
    uint64_t magic;
    uint32_t version;
    uint32_t crc; /* of the page, while this field is zero */
    uint64_t granule;
    uint64_t directory_offset[2];
    uint64_t directory_size;
    uint64_t data_offset;
    uint64_t size;   /* of the device when the store was made; 0 = a file, which grows */
    int64_t created; /* seconds since 1970 */
    unsigned char uuid[BERTH_PERSIST_UUID_SIZE];
    char name[BERTH_PERSIST_STORE_NAME_MAX + 1];
};

/* A directory's head; `body_size` bytes of records follow. */
struct berth_persist_head {
    uint64_t magic;
    uint64_t generation;
    uint64_t record_count;
    uint64_t body_size;
    unsigned char uuid[BERTH_PERSIST_UUID_SIZE]; /* of the store */
    uint32_t body_crc;
    uint32_t crc; /* of the head, while this field is zero */
};

/* A block: this, its name with at least one NUL up to a multiple of 8, then its extents. */
struct berth_persist_record {
    uint64_t size;       /* as asked for; the extents hold as many granules as it takes */
    uint64_t generation; /* with which it was committed */
    int64_t created;
    struct berth_persist_sum sum;
    uint32_t name_length;
    uint32_t extent_count;
};

/*
 * Fills in a superblock: for `capacity` bytes of blocks, each a multiple of `granule` (a power of
 * two of at least a page). `device_size` is 0 for a file.
 */
void berth__persist_super_make(struct berth_persist_super *super, const char *name,
                               uint64_t granule, uint64_t capacity, uint64_t device_size);
/* Checks the page at `page` and copies it. `medium_size` is what the file or device has. */
int berth__persist_super_read(const void *page, uint64_t medium_size,
                              struct berth_persist_super *ret, char *why, size_t why_size);
/*
 * Whether no store was ever complete here: `start` is the medium's first three pages. What this is
 * true for may be formatted; anything else belongs to somebody.
 */
bool berth__persist_is_blank(const void *start);

/* The commit record of a generation. */
uint64_t berth__persist_commit_word(const struct berth_persist_super *super, uint64_t generation);
/* Checks the commit page. */
int berth__persist_commit_read(const struct berth_persist_super *super, const void *page,
                               uint64_t *ret_generation, char *why, size_t why_size);

void berth__persist_head_make(struct berth_persist_head *head,
                              const struct berth_persist_super *super, uint64_t generation,
                              uint64_t record_count, const void *body, uint64_t body_size);
/* Checks a directory's head and its body, which follows it in memory. */
int berth__persist_head_read(const void *directory, const struct berth_persist_super *super,
                             uint64_t generation, struct berth_persist_head *ret, char *why,
                             size_t why_size);

/* The bytes that a block's name takes in its record. */
size_t berth__persist_name_bytes(size_t length);

#endif
