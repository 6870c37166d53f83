/* SPDX-License-Identifier: Apache-2.0 */
/* Checklist items 38 and 39: the program's own mappings and pools stay its own. See item.h. */
#include "item.h"

#include <stdint.h>
#include <string.h>

static size_t granule;
static const CUmemLocation here = {CU_MEM_LOCATION_TYPE_DEVICE, 0};

static CUmemAllocationProp physical(void)
{
    return (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                 .location = here};
}

static void mistakes(CUdeviceptr base, CUmemGenericAllocationHandle handle)
{
    CUmemAllocationProp properties = physical();
    CUmemGenericAllocationHandle none = 0;
    CUmemAccessDesc access = {here, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};

    SEEN("create, no multiple: %d\n", cuMemCreate(&none, granule + 1, &properties, 0));
    SEEN("create, nothing: %d\n", cuMemCreate(&none, 0, &properties, 0));
    SEEN("map with an offset: %d\n", cuMemMap(base, granule, granule, handle, 0));
    SEEN("map, no multiple: %d\n", cuMemMap(base, granule / 2, 0, handle, 0));
    SEEN("access before the map: %d\n", cuMemSetAccess(base, granule, &access, 1));
    SEEN("unmap before the map: %d\n", cuMemUnmap(base, granule));
    SEEN("reserve, no multiple: %d\n", cuMemAddressReserve(&base, granule + 5, 0, 0, 0));
}

static bool overlaps(CUdeviceptr p, size_t size, CUdeviceptr base, size_t range)
{
    return p < base + range && base < p + size;
}

/* Blocks that come while the program has addresses of its own never lie there. */
static size_t collisions(CUdeviceptr base, size_t range)
{
    static CUdeviceptr p[120];
    size_t found = 0;

    for (size_t i = 0; i < COUNT(p); i++) {
        size_t size = i % 3 ? KIB(4) << (i % 9) : MIB(2) + i;

        p[i] = check_alloc(size);
        found += overlaps(p[i], size, base, range);
    }
    for (size_t i = 0; i < COUNT(p); i++)
        EXPECT(cuMemFree_v2(p[i]) == 0);
    return found;
}

