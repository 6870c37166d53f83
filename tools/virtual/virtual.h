/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver without a device, for replays: it hands out addresses and keeps books, and there is no
 * memory behind them. libberth-virtual.so exports the names of the CUDA driver's allocation calls
 * with the answers that a device of a given size would give, and carries out no work: streams and
 * events are always done, a kernel cannot be launched, an address cannot be followed.
 *
 * Physical memory is counted in pieces of 2 MiB. An allocation above 1 MiB takes whole pieces;
 * smaller ones share them, as with cuMemAlloc of a real driver.
 *
 * Environment: BERTH_VIRTUAL_MEMORY (bytes per device), BERTH_VIRTUAL_DEVICES.
 */
#ifndef BERTH_TOOLS_VIRTUAL_H
#define BERTH_TOOLS_VIRTUAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Results, by cuda.h's numbers. */
enum {
    CU_SUCCESS = 0,
    CU_INVALID_VALUE = 1,
    CU_OUT_OF_MEMORY = 2,
    CU_NOT_INITIALIZED = 3,
    CU_INVALID_DEVICE = 101,
    CU_INVALID_CONTEXT = 201,
    CU_INVALID_HANDLE = 400,
    CU_NOT_FOUND = 500,
    CU_NOT_SUPPORTED = 801
};

typedef unsigned long long address_t;

#define VIRTUAL_DEVICES_MAX 64
#define VIRTUAL_PIECE_SHIFT 21 /* 2 MiB */
#define VIRTUAL_PIECE ((uint64_t)1 << VIRTUAL_PIECE_SHIFT)
#define VIRTUAL_EXPORT __attribute__((visibility("default")))

/* What a range of addresses is. */
enum virtual_kind {
    VIRTUAL_ALLOCATION, /* cuMemAlloc and its relatives */
    VIRTUAL_POOLED,     /* stream-ordered */
    VIRTUAL_RESERVED,   /* cuMemAddressReserve: addresses without memory */
};

struct virtual_context {
    int device;
    bool is_primary;
    unsigned retained; /* of a primary one */
    struct virtual_context *next;
};

struct virtual_range {
    address_t base;
    uint64_t size;  /* as asked for */
    uint64_t taken; /* addresses and, unless RESERVED, memory */
    enum virtual_kind kind;
    int device;
    struct virtual_context *context; /* whose end is the range's; NULL: none */
    void *pool;                      /* POOLED */
    struct virtual_range *next;      /* in its slot of the table */
};

/* What was asked of the driver, and what it gave; bytes are of all devices together. */
struct berth_virtual_counters {
    uint64_t allocations, frees; /* calls that take or give memory, of any kind */
    uint64_t used, used_peak;    /* bytes of pieces */
    uint64_t maps, unmaps;       /* calls that give memory an address or take it away */
};

/* One lock for all books. */
extern pthread_mutex_t virtual_lock;

/* Reads the environment; CU_SUCCESS or what cuInit answers. */
int virtual_start(void);
bool virtual_is_started(void);
int virtual_device_count(void);
uint64_t virtual_capacity(void);

/* The following with the lock held. */

/* Counts memory of whole pieces; CU_OUT_OF_MEMORY. */
int virtual_take(int device, uint64_t size);
void virtual_give(int device, uint64_t size);
uint64_t virtual_used(int device);

/* A new range; for all but RESERVED its memory is taken too. */
int virtual_range_new(enum virtual_kind kind, int device, struct virtual_context *context,
                      uint64_t size, struct virtual_range **ret);
void virtual_range_delete(struct virtual_range *range);
/* The range that begins at `base`; or, slowly, the one that contains `address`. */
struct virtual_range *virtual_range_at(address_t base);
struct virtual_range *virtual_range_of(address_t address);
/* All ranges of a context end. */
void virtual_ranges_drop(const struct virtual_context *context);
void virtual_count(bool is_allocation);
void virtual_count_mapping(bool is_map);

/* The calling thread's context, NULL when it has none. No lock. */
struct virtual_context *virtual_current(void);

#endif
