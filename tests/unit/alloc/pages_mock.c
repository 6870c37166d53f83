/* SPDX-License-Identifier: Apache-2.0 */
#include "pages_mock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((uint64_t)1 << PAGE_MOCK_SHIFT)
#define HANDLES 4096

/* A handle is an index into this table plus one. */
struct handle {
    int device; /* -1: not in use */
    uintptr_t address;
    uint64_t opened; /* to which devices, one bit each */
};

struct reservation {
    uintptr_t base;
    uint64_t size;
    struct reservation *next;
};

/* The beginning of CUmemAccessDesc and of CUmemAllocationProp. */
struct access {
    int type, device, flags;
};
struct properties {
    int type, handle_types, location_type, device;
};

static struct handle handles[HANDLES];
static int handles_end; /* none was in use from here on; they are looked through again and again */
static struct reservation *reservations;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static berth_cu_result get_attribute(int *value, int attribute, berth_cu_device device)
{
    berth_cu_result result = mock_enter(MOCK_ATTRIBUTE);

    if (result == 0)
        *value = 1;
    return result;
}

static berth_cu_result get_granularity(size_t *granularity, const void *properties, int option)
{
    berth_cu_result result = mock_enter(MOCK_GRANULARITY);

    if (result == 0)
        *granularity = PAGE;
    return result;
}

static berth_cu_result get_total(size_t *size, berth_cu_device device)
{
    berth_cu_result result = mock_enter(MOCK_TOTAL);

    if (result == 0)
        *size = (size_t)256 << 20;
    return result;
}