static void share_handle(CUmemGenericAllocationHandle handle)
{
    CUmemGenericAllocationHandle imported = 0;
    CUmemAllocationProp properties;
    int fd = -1;

    SEEN("export: %d",
         cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    printf(" import %d", cuMemImportFromShareableHandle(&imported, (void *)(uintptr_t)fd,
                                                        CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    close(fd);
    memset(&properties, 0, sizeof(properties));
    printf(" properties %d", cuMemGetAllocationPropertiesFromHandle(&properties, imported));
    printf(" %d %d", (int)properties.type, (int)properties.requestedHandleTypes);
    printf(" release %d\n", cuMemRelease(imported));
}

/* Calls for mappings know nothing of memory that cuMemAlloc gave. */
static void calls_for_blocks(void)
{
    CUmemAccessDesc access = {here, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle handle = 0;
    unsigned long long flags = 9;

    for (int i = 0; i < 3; i++) {
        CUdeviceptr block = check_alloc(2 * granule);

        SEEN("handle of a block: %d",
             cuMemRetainAllocationHandle(&handle, (void *)(uintptr_t)block));
        printf(" unmap %d", cuMemUnmap(block, 2 * granule));
        printf(" access %d", cuMemSetAccess(block, 2 * granule, &access, 1));
        printf(" %d", cuMemGetAccess(&flags, &here, block + granule));
        printf(" %llu", flags);
        check_fill(block, 2 * granule, 38);
        printf(" holds %d\n", check_holds(block, 2 * granule, 38));
    }
}

void item_38_virtual_memory(void)
{
    CUmemAllocationProp properties = physical();
    CUmemAccessDesc access = {here, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle handle = 0, again = 0;
    CUdeviceptr base = 0, found = 0;
    unsigned long long flags = 9;
    size_t size = 0;

    check_up();
    SEEN("granularity: %d", cuMemGetAllocationGranularity(&granule, &properties, 0));
    printf(" %zu\n", granule);
    calls_for_blocks();
    SEEN("reserve: %d", cuMemAddressReserve(&base, 8 * granule, 0, 0, 0));
    printf(" create %d\n", cuMemCreate(&handle, 2 * granule, &properties, 0));
    mistakes(base, handle);
    SEEN("blocks in the reserved addresses: %zu\n", collisions(base, 8 * granule));
    SEEN("map: %d", cuMemMap(base + granule, 2 * granule, 0, handle, 0));
    printf(" access %d\n", cuMemSetAccess(base + granule, 2 * granule, &access, 1));
    check_pattern(base + granule, 2 * granule, 38);
    SEEN("blocks in the mapping: %zu\n", collisions(base, 8 * granule));
    SEEN("contents: %d\n", check_has_pattern(base + granule, 2 * granule, 38));
    SEEN("access is: %d", cuMemGetAccess(&flags, &here, base + granule));
    printf(" %llu\n", flags);
    SEEN("range: %d", cuMemGetAddressRange_v2(&found, &size, base + granule + 5));
    printf(" %d %zu\n", found == base + granule, size);
    SEEN("free of it: %d\n", cuMemFree_v2(base + granule));
    SEEN("its handle: %d",
         cuMemRetainAllocationHandle(&again, (void *)(uintptr_t)(base + granule)));
    printf(" the same %d release %d\n", again == handle, cuMemRelease(again));
    share_handle(handle);
    SEEN("unmap a part: %d\n", cuMemUnmap(base + granule, granule));
    SEEN("unmap: %d", cuMemUnmap(base + granule, 2 * granule));
    printf(" release %d", cuMemRelease(handle));
    printf(" again %d", cuMemRelease(handle));
    printf(" free the addresses %d", cuMemAddressFree(base, 8 * granule));
    printf(" again %d\n", cuMemAddressFree(base, 8 * granule));
}

static void show_pool(const char *when, CUmemoryPool pool)
{
    static const CUmemPool_attribute list[] = {
        CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES,
        CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC,
        CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES,
        CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
        CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT,
        CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
        CU_MEMPOOL_ATTR_USED_MEM_HIGH,
    };

    SEEN("%s:", when);
    for (size_t i = 0; i < COUNT(list); i++) {
        cuuint64_t value = 0;

        printf(" %d", cuMemPoolGetAttribute(pool, list[i], &value));
        printf(":%llu", (unsigned long long)value);
    }
    printf("\n");
}

static void use_pool(CUmemoryPool pool, CUstream stream)
{
    CUdeviceptr p = 0, q = 0;
    cuuint64_t keep = MIB(64), zero = 0;

    show_pool("new", pool);
    SEEN("threshold: %d\n", cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep));
    SEEN("alloc: %d", cuMemAllocFromPoolAsync(&p, MIB(3), pool, stream));
    printf(" %d\n", cuMemAllocFromPoolAsync(&q, KIB(10), pool, stream));
    EXPECT(cuStreamSynchronize(stream) == 0);
    show_pool("two blocks", pool);
    SEEN("free: %d", cuMemFreeAsync(p, stream));
    EXPECT(cuStreamSynchronize(stream) == 0);
    printf(" trim %d\n", cuMemPoolTrimTo(pool, 0));
    show_pool("one block", pool);
    SEEN("free: %d\n", cuMemFreeAsync(q, stream));
    EXPECT(cuStreamSynchronize(stream) == 0);
    show_pool("none", pool);
    SEEN("trim: %d\n", cuMemPoolTrimTo(pool, 0));
    show_pool("trimmed", pool);
    SEEN("reset the peak: %d\n", cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &zero));
    SEEN("set what is used: %d\n",
         cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &zero));
    show_pool("at last", pool);
}

static unsigned long long used_of(CUmemoryPool pool, CUmemPool_attribute attribute)
{
    cuuint64_t used = 0;

    EXPECT(cuMemPoolGetAttribute(pool, attribute, &used) == 0);
    return used;
}

/* The same of the default pool, whose blocks cuMemAllocAsync hands out. */
static void use_default_pool(CUmemoryPool pool, CUstream stream)
{
    cuuint64_t used = 0;
    CUdeviceptr p = 0;

    EXPECT(cuMemAllocAsync(&p, MIB(3), stream) == 0 && cuStreamSynchronize(stream) == 0);
    SEEN("default pool: %d", cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
    printf(" at least what is live: %d\n", used >= MIB(3));
    EXPECT(cuMemFreeAsync(p, stream) == 0);
    /* What a block that comes again was larger is nobody's. */
    EXPECT(cuMemAllocAsync(&p, MIB(3) - KIB(200), stream) == 0);
    SEEN("a little less: %llu\n", used_of(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT));
    EXPECT(cuMemFreeAsync(p, stream) == 0 && cuStreamSynchronize(stream) == 0);
    SEEN("trim: %d", cuMemPoolTrimTo(pool, 0));
    EXPECT(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used) == 0);
    printf(" left %llu", (unsigned long long)used);
    EXPECT(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &used) == 0);
    printf(" reserved %llu\n", (unsigned long long)used);
}

/* The most that was used is the program's own, whatever comes back by whatever way. */
static void use_to_a_peak(CUmemoryPool pool, CUstream stream)
{
    cuuint64_t zero = 0;
    CUdeviceptr p[8];

    for (size_t i = 0; i < COUNT(p); i++)
        EXPECT(cuMemAllocAsync(&p[i], KIB(64) * (i + 1), stream) == 0);
    for (size_t i = 0; i < 4; i++)
        EXPECT(cuMemFreeAsync(p[2 * i], stream) == 0);
    SEEN("the peak: %llu", used_of(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH));
    EXPECT(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &zero) == 0);
    printf(" anew %llu", used_of(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH));
    EXPECT(cuMemFree_v2(p[1]) == 0);
    printf(" %llu", used_of(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH));
    EXPECT(cuMemPoolTrimTo(pool, 0) == 0);
    printf(" %llu", used_of(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH));
    EXPECT(cuMemAllocFromPoolAsync(&p[0], MIB(1), pool, stream) == 0);
    printf(" %llu", used_of(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH));
    printf(" now %llu\n", used_of(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT));
    EXPECT(cuMemFreeAsync(p[0], stream) == 0);
    for (size_t i = 1; i < 4; i++)
        EXPECT(cuMemFreeAsync(p[2 * i + 1], stream) == 0);
    EXPECT(cuStreamSynchronize(stream) == 0);
}

