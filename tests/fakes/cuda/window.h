/* SPDX-License-Identifier: Apache-2.0 */
/* The window: the one address range in which every device address of the
 * process lies, so that "is it device memory" is one compare. Backing is
 * memfd pages, mapped where the device address says: a device pointer can
 * be followed by the CPU, which a real one cannot. Only that lets kernels run
 * as host functions. Synchronization: the state lock. */
#ifndef BERTH_FAKE_WINDOW_H
#define BERTH_FAKE_WINDOW_H

#include "cuda_abi.h"

#include <stdbool.h>

/* 2 MiB: the granularity of device memory, as on current hardware. */
#define WINDOW_GRANULE_SHIFT 21
#define WINDOW_GRANULE (1ULL << WINDOW_GRANULE_SHIFT)

CUresult window_init(void);
bool window_contains(uint64_t address);
static inline uint64_t window_round(uint64_t size)
{
    return (size + WINDOW_GRANULE - 1) & ~(WINDOW_GRANULE - 1);
}

enum window_use { WINDOW_OWN, WINDOW_PROGRAM /* cuMemAddressReserve */ };

/* Reserves addresses, without memory. `hint` 0 or where they should be. Size
 * and alignment are multiples of the granule. 0 when nothing is left. */
uint64_t window_reserve(uint64_t size, uint64_t alignment, uint64_t hint, enum window_use use);
void window_release(uint64_t address);
/* The size of the program's reservation that starts there; 0 where none does. */
uint64_t window_reserved_size(uint64_t address);
/* Whether [address, address + size) lies in one of the program's reservations. */
bool window_is_reserved(uint64_t address, uint64_t size);

/* The window's own memory: its file offset is the address, so a reserved
 * range can be filled without further bookkeeping. */
int window_fill(uint64_t address, uint64_t size);
/* Unmaps and gives the pages back to the system. */
void window_empty(uint64_t address, uint64_t size);
/* Which segment's pages lie there, for other processes that hold an IPC
 * handle; 0: none any more. */
void window_set_serial(uint64_t address, uint64_t serial);
uint64_t window_read_serial(int arena_fd, uint64_t offset);
int window_arena_fd(void);
uint64_t window_arena_offset(uint64_t address);

/* Maps a file's pages with a PROT_ mask; unmaps. 0 or negative errno. */
int window_map(uint64_t address, uint64_t size, int fd, uint64_t offset, int protection);
void window_unmap(uint64_t address, uint64_t size);

#endif
