/* SPDX-License-Identifier: Apache-2.0 */
#include "device_mock.h"

#include "alloc/device_context.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define CONTEXTS 4
#define DEPTH_MAX 8
#define LARGE_PAGE ((uint64_t)2 << 20)

const char *const mock_call_name[MOCK_CALL_COUNT] = {
    "cuMemAlloc_v2",       "cuMemFree_v2",         "cuCtxSynchronize",
    "cuCtxGetCurrent",     "cuCtxPushCurrent_v2",  "cuCtxPopCurrent_v2",
    "cuCtxGetDevice",      "cuDeviceGetAttribute", "cuMemGetAllocationGranularity",
    "cuDeviceTotalMem_v2", "cuMemAddressReserve",  "cuMemAddressFree",
    "cuMemCreate",         "cuMemRelease",         "cuMemMap",
    "cuMemUnmap",          "cuMemSetAccess",
};

struct mock_range {
    uintptr_t base;
    uint64_t size;
    void *pages; /* what is mapped for it */
    size_t pages_size;
    unsigned context;
    struct mock_range *next;
};

static struct mock_range *ranges;
static uint64_t capacity_bytes, used_bytes[2];
static atomic_bool destroyed[CONTEXTS];
static char context_objects[CONTEXTS];
static uint64_t calls[MOCK_CALL_COUNT];
static unsigned fail_nth[MOCK_CALL_COUNT];
static berth_cu_result fail_result[MOCK_CALL_COUNT];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread berth_cu_context stack[DEPTH_MAX];
static __thread int depth;

void (*mock_during)(enum mock_call call);
berth_cu_result mock_capture_answer;
uint64_t mock_other_allocations;

berth_cu_context mock_context(unsigned index)
{
    return (berth_cu_context)(void *)&context_objects[index];
}

static int context_index(berth_cu_context context)
{
    for (int i = 0; i < CONTEXTS; i++)
        if (mock_context((unsigned)i) == context && !destroyed[i])
            return i;
    return -1;
}

berth_cu_result mock_enter(enum mock_call call)
{
    berth_cu_result result = 0;

    pthread_mutex_lock(&lock);
    calls[call]++;
    if (fail_nth[call] > 0 && --fail_nth[call] == 0)
        result = fail_result[call];
    pthread_mutex_unlock(&lock);
    if (result == 0 && mock_capture_answer != 0 && call <= MOCK_SYNC)
        result = mock_capture_answer;
    if (mock_during && (call <= MOCK_SYNC || call >= MOCK_RESERVE))
        mock_during(call);
    return result;
}

bool mock_take(int device, uint64_t size)
{
    bool has;

    pthread_mutex_lock(&lock);
    has = used_bytes[device] <= capacity_bytes && size <= capacity_bytes - used_bytes[device];
    if (has)
        used_bytes[device] += size;
    pthread_mutex_unlock(&lock);
    return has;
}

void mock_give(int device, uint64_t size)
{
    pthread_mutex_lock(&lock);
    used_bytes[device] -= size;
    pthread_mutex_unlock(&lock);
}

static berth_cu_result mock_get_current(berth_cu_context *context)
{
    berth_cu_result result = mock_enter(MOCK_CURRENT);

    if (result == 0)
        *context = depth > 0 ? stack[depth - 1] : NULL;
    return result;
}

static berth_cu_result mock_push(berth_cu_context context)
{
    berth_cu_result result = mock_enter(MOCK_PUSH);

    if (result == 0 && context_index(context) < 0)
        result = 201;
    if (result == 0)
        stack[depth++] = context;
    return result;
}

static berth_cu_result mock_pop(berth_cu_context *context)
{
    berth_cu_result result = mock_enter(MOCK_POP);

    *context = stack[--depth];
    return result;
}

static berth_cu_result mock_get_device(berth_cu_device *device)
{
    berth_cu_result result = mock_enter(MOCK_DEVICE);
    int index = depth > 0 ? context_index(stack[depth - 1]) : -1;

    if (result == 0 && index < 0)
        result = 201;
    if (result == 0)
        *device = index / 2;
    return result;
}

static berth_cu_result mock_sync(void)
{
    berth_cu_result result = mock_enter(MOCK_SYNC);

    return result == 0 && (depth == 0 || context_index(stack[depth - 1]) < 0) ? 201 : result;
}

/*
 * As the driver does, large memory begins where one of its pages does. The record lies in a page
 * of its own in front of the memory.
 */