/* A pool that may not reuse across streams, by neither way. */
static void forbid_reuse(CUmemoryPool pool, bool is_forbidden)
{
    int value = !is_forbidden;

    EXPECT(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC, &value) == 0);
    EXPECT(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES, &value) ==
           0);
    EXPECT(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES, &value) ==
           0);
}

static CUresult by_device(CUmemoryPool pool)
{
    return cuDeviceSetMemPool(0, pool);
}

/* As of CUDA 13. */
static CUresult by_location(CUmemoryPool pool)
{
    CUresult (*set)(CUmemLocation *, CUmemAllocationType, CUmemoryPool) =
        (CUresult(*)(CUmemLocation *, CUmemAllocationType, CUmemoryPool))check_driver_function(
            "cuMemSetMemPool", 13000);
    CUmemLocation location = here;

    return set ? set(&location, CU_MEM_ALLOCATION_TYPE_PINNED, pool) : by_device(pool);
}

static void choose_pool(CUmemoryPool pool, CUmemoryPool standard, CUstream stream,
                        CUresult (*choose)(CUmemoryPool pool))
{
    CUmemoryPool found = NULL;
    CUdeviceptr p = 0;

    /* Freed just before, it would serve the next one if the pool were still the same. */
    EXPECT(cuMemAllocAsync(&p, KIB(7), stream) == 0 && cuMemFreeAsync(p, stream) == 0);
    SEEN("set: %d", choose(pool));
    printf(" get %d", cuDeviceGetMemPool(&found, 0));
    printf(" it is %d\n", found == pool);
    SEEN("alloc of the current pool: %d\n", cuMemAllocAsync(&p, KIB(7), stream));
    EXPECT(cuPointerGetAttribute(&found, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, p) == 0);
    SEEN("it is of that pool: %d", found == pool);
    printf(" free %d\n", cuMemFreeAsync(p, stream));
    EXPECT(cuStreamSynchronize(stream) == 0);
    SEEN("set back: %d\n", choose(standard));
}

