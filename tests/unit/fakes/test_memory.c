/* SPDX-License-Identifier: Apache-2.0 */
/* Device and host memory of the simulated driver: sizes, limits, what is
 * refused, what freed memory looks like, and what the queries say. */
#include "fixture.h"

#define MIB (1ULL << 20)

static void allocation_is_aligned_and_holds_what_is_copied(void **state)
{
    unsigned char out[1000], back[1000];
    CUdeviceptr pointer;

    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (unsigned char)(i * 7);
    assert_ok(cuMemAlloc_v2(&pointer, sizeof(out)));
    assert_int_equal(pointer % 512, 0);
    assert_ok(cuMemcpyHtoD_v2(pointer, out, sizeof(out)));
    assert_ok(cuMemcpyDtoH_v2(back, pointer, sizeof(back)));
    assert_memory_equal(out, back, sizeof(out));
    assert_ok(cuMemFree_v2(pointer));
}

static void zero_size_is_refused(void **state)
{
    CUdeviceptr pointer = 77;

    assert_int_equal(cuMemAlloc_v2(&pointer, 0), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(pointer, 77);
}

static void double_and_interior_free_are_refused(void **state)
{
    CUdeviceptr pointer, neighbour;

    assert_ok(cuMemAlloc_v2(&neighbour, 4096));
    assert_ok(cuMemAlloc_v2(&pointer, 4096));
    assert_int_equal(cuMemFree_v2(pointer + 512), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFree_v2(pointer));
    assert_int_equal(cuMemFree_v2(pointer), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFree_v2(0));
    assert_ok(cuMemFree_v2(neighbour));
}

static void capacity_is_a_limit_and_free_gives_it_back(void **state)
{
    size_t free_before, free_now, total;
    CUdeviceptr large, more;

    assert_ok(cuMemGetInfo_v2(&free_before, &total));
    assert_int_equal(total, 64 * MIB);
    assert_ok(cuMemAlloc_v2(&large, free_before));
    assert_ok(cuMemGetInfo_v2(&free_now, &total));
    assert_int_equal(free_now, 0);
    assert_int_equal(cuMemAlloc_v2(&more, 1), CUDA_ERROR_OUT_OF_MEMORY);
    assert_ok(cuMemFree_v2(large));
    assert_ok(cuMemGetInfo_v2(&free_now, &total));
    assert_int_equal(free_now, free_before);
    assert_int_equal(cuMemAlloc_v2(&more, SIZE_MAX), CUDA_ERROR_OUT_OF_MEMORY);
}

static void small_allocations_share_a_granule(void **state)
{
    size_t free_before, free_now, total, mapping;
    CUdeviceptr a, b, base_a, base_b;

    assert_ok(cuMemGetInfo_v2(&free_before, &total));
    assert_ok(cuMemAlloc_v2(&a, 1000));
    assert_ok(cuMemAlloc_v2(&b, 1000));
    assert_ok(cuMemGetInfo_v2(&free_now, &total));
    assert_int_equal(free_before - free_now, 2 * MIB);
    assert_ok(cuPointerGetAttribute(&base_a, CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, a));
    assert_ok(cuPointerGetAttribute(&base_b, CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, b));
    assert_ok(cuPointerGetAttribute(&mapping, CU_POINTER_ATTRIBUTE_MAPPING_SIZE, b));
    assert_int_equal(base_a, base_b);
    assert_int_equal(mapping, 2 * MIB);
    assert_ok(cuMemFree_v2(a));
    assert_ok(cuMemFree_v2(b));
}

static void freed_memory_is_poisoned(void **state)
{
    unsigned char back[256];
    CUdeviceptr keeper, pointer;

    /* The keeper holds the granule, so that the pages stay mapped. */
    assert_ok(cuMemAlloc_v2(&keeper, 256));
    assert_ok(cuMemAlloc_v2(&pointer, 256));
    assert_ok(cuMemsetD8_v2(pointer, 0x11, 256));
    assert_ok(cuCtxSynchronize());
    assert_int_equal(*(volatile unsigned char *)pointer, 0x11);
    assert_ok(cuMemFree_v2(pointer));
    assert_int_equal(*(volatile unsigned char *)pointer, 0xdb);
    assert_int_equal(cuMemcpyDtoH_v2(back, pointer, 256), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemAlloc_v2(&pointer, 256));
    assert_ok(cuMemcpyDtoH_v2(back, pointer, 256));
    assert_int_equal(back[255], 0xdb);
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuMemFree_v2(keeper));
}