static berth_cu_result reserve(berth_cu_address *address, size_t size, size_t alignment,
                               berth_cu_address hint, uint64_t flags)
{
    berth_cu_result result = mock_enter(MOCK_RESERVE);
    struct reservation *reservation;
    char *pages;

    if (result != 0)
        return result;
    pages = mmap(NULL, size + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    reservation = malloc(sizeof(*reservation));
    reservation->base = ((uintptr_t)pages + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
    reservation->size = size;
    pthread_mutex_lock(&lock);
    reservation->next = reservations;
    reservations = reservation;
    mock_other_allocations++;
    pthread_mutex_unlock(&lock);
    *address = reservation->base;
    return 0;
}

static int handle_at(uintptr_t address)
{
    for (int i = 0; i < handles_end; i++)
        if (handles[i].device >= 0 && handles[i].address == address)
            return i;
    return -1;
}

static berth_cu_result unreserve(berth_cu_address address, size_t size)
{
    berth_cu_result result = mock_enter(MOCK_UNRESERVE);
    struct reservation **link;

    pthread_mutex_lock(&lock);
    for (link = &reservations; *link && (*link)->base != address; link = &(*link)->next)
        ;
    if (result == 0 && (!*link || (*link)->size != size))
        result = BERTH_CU_INVALID_VALUE;
    for (uint64_t at = 0; result == 0 && at < size; at += PAGE)
        if (handle_at(address + at) >= 0)
            result = BERTH_CU_INVALID_VALUE;
    if (result == 0) {
        struct reservation *reservation = *link;

        *link = reservation->next;
        munmap((void *)reservation->base, reservation->size);
        free(reservation);
        mock_other_allocations--;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static berth_cu_result create(uint64_t *handle, size_t size, const void *properties, uint64_t flags)
{
    berth_cu_result result = mock_enter(MOCK_CREATE);
    int device = ((const struct properties *)properties)->device, at;

    if (result != 0)
        return result;
    if (size != PAGE)
        return BERTH_CU_INVALID_VALUE;
    if (!mock_take(device, size))
        return BERTH_CU_OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    for (at = 0; at < handles_end && handles[at].device >= 0; at++)
        ;
    handles[at] = (struct handle){.device = device};
    if (at == handles_end)
        handles_end++;
    pthread_mutex_unlock(&lock);
    *handle = (uint64_t)at + 1;
    return 0;
}

/* Memory that is mapped lives on in the driver until it is unmapped; here that is a mistake. */
static berth_cu_result release(uint64_t handle)
{
    berth_cu_result result = mock_enter(MOCK_RELEASE);
    int device = -1;

    if (result != 0)
        return result;
    pthread_mutex_lock(&lock);
    if (handle == 0 || handles[handle - 1].device < 0 || handles[handle - 1].address != 0) {
        result = BERTH_CU_INVALID_VALUE;
    } else {
        device = handles[handle - 1].device;
        handles[handle - 1].device = -1;
    }
    pthread_mutex_unlock(&lock);
    if (device >= 0)
        mock_give(device, PAGE);
    return result;
}

static berth_cu_result map(berth_cu_address address, size_t size, size_t offset, uint64_t handle,
                           uint64_t flags)
{
    berth_cu_result result = mock_enter(MOCK_MAP);

    if (result != 0)
        return result;
    pthread_mutex_lock(&lock);
    if (size != PAGE || handle == 0 || handles[handle - 1].device < 0 ||
        handles[handle - 1].address != 0 || handle_at(address) >= 0)
        result = BERTH_CU_INVALID_VALUE;
    else
        handles[handle - 1].address = address;
    pthread_mutex_unlock(&lock);
    return result;
}

static berth_cu_result unmap(berth_cu_address address, size_t size)
{
    berth_cu_result result = mock_enter(MOCK_UNMAP);

    pthread_mutex_lock(&lock);
    for (uint64_t at = 0; result == 0 && at < size; at += PAGE)
        if (handle_at(address + at) < 0)
            result = BERTH_CU_INVALID_VALUE;
    for (uint64_t at = 0; result == 0 && at < size; at += PAGE) {
        struct handle *handle = &handles[handle_at(address + at)];

        handle->address = 0;
        handle->opened = 0;
        madvise((void *)(address + at), PAGE, MADV_DONTNEED);
        mprotect((void *)(address + at), PAGE, PROT_NONE);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static berth_cu_result set_access(berth_cu_address address, size_t size, const void *list,
                                  size_t count)
{
    berth_cu_result result = mock_enter(MOCK_ACCESS);
    const struct access *access = list;

    pthread_mutex_lock(&lock);
    for (uint64_t at = 0; result == 0 && at < size; at += PAGE)
        if (handle_at(address + at) < 0)
            result = BERTH_CU_INVALID_VALUE;
    for (uint64_t at = 0; result == 0 && at < size; at += PAGE) {
        struct handle *handle = &handles[handle_at(address + at)];
        uint64_t bit = (uint64_t)1 << access->device;

        handle->opened = access->flags ? handle->opened | bit : handle->opened & ~bit;
        mprotect((void *)(address + at), PAGE,
                 handle->opened >> handle->device & 1 ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

void pages_mock_bind(void)
{
    while (reservations) {
        struct reservation *reservation = reservations;

        reservations = reservation->next;
        munmap((void *)reservation->base, reservation->size);
        free(reservation);
    }
    mock_other_allocations = 0;
    for (int i = 0; i < HANDLES; i++)
        handles[i].device = -1;
    handles_end = 0;
    berth__driver.cuDeviceGetAttribute = get_attribute;
    berth__driver.cuMemGetAllocationGranularity = get_granularity;
    berth__driver.cuDeviceTotalMem_v2 = get_total;
    berth__driver.cuMemAddressReserve = reserve;
    berth__driver.cuMemAddressFree = unreserve;
    berth__driver.cuMemCreate = create;
    berth__driver.cuMemRelease = release;
    berth__driver.cuMemMap = map;
    berth__driver.cuMemUnmap = unmap;
    berth__driver.cuMemSetAccess = set_access;
}

uint64_t pages_mock_pages(void)
{
    uint64_t pages = 0;

    for (int i = 0; i < handles_end; i++)
        pages += handles[i].device >= 0;
    return pages;
}

uint64_t pages_mock_open(int device)
{
    uint64_t pages = 0;

    for (int i = 0; i < handles_end; i++)
        pages += handles[i].device >= 0 && (handles[i].opened >> device & 1);
    return pages;
}

uint64_t pages_mock_loose(void)
{
    uint64_t pages = 0;

    for (int i = 0; i < handles_end; i++)
        pages += handles[i].device >= 0 && handles[i].address == 0;
    return pages;
}
