/* SPDX-License-Identifier: Apache-2.0 */
#include "window.h"

#include "range.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* 16 TiB of addresses; halved until the system (RLIMIT_AS) grants them. */
#define WINDOW_SIZE_MAX (1ULL << 44)
#define WINDOW_SIZE_MIN (1ULL << 30)

/* Behind the pages the arena file holds, for each granule, the serial of the
 * segment whose pages are there, so that an importer can tell a stale handle. */
#define SERIALS_OFFSET WINDOW_SIZE_MAX

static uint64_t window_start, window_end;
static struct range_map reservations;
static int arena_fd = -1;

static void window_hide_from_children(uint64_t address, uint64_t size)
{
    /* A forked child has no device; touching the memory must not look as if
     * it worked. */
    madvise((void *)address, size, MADV_DONTFORK);
}

CUresult window_init(void)
{
    uint64_t size = WINDOW_SIZE_MAX;
    void *start = MAP_FAILED;

    if (window_start)
        return CUDA_SUCCESS;
    while (size >= WINDOW_SIZE_MIN) {
        start = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (start != MAP_FAILED)
            break;
        size /= 2;
    }
    if (start == MAP_FAILED)
        return CUDA_ERROR_OUT_OF_MEMORY;
    arena_fd = memfd_create("fake-device-memory", MFD_CLOEXEC);
    if (arena_fd < 0 || ftruncate(arena_fd, (off_t)SERIALS_OFFSET * 2) < 0) {
        if (arena_fd >= 0)
            close(arena_fd);
        munmap(start, size);
        return CUDA_ERROR_OPERATING_SYSTEM;
    }
    window_start = window_round((uint64_t)start);
    window_end = ((uint64_t)start + size) & ~(WINDOW_GRANULE - 1);
    window_hide_from_children(window_start, window_end - window_start);
    return CUDA_SUCCESS;
}

bool window_contains(uint64_t address)
{
    return address - window_start < window_end - window_start;
}

uint64_t window_reserve(uint64_t size, uint64_t alignment, uint64_t hint, enum window_use use)
{
    uint64_t address = 0;

    if (size == 0 || size > window_end - window_start)
        return 0;
    if (hint && window_contains(hint) && window_end - hint >= size && hint % alignment == 0 &&
        !range_overlaps(&reservations, hint, size))
        address = hint;
    if (!address)
        address = range_find_gap(&reservations, window_start, window_end, size, alignment);
    if (address &&
        range_add(&reservations, address, size, use == WINDOW_PROGRAM ? &reservations : NULL) < 0)
        address = 0;
    return address;
}

void window_release(uint64_t address)
{
    range_remove(&reservations, address);
}

uint64_t window_reserved_size(uint64_t address)
{
    const struct range *range = range_find(&reservations, address);

    return range && range->owner && range->start == address ? range->end - range->start : 0;
}

bool window_is_reserved(uint64_t address, uint64_t size)
{
    const struct range *range = range_find(&reservations, address);

    return range && range->owner && size <= range->end - address;
}

int window_map(uint64_t address, uint64_t size, int fd, uint64_t offset, int protection)
{
    void *mapped = mmap((void *)address, size, protection, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
                        fd, (off_t)offset);

    if (mapped == MAP_FAILED)
        return -errno;
    window_hide_from_children(address, size);
    return 0;
}

void window_unmap(uint64_t address, uint64_t size)
{
    void *mapped = mmap((void *)address, size, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

    if (mapped != MAP_FAILED)
        window_hide_from_children(address, size);
}

int window_fill(uint64_t address, uint64_t size)
{
    return window_map(address, size, arena_fd, window_arena_offset(address),
                      PROT_READ | PROT_WRITE);
}

void window_empty(uint64_t address, uint64_t size)
{
    window_unmap(address, size);
    fallocate(arena_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
              (off_t)window_arena_offset(address), (off_t)size);
}

int window_arena_fd(void)
{
    return arena_fd;
}

uint64_t window_arena_offset(uint64_t address)
{
    return address - window_start;
}

static off_t serial_offset(uint64_t offset)
{
    return (off_t)(SERIALS_OFFSET + (offset >> WINDOW_GRANULE_SHIFT) * sizeof(uint64_t));
}

void window_set_serial(uint64_t address, uint64_t serial)
{
    (void)!pwrite(arena_fd, &serial, sizeof(serial), serial_offset(window_arena_offset(address)));
}

uint64_t window_read_serial(int fd, uint64_t offset)
{
    uint64_t serial = 0;

    if (pread(fd, &serial, sizeof(serial), serial_offset(offset)) != sizeof(serial))
        serial = 0;
    return serial;
}
