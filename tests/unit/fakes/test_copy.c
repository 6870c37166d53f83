/* SPDX-License-Identifier: Apache-2.0 */
/* Copies in two and three dimensions, in batches, and with ranges that reach
 * beyond an allocation. */
#include "fixture.h"

#include <string.h>

static void rows_are_copied_with_both_pitches(void **state)
{
    unsigned char from[4 * 8], to[4 * 4];
    CUDA_MEMCPY2D rows = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                          .srcHost = from,
                          .srcPitch = 8,
                          .srcXInBytes = 2,
                          .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                          .dstPitch = 4,
                          .WidthInBytes = 4,
                          .Height = 4};

    for (size_t i = 0; i < sizeof(from); i++)
        from[i] = (unsigned char)i;
    assert_ok(cuMemAlloc_v2(&rows.dstDevice, sizeof(to)));
    assert_ok(cuMemcpy2D_v2(&rows));
    assert_ok(cuMemcpyDtoH_v2(to, rows.dstDevice, sizeof(to)));
    for (size_t i = 0; i < sizeof(to); i++)
        assert_int_equal(to[i], i / 4 * 8 + i % 4 + 2);
    assert_ok(cuMemFree_v2(rows.dstDevice));
}

static void boxes_are_copied_with_pitch_and_height(void **state)
{
    unsigned char from[4][5][6], to[2][3][2];
    CUDA_MEMCPY3D box = {.srcMemoryType = CU_MEMORYTYPE_HOST,
                         .srcHost = from,
                         .srcPitch = 6,
                         .srcHeight = 5,
                         .srcXInBytes = 1,
                         .srcY = 2,
                         .srcZ = 1,
                         .dstMemoryType = CU_MEMORYTYPE_DEVICE,
                         .dstPitch = 2,
                         .dstHeight = 3,
                         .WidthInBytes = 2,
                         .Height = 3,
                         .Depth = 2};
    CUstream stream;

    for (unsigned i = 0; i < sizeof(from); i++)
        ((unsigned char *)from)[i] = (unsigned char)i;
    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    assert_ok(cuMemAlloc_v2(&box.dstDevice, sizeof(to)));
    for (int is_async = 0; is_async < 2; is_async++) {
        assert_ok(cuMemsetD8_v2(box.dstDevice, 0, sizeof(to)));
        assert_ok(cuCtxSynchronize());
        assert_ok(is_async ? cuMemcpy3DAsync_v2(&box, stream) : cuMemcpy3D_v2(&box));
        assert_ok(cuCtxSynchronize());
        assert_ok(cuMemcpyDtoH_v2(to, box.dstDevice, sizeof(to)));
        for (int z = 0; z < 2; z++)
            for (int y = 0; y < 3; y++)
                assert_memory_equal(to[z][y], &from[z + 1][y + 2][1], 2);
    }
    box.Depth = 3; /* one slice more than the allocation holds */
    assert_int_equal(cuMemcpy3D_v2(&box), CUDA_ERROR_INVALID_VALUE);
    box.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    assert_int_equal(cuMemcpy3D_v2(&box), CUDA_ERROR_NOT_SUPPORTED);
    assert_ok(cuMemFree_v2(box.dstDevice));
    assert_ok(cuStreamDestroy_v2(stream));
}

static void a_batch_is_copied_in_its_stream(void **state)
{
    char a[8] = "first", b[8] = "second", back_a[8], back_b[8];
    CUdeviceptr to[2], from[2] = {(CUdeviceptr)a, (CUdeviceptr)b};
    size_t sizes[2] = {sizeof(a), sizeof(b)};
    CUstream stream;

    assert_ok(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    assert_ok(cuMemAlloc_v2(&to[0], sizeof(a)));
    assert_ok(cuMemAlloc_v2(&to[1], sizeof(b)));
    assert_ok(cuMemcpyBatchAsync_v2(to, from, sizes, 2, NULL, NULL, 0, stream));
    assert_ok(cuMemcpyDtoHAsync_v2(back_a, to[0], sizeof(a), stream));
    assert_ok(cuMemcpyDtoHAsync_v2(back_b, to[1], sizeof(b), stream));
    assert_string_equal(back_a, "first");
    assert_string_equal(back_b, "second");
    assert_int_equal(cuMemcpyBatchAsync_v2(to, from, sizes, 2, NULL, NULL, 0, NULL),
                     CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemFree_v2(to[0]));
    assert_ok(cuMemFree_v2(to[1]));
    assert_ok(cuStreamDestroy_v2(stream));
}

static void ranges_beyond_an_allocation_are_refused(void **state)
{
    CUdeviceptr pointer;
    char bytes[600] = "";

    assert_ok(cuMemAlloc_v2(&pointer, 512));
    assert_int_equal(cuMemcpyHtoD_v2(pointer, bytes, 513), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemcpyDtoH_v2(bytes, pointer + 500, 13), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemsetD8_v2(pointer, 0, 513), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemsetD32_v2(pointer + 2, 0, 1), CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuMemcpyHtoD_v2(0, bytes, 1), CUDA_ERROR_INVALID_VALUE);
    assert_ok(cuMemcpyHtoD_v2(0, bytes, 0));
    assert_ok(cuMemFree_v2(pointer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_copied_with_both_pitches),
        cmocka_unit_test(boxes_are_copied_with_pitch_and_height),
        cmocka_unit_test(a_batch_is_copied_in_its_stream),
        cmocka_unit_test(ranges_beyond_an_allocation_are_refused),
    };

    return cmocka_run_group_tests(tests, use_device_0, NULL);
}
