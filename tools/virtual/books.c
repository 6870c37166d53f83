/* SPDX-License-Identifier: Apache-2.0 */
/* The books of the virtual driver: which addresses are given out, and how much memory that is. */
#include "tools/virtual/virtual.h"

#include <stdlib.h>
#include <string.h>

/*
 * Addresses of a device begin at its number times this. They lie where no process has mappings by
 * default, so that none is mistaken for host memory.
 */
#define DEVICE_ADDRESSES ((address_t)1 << 40)
#define FIRST_ADDRESS ((address_t)1 << 52)
#define SLOTS 65536
#define SMALL_MAX (VIRTUAL_PIECE / 2)
#define GRANULE_SHIFT 9 /* 512 bytes */
#define PIECE_GRANULES (VIRTUAL_PIECE >> GRANULE_SHIFT)

/* Addresses that were given back, whole, for the next range of the same size. */
struct spare {
    address_t base;
    uint64_t size;
    struct spare *next;
};

/* 2 MiB that small allocations share. */
struct piece {
    address_t base;
    uint64_t used; /* granules */
    unsigned char taken[PIECE_GRANULES];
    struct piece *next;
};

struct device {
    uint64_t used;
    address_t next; /* the first address that was never given out */
    struct spare *spare[64];
    struct piece *pieces;
};

pthread_mutex_t virtual_lock = PTHREAD_MUTEX_INITIALIZER;
static struct device devices[VIRTUAL_DEVICES_MAX];
static struct virtual_range *table[SLOTS];
static struct berth_virtual_counters counters;
static uint64_t capacity;
static int device_count;

VIRTUAL_EXPORT void berth_virtual_counters(struct berth_virtual_counters *ret);

void berth_virtual_counters(struct berth_virtual_counters *ret)
{
    pthread_mutex_lock(&virtual_lock);
    *ret = counters;
    pthread_mutex_unlock(&virtual_lock);
}

/* The most that is used begins anew with what is used. */
VIRTUAL_EXPORT void berth_virtual_reset_peak(void);

void berth_virtual_reset_peak(void)
{
    pthread_mutex_lock(&virtual_lock);
    counters.used_peak = counters.used;
    pthread_mutex_unlock(&virtual_lock);
}

int virtual_start(void)
{
    const char *memory = getenv("BERTH_VIRTUAL_MEMORY");
    const char *count = getenv("BERTH_VIRTUAL_DEVICES");

    if (device_count > 0)
        return CU_SUCCESS;
    capacity = memory ? strtoull(memory, NULL, 10) : (uint64_t)80 << 30;
    device_count = count ? atoi(count) : 1;
    if (capacity < VIRTUAL_PIECE || device_count < 1 || device_count > VIRTUAL_DEVICES_MAX) {
        device_count = 0;
        return CU_INVALID_VALUE;
    }
    for (int i = 0; i < device_count; i++)
        devices[i].next = FIRST_ADDRESS + DEVICE_ADDRESSES * 4 * (address_t)i;
    return CU_SUCCESS;
}

bool virtual_is_started(void)
{
    return device_count > 0;
}

int virtual_device_count(void)
{
    return device_count;
}

uint64_t virtual_capacity(void)
{
    return capacity;
}

uint64_t virtual_used(int device)
{
    return devices[device].used;
}

void virtual_count(bool is_allocation)
{
    if (is_allocation)
        counters.allocations++;
    else
        counters.frees++;
}

void virtual_count_mapping(bool is_map)
{
    if (is_map)
        counters.maps++;
    else
        counters.unmaps++;
}

int virtual_take(int device, uint64_t size)
{
    struct device *d = &devices[device];

    if (size > capacity || d->used > capacity - size)
        return CU_OUT_OF_MEMORY;
    d->used += size;
    counters.used += size;
    if (counters.used > counters.used_peak)
        counters.used_peak = counters.used;
    return CU_SUCCESS;
}

void virtual_give(int device, uint64_t size)
{
    devices[device].used -= size;
    counters.used -= size;
}

static unsigned bin_of(uint64_t size)
{
    return (unsigned)(size >> VIRTUAL_PIECE_SHIFT) % 64;
}

/* Addresses of a size that is a multiple of a piece; 0 without host memory. */
static address_t addresses_take(struct device *device, uint64_t size)
{
    struct spare **link = &device->spare[bin_of(size)];
    address_t base = device->next;

    while (*link && (*link)->size != size)
        link = &(*link)->next;
    if (*link) {
        struct spare *spare = *link;

        *link = spare->next;
        base = spare->base;
        free(spare);
        return base;
    }
    device->next += size;
    return base;
}

static void addresses_give(struct device *device, address_t base, uint64_t size)
{
    struct spare *spare = malloc(sizeof(*spare));

    /* Without a record the addresses are never used again, which costs nothing. */
    if (!spare)
        return;
    *spare = (struct spare){base, size, device->spare[bin_of(size)]};
    device->spare[bin_of(size)] = spare;
}

