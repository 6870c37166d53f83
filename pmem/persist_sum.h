/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checksum of a persistent block's contents, and the CRC-32C that metadata is guarded by.
 *
 * The sum is four CRC-32C, each over every fourth 8-byte word, so that the processor works on four
 * chains at once: contents are summed as fast as memory is read. Any change of up to 32 adjacent
 * bits is seen for certain, any other with probability 1 - 2^-32 at the least.
 */
#ifndef BERTH_PMEM_PERSIST_SUM_H
#define BERTH_PMEM_PERSIST_SUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BERTH_PERSIST_SUM_LANES 4
/* Contents may be summed in pieces; all but the last are multiples of this. */
#define BERTH_PERSIST_SUM_STEP ((size_t)32)

/* As it is on the medium. */
struct berth_persist_sum {
    uint32_t lane[BERTH_PERSIST_SUM_LANES];
};

struct berth_persist_sum berth__persist_sum_start(void);
void berth__persist_sum_add(struct berth_persist_sum *sum, const void *data, size_t size);
bool berth__persist_sum_equal(const struct berth_persist_sum *a, const struct berth_persist_sum *b);

/* CRC-32C of `data` after what `crc` stands for; 0 to begin. */
uint32_t berth__persist_crc(uint32_t crc, const void *data, size_t size);
/* The same without the processor's instruction, for tests to compare with. */
uint32_t berth__persist_crc_plain(uint32_t crc, const void *data, size_t size);

#endif