static void address_range_answers_for_interior_pointers(void **state)
{
    CUdeviceptr pointer, base;
    size_t size;

    assert_ok(cuMemAlloc_v2(&pointer, 5000));
    assert_ok(cuMemGetAddressRange_v2(&base, &size, pointer + 4999));
    assert_int_equal(base, pointer);
    assert_int_equal(size, 5000);
    assert_ok(cuMemGetAddressRange_v2(NULL, &size, pointer));
    assert_ok(cuMemGetAddressRange_v2(&base, NULL, pointer));
    assert_int_equal(cuMemGetAddressRange_v2(&base, &size, pointer + 5000), CUDA_ERROR_NOT_FOUND);
    assert_ok(cuMemFree_v2(pointer));
}

static void buffer_ids_are_never_reused(void **state)
{
    unsigned long long first, second;
    CUdeviceptr pointer, again;

    assert_ok(cuMemAlloc_v2(&pointer, 4096));
    assert_ok(cuPointerGetAttribute(&first, CU_POINTER_ATTRIBUTE_BUFFER_ID, pointer));
    assert_ok(cuMemFree_v2(pointer));
    assert_ok(cuMemAlloc_v2(&again, 4096));
    assert_int_equal(again, pointer);
    assert_ok(cuPointerGetAttribute(&second, CU_POINTER_ATTRIBUTE_BUFFER_ID, again));
    assert_int_not_equal(first, second);
    assert_ok(cuMemFree_v2(again));
}

