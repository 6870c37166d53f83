/* SPDX-License-Identifier: Apache-2.0 */
/* The contract of cuGetProcAddress: names without suffix, versions, the
 * per-thread flag, and what is answered for what is not there. */
#include "fixture.h"

#include <dlfcn.h>

static void *exported(const char *symbol)
{
    return dlsym(RTLD_DEFAULT, symbol);
}

static void *resolved(const char *name, int version, cuuint64_t flags)
{
    CUdriverProcAddressQueryResult status = 99;
    void *entry = NULL;

    assert_ok(cuGetProcAddress_v2(name, &entry, version, flags, &status));
    assert_int_equal(status, CU_GET_PROC_ADDRESS_SUCCESS);
    assert_non_null(entry);
    return entry;
}

static void the_version_chooses_the_abi(void **state)
{
    assert_ptr_equal(resolved("cuMemAlloc", 3020, 0), exported("cuMemAlloc_v2"));
    assert_ptr_equal(resolved("cuMemAlloc", 13000, 0), exported("cuMemAlloc_v2"));
    assert_ptr_equal(resolved("cuIpcOpenMemHandle", 4010, 0), exported("cuIpcOpenMemHandle"));
    assert_ptr_equal(resolved("cuIpcOpenMemHandle", 11000, 0), exported("cuIpcOpenMemHandle_v2"));
    assert_ptr_equal(resolved("cuGetProcAddress", 11030, 0), exported("cuGetProcAddress"));
    assert_ptr_equal(resolved("cuGetProcAddress", 12000, 0), exported("cuGetProcAddress_v2"));
    assert_ptr_equal(resolved("cuCtxGetDevice", 2000, 0), exported("cuCtxGetDevice"));
    assert_ptr_equal(resolved("cuCtxGetDevice", 13000, 0), exported("cuCtxGetDevice_v2"));
}

static void names_without_suffix_are_the_first_abi(void **state)
{
    unsigned pointer;

    assert_ptr_equal(resolved("cuMemAlloc", 2000, 0), exported("cuMemAlloc"));
    assert_ptr_not_equal(exported("cuMemAlloc"), exported("cuMemAlloc_v2"));
    assert_int_equal(cuInit(0), CUDA_SUCCESS);
    assert_int_equal(cuMemAlloc(&pointer, 16), CUDA_ERROR_NOT_SUPPORTED);
    assert_ptr_equal(resolved("cuDevicePrimaryCtxRelease", 7000, 0),
                     exported("cuDevicePrimaryCtxRelease"));
    assert_ptr_equal(resolved("cuStreamBeginCapture", 10000, 0), exported("cuStreamBeginCapture"));
}

static void the_flag_chooses_the_per_thread_form(void **state)
{
    assert_ptr_equal(resolved("cuMemAllocAsync", 11020, 0), exported("cuMemAllocAsync"));
    assert_ptr_equal(resolved("cuMemAllocAsync", 11020, 2), exported("cuMemAllocAsync_ptsz"));
    assert_ptr_equal(resolved("cuMemcpyHtoD", 7000, 2), exported("cuMemcpyHtoD_v2_ptds"));
    /* Without such a form the flag changes nothing. */
    assert_ptr_equal(resolved("cuMemAlloc", 3020, 2), exported("cuMemAlloc_v2"));
}

static void what_is_missing_is_told_by_the_status(void **state)
{
    CUdriverProcAddressQueryResult status = 99;
    void *entry = &status;

    assert_ok(cuGetProcAddress_v2("cuNoSuchThing", &entry, 13000, 0, &status));
    assert_null(entry);
    assert_int_equal(status, CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
    assert_ok(cuGetProcAddress_v2("cuMemAlloc_v2", &entry, 13000, 0, &status));
    assert_null(entry);
    assert_ok(cuGetProcAddress_v2("cuMemAllocAsync", &entry, 11010, 0, &status));
    assert_null(entry);
    assert_int_equal(status, CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT);
    assert_ok(cuGetProcAddress_v2("cuMemAllocAsync", &entry, 11010, 0, NULL));
    assert_int_equal(cuGetProcAddress("cuNoSuchThing", &entry, 13000, 0), CUDA_ERROR_NOT_FOUND);
    assert_int_equal(cuGetProcAddress_v2("", &entry, 13000, 0, &status), CUDA_ERROR_NOT_FOUND);
}

static void a_version_above_the_drivers_is_invalid(void **state)
{
    void *entry;

    assert_int_equal(cuGetProcAddress_v2("cuMemAlloc", &entry, 13010, 0, NULL),
                     CUDA_ERROR_INVALID_VALUE);
    assert_int_equal(cuGetProcAddress_v2("cuMemAlloc", &entry, 13000, 4, NULL),
                     CUDA_ERROR_INVALID_VALUE);
}

static void private_tables_are_not_found(void **state)
{
    const void *table = state;
    CUuuid id = {{1}};

    assert_int_equal(cuGetExportTable(&table, &id), CUDA_ERROR_NOT_FOUND);
    assert_null(table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_version_chooses_the_abi),
        cmocka_unit_test(names_without_suffix_are_the_first_abi),
        cmocka_unit_test(the_flag_chooses_the_per_thread_form),
        cmocka_unit_test(what_is_missing_is_told_by_the_status),
        cmocka_unit_test(a_version_above_the_drivers_is_invalid),
        cmocka_unit_test(private_tables_are_not_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