/* The first place with `granules` free ones in a row, or PIECE_GRANULES. */
static uint64_t piece_fit(const struct piece *piece, uint64_t granules)
{
    uint64_t run = 0;

    for (uint64_t i = 0; i < PIECE_GRANULES; i++) {
        run = piece->taken[i] ? 0 : run + 1;
        if (run == granules)
            return i + 1 - granules;
    }
    return PIECE_GRANULES;
}

static struct piece *piece_new(int device)
{
    struct piece *piece = calloc(1, sizeof(*piece));

    if (!piece || virtual_take(device, VIRTUAL_PIECE) != CU_SUCCESS) {
        free(piece);
        return NULL;
    }
    piece->base = addresses_take(&devices[device], VIRTUAL_PIECE);
    piece->next = devices[device].pieces;
    devices[device].pieces = piece;
    return piece;
}

static int small_take(int device, uint64_t size, address_t *ret)
{
    uint64_t granules = size >> GRANULE_SHIFT;
    uint64_t at = PIECE_GRANULES;
    struct piece *piece = devices[device].pieces;

    for (; piece; piece = piece->next) {
        if (piece->used + granules <= PIECE_GRANULES)
            at = piece_fit(piece, granules);
        if (at < PIECE_GRANULES)
            break;
    }
    if (!piece) {
        piece = piece_new(device);
        at = 0;
    }
    if (!piece)
        return CU_OUT_OF_MEMORY;
    memset(piece->taken + at, 1, granules);
    piece->used += granules;
    *ret = piece->base + (at << GRANULE_SHIFT);
    return CU_SUCCESS;
}

static void small_give(int device, address_t base, uint64_t size)
{
    struct piece **link = &devices[device].pieces;
    struct piece *piece;

    while (*link && base - (*link)->base >= VIRTUAL_PIECE)
        link = &(*link)->next;
    piece = *link;
    if (!piece)
        return;
    memset(piece->taken + ((base - piece->base) >> GRANULE_SHIFT), 0, size >> GRANULE_SHIFT);
    piece->used -= size >> GRANULE_SHIFT;
    if (piece->used > 0)
        return;
    *link = piece->next;
    addresses_give(&devices[device], piece->base, VIRTUAL_PIECE);
    virtual_give(device, VIRTUAL_PIECE);
    free(piece);
}

static struct virtual_range **slot_of(address_t base)
{
    return &table[(base >> GRANULE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 48];
}

static uint64_t round_up(uint64_t size, uint64_t to)
{
    return size > UINT64_MAX - to ? 0 : (size + to - 1) & ~(to - 1);
}

int virtual_range_new(enum virtual_kind kind, int device, struct virtual_context *context,
                      uint64_t size, struct virtual_range **ret)
{
    bool is_small = kind != VIRTUAL_RESERVED && size <= SMALL_MAX;
    uint64_t taken = round_up(size, is_small ? (uint64_t)1 << GRANULE_SHIFT : VIRTUAL_PIECE);
    struct virtual_range *range = malloc(sizeof(*range));
    address_t base = 0;
    int result = range && taken > 0 && taken < DEVICE_ADDRESSES ? CU_SUCCESS : CU_OUT_OF_MEMORY;

    if (result == CU_SUCCESS && is_small)
        result = small_take(device, taken, &base);
    else if (result == CU_SUCCESS && kind != VIRTUAL_RESERVED)
        result = virtual_take(device, taken);
    if (result != CU_SUCCESS) {
        free(range);
        return result;
    }
    if (!is_small)
        base = addresses_take(&devices[device], taken);
    *range = (struct virtual_range){base, size, taken, kind, device, context, NULL, *slot_of(base)};
    *slot_of(base) = range;
    *ret = range;
    return CU_SUCCESS;
}

void virtual_range_delete(struct virtual_range *range)
{
    struct virtual_range **link = slot_of(range->base);

    while (*link != range)
        link = &(*link)->next;
    *link = range->next;
    if (range->kind != VIRTUAL_RESERVED && range->size <= SMALL_MAX) {
        small_give(range->device, range->base, range->taken);
    } else {
        addresses_give(&devices[range->device], range->base, range->taken);
        if (range->kind != VIRTUAL_RESERVED)
            virtual_give(range->device, range->taken);
    }
    free(range);
}

struct virtual_range *virtual_range_at(address_t base)
{
    struct virtual_range *range = *slot_of(base);

    while (range && range->base != base)
        range = range->next;
    return range;
}

struct virtual_range *virtual_range_of(address_t address)
{
    struct virtual_range *range = virtual_range_at(address);

    for (size_t i = 0; !range && i < SLOTS; i++)
        for (range = table[i]; range && address - range->base >= range->size;)
            range = range->next;
    return range;
}

void virtual_ranges_drop(const struct virtual_context *context)
{
    for (size_t i = 0; i < SLOTS; i++) {
        struct virtual_range *next;

        for (struct virtual_range *range = table[i]; range; range = next) {
            next = range->next;
            if (range->context == context)
                virtual_range_delete(range);
        }
    }
}