static void attributes_of_unknown_memory_are_null(void **state)
{
    CUpointer_attribute list[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_CONTEXT,
                                  CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    CUcontext context = (CUcontext)1;
    unsigned type = 9;
    int ordinal = 9;
    void *data[] = {&type, &context, &ordinal};

    assert_ok(cuPointerGetAttributes(3, list, data, (CUdeviceptr)&type));
    assert_int_equal(type, 0);
    assert_null(context);
    assert_int_equal(ordinal, -2);
    assert_int_equal(cuPointerGetAttribute(&type, list[0], (CUdeviceptr)&type),
                     CUDA_ERROR_INVALID_VALUE);
}

static void pitch_rows_are_aligned(void **state)
{
    CUdeviceptr pointer;
    size_t pitch;

    assert_ok(cuMemAllocPitch_v2(&pointer, &pitch, 1000, 10, 4));
    assert_int_equal(pitch, 1024);
    assert_ok(cuMemsetD2D8_v2(pointer, pitch, 3, 1000, 10));
    assert_ok(cuCtxSynchronize());
    assert_int_equal(((volatile unsigned char *)pointer)[9 * pitch + 999], 3);
    assert_int_equal(((volatile unsigned char *)pointer)[9 * pitch + 1000], 0xdb);
    assert_ok(cuMemFree_v2(pointer));
    assert_int_equal(cuMemAllocPitch_v2(&pointer, &pitch, 1000, 10, 3), CUDA_ERROR_INVALID_VALUE);
}

static void host_memory_is_known_to_the_driver(void **state)
{
    CUdeviceptr device;
    unsigned type, flags;
    void *pointer;

    assert_ok(cuMemHostAlloc(&pointer, 1000, CU_MEMHOSTALLOC_PORTABLE));
    assert_ok(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, (CUdeviceptr)pointer));
    assert_int_equal(type, CU_MEMORYTYPE_HOST);
    assert_ok(cuMemHostGetDevicePointer_v2(&device, pointer, 0));
    assert_int_equal(device, (CUdeviceptr)pointer);
    assert_ok(cuMemHostGetFlags(&flags, pointer));
    assert_int_equal(flags, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    assert_int_equal(cuMemFree_v2(device), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFreeHost(pointer));
    assert_int_equal(cuMemFreeHost(pointer), CUDA_ERROR_INVALID_VALUE);
}

static void host_memory_registers_once(void **state)
{
    static char pages[8192];

    assert_ok(cuMemHostRegister_v2(pages, sizeof(pages), 0));
    assert_int_equal(cuMemHostRegister_v2(pages + 4096, 4096, 0),
                     CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    assert_ok(cuMemHostUnregister(pages));
    assert_int_equal(cuMemHostUnregister(pages), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

static void hints_are_for_managed_memory_only(void **state)
{
    CUmemLocation cpu = {CU_MEM_LOCATION_TYPE_HOST, 0};
    CUdeviceptr managed, plain;

    assert_ok(cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL));
    assert_ok(cuMemAlloc_v2(&plain, 4096));
    assert_ok(cuMemAdvise(managed, 4096, CU_MEM_ADVISE_SET_READ_MOSTLY, 99));
    assert_ok(cuMemAdvise_v2(managed, 4096, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, cpu));
    assert_int_equal(cuMemAdvise(managed, 4096, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, 99),
                     CUDA_ERROR_INVALID_DEVICE);
    assert_int_equal(cuMemAdvise(plain, 4096, CU_MEM_ADVISE_SET_READ_MOSTLY, 0),
                     CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemPrefetchAsync(managed, 4096, -1, NULL));
    assert_ok(cuMemPrefetchAsync_v2(managed, 100, cpu, 0, NULL));
    assert_int_equal(cuMemPrefetchAsync(managed, 4097, 0, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemPrefetchAsync(plain, 4096, 0, NULL), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuStreamAttachMemAsync(NULL, managed, 0, CU_MEM_ATTACH_GLOBAL));
    assert_ok(cuMemFree_v2(managed));
    assert_ok(cuMemFree_v2(plain));
}

static void a_destroyed_context_takes_its_memory_along(void **state)
{
    size_t free_before, free_now, total;
    CUcontext context;
    CUdeviceptr pointer;
    CUstream stream;

    assert_ok(cuMemGetInfo_v2(&free_before, &total));
    assert_ok(cuCtxCreate_v2(&context, 0, 0));
    assert_ok(cuMemAlloc_v2(&pointer, 3 * MIB));
    assert_ok(cuStreamCreate(&stream, 0));
    assert_ok(cuMemsetD8Async(pointer, 1, MIB, stream));
    assert_ok(cuCtxDestroy_v2(context));
    assert_ok(cuMemGetInfo_v2(&free_now, &total));
    assert_int_equal(free_now, free_before);
    assert_int_equal(cuMemFree_v2(pointer), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
    assert_int_equal(cuCtxSetCurrent(context), CUDA_ERROR_CONTEXT_IS_DESTROYED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocation_is_aligned_and_holds_what_is_copied),
        cmocka_unit_test(zero_size_is_refused),
        cmocka_unit_test(double_and_interior_free_are_refused),
        cmocka_unit_test(capacity_is_a_limit_and_free_gives_it_back),
        cmocka_unit_test(small_allocations_share_a_granule),
        cmocka_unit_test(freed_memory_is_poisoned),
        cmocka_unit_test(address_range_answers_for_interior_pointers),
        cmocka_unit_test(buffer_ids_are_never_reused),
        cmocka_unit_test(attributes_of_unknown_memory_are_null),
        cmocka_unit_test(pitch_rows_are_aligned),
        cmocka_unit_test(host_memory_is_known_to_the_driver),
        cmocka_unit_test(host_memory_registers_once),
        cmocka_unit_test(hints_are_for_managed_memory_only),
        cmocka_unit_test(a_destroyed_context_takes_its_memory_along),
    };

    return cmocka_run_group_tests(tests, use_device_0, NULL);
}