static struct mock_range *map_range(uint64_t size)
{
    uint64_t alignment = size < LARGE_PAGE ? 4096 : LARGE_PAGE;
    size_t pages_size = (size_t)(alignment + size); /* the record's page is of what aligns */
    char *pages = mmap(NULL, pages_size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct mock_range *range = (struct mock_range *)(void *)pages;

    range->pages = pages;
    range->pages_size = pages_size;
    range->base = ((uintptr_t)pages + 4096 + alignment - 1) & ~(uintptr_t)(alignment - 1);
    range->size = size;
    return range;
}

static berth_cu_result mock_alloc(berth_cu_address *address, size_t size)
{
    berth_cu_result result = mock_enter(MOCK_ALLOC);
    struct mock_range *range;
    int index;

    if (result != 0)
        return result;
    pthread_mutex_lock(&lock);
    index = depth > 0 ? context_index(stack[depth - 1]) : -1;
    if (index < 0) {
        result = 201;
    } else if (size == 0) {
        result = BERTH_CU_INVALID_VALUE;
    } else if (used_bytes[index / 2] > capacity_bytes ||
               size > capacity_bytes - used_bytes[index / 2]) {
        result = BERTH_CU_OUT_OF_MEMORY;
    } else {
        range = map_range(size);
        range->context = (unsigned)index;
        range->next = ranges;
        ranges = range;
        used_bytes[index / 2] += size;
        *address = range->base;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static void range_free(struct mock_range **link)
{
    struct mock_range *range = *link;

    *link = range->next;
    used_bytes[range->context / 2] -= range->size;
    munmap(range->pages, range->pages_size);
}

static berth_cu_result mock_free(berth_cu_address address)
{
    berth_cu_result result = mock_enter(MOCK_FREE);
    struct mock_range **link;

    if (result != 0)
        return result;
    pthread_mutex_lock(&lock);
    for (link = &ranges; *link && (*link)->base != address; link = &(*link)->next)
        ;
    if (*link)
        range_free(link);
    else
        result = BERTH_CU_INVALID_VALUE;
    pthread_mutex_unlock(&lock);
    return result;
}

void mock_destroy(berth_cu_context context)
{
    int index = context_index(context);
    struct mock_range **link = &ranges;

    pthread_mutex_lock(&lock);
    while (*link)
        if ((*link)->context == (unsigned)index)
            range_free(link);
        else
            link = &(*link)->next;
    destroyed[index] = true;
    pthread_mutex_unlock(&lock);
}

void mock_create(berth_cu_context context)
{
    for (int i = 0; i < CONTEXTS; i++)
        if (mock_context((unsigned)i) == context)
            destroyed[i] = false;
}

void mock_reset(uint64_t capacity)
{
    while (ranges)
        range_free(&ranges);
    for (int i = 0; i < CONTEXTS; i++)
        destroyed[i] = false;
    memset(calls, 0, sizeof(calls));
    mock_fail_none();
    mock_during = NULL;
    mock_capture_answer = 0;
    capacity_bytes = capacity;
    depth = 0;
    berth__context_track_again();
    berth__driver = (struct berth_driver){
        .cuCtxGetCurrent = mock_get_current,
        .cuCtxPushCurrent_v2 = mock_push,
        .cuCtxPopCurrent_v2 = mock_pop,
        .cuCtxGetDevice = mock_get_device,
        .cuCtxSynchronize = mock_sync,
        .cuMemAlloc_v2 = mock_alloc,
        .cuMemFree_v2 = mock_free,
    };
}

void mock_set_capacity(uint64_t capacity)
{
    capacity_bytes = capacity;
}

void mock_set_current(berth_cu_context context)
{
    mock_switch_unseen(context);
    berth__context_changed();
}

void mock_switch_unseen(berth_cu_context context)
{
    depth = context != NULL;
    stack[0] = context;
}

void mock_fail(enum mock_call call, unsigned nth, berth_cu_result result)
{
    fail_nth[call] = nth;
    fail_result[call] = result;
}

void mock_fail_none(void)
{
    memset(fail_nth, 0, sizeof(fail_nth));
}

uint64_t mock_calls(enum mock_call call)
{
    return calls[call];
}

uint64_t mock_bytes(void)
{
    uint64_t bytes;

    pthread_mutex_lock(&lock);
    bytes = used_bytes[0] + used_bytes[1];
    pthread_mutex_unlock(&lock);
    return bytes;
}

uint64_t mock_allocations(void)
{
    uint64_t count = mock_other_allocations;

    pthread_mutex_lock(&lock);
    for (const struct mock_range *range = ranges; range; range = range->next)
        count++;
    pthread_mutex_unlock(&lock);
    return count;
}

int mock_depth(void)
{
    return depth;
}