/* Managed memory has a current pool of its own: choosing it changes nothing for other memory. */
static void choose_managed(CUmemoryPool standard, CUstream stream)
{
    CUresult (*set)(CUmemLocation *, CUmemAllocationType, CUmemoryPool) =
        (CUresult(*)(CUmemLocation *, CUmemAllocationType, CUmemoryPool))check_driver_function(
            "cuMemSetMemPool", 13000);
    CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_MANAGED, .location = here};
    CUmemoryPool pool = NULL, found = NULL;
    CUmemLocation location = here;
    CUdeviceptr p = 0, q = 0;

    if (!set || cuMemPoolCreate(&pool, &properties) != CUDA_SUCCESS) {
        SEEN("no pools of managed memory\n");
        return;
    }
    EXPECT(cuMemAllocAsync(&p, KIB(7), stream) == 0 && cuMemFreeAsync(p, stream) == 0);
    SEEN("managed: as other memory %d", set(&location, CU_MEM_ALLOCATION_TYPE_PINNED, pool));
    printf(" set %d", set(&location, CU_MEM_ALLOCATION_TYPE_MANAGED, pool));
    printf(" get %d", cuDeviceGetMemPool(&found, 0));
    printf(" the standard one %d\n", found == standard);
    EXPECT(cuMemAllocAsync(&q, KIB(7), stream) == 0 && cuMemFreeAsync(q, stream) == 0);
    SEEN("served in its stream's order still: %d", p == q);
    printf(" destroy %d\n", cuMemPoolDestroy(pool));
}

void item_39_memory_pools(void)
{
    CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = here};
    CUmemoryPool pool = NULL, found = NULL, standard = NULL;
    CUmemLocation location = here;
    CUmemAccess_flags flags = 9;
    CUstream stream;

    check_up();
    stream = check_stream();
    SEEN("create: %d\n", cuMemPoolCreate(&pool, &properties));
    use_pool(pool, stream);
    SEEN("access: %d", cuMemPoolGetAccess(&flags, pool, &location));
    printf(" %d\n", (int)flags);
    SEEN("default: %d", cuDeviceGetDefaultMemPool(&standard, 0));
    printf(" current %d", cuDeviceGetMemPool(&found, 0));
    printf(" the same %d\n", found == standard);
    use_to_a_peak(standard, stream);
    use_default_pool(standard, stream);
    forbid_reuse(standard, true);
    SEEN("reuse is forbidden: written late: %zu",
         check_written_late(KIB(70), stream, check_stream()));
    forbid_reuse(standard, false);
    printf(" allowed: %zu\n", check_written_late(KIB(70), stream, check_stream()));
    choose_pool(pool, standard, stream, by_device);
    choose_pool(pool, standard, stream, by_location);
    choose_managed(standard, stream);
    SEEN("destroy the default: %d\n", cuMemPoolDestroy(standard));
    SEEN("destroy: %d\n", cuMemPoolDestroy(pool));
}
