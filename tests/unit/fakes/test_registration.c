/* SPDX-License-Identifier: Apache-2.0 */
/* The interface between a compiled CUDA program and its runtime, called by
 * hand as the compiler's output calls it: registration in a constructor, both
 * forms of a launch, device variables. Needs no nvcc. */
#include "fixture.h"
#include "tests/fakes/cuda/runtime/runtime_api.h"
#include "tests/fakes/cuda/simk.h"

static void **image;
static char fatbin[64], add_host, sleep_host, unknown_host, counter_shadow;
static struct gate gate = GATE_INIT;

simk_function simk__Z3addPim, simk_hold;
extern int simv_counter;
int simv_counter = 5;
/* hold's name does not tell its arguments. */
SIMK_SIZES(hold, 8);

void simk__Z3addPim(struct simk_dim grid, struct simk_dim block, unsigned shared_bytes, void **args)
{
    int *values = *(int **)args[0];
    size_t n = *(size_t *)args[1];

    for (size_t i = 0; i < n && i < (size_t)grid.x * block.x; i++)
        values[i] += (int)i + (int)shared_bytes;
}

void simk_hold(struct simk_dim grid, struct simk_dim block, unsigned shared_bytes, void **args)
{
    gate_pass(*(struct gate **)args[0]);
}

__attribute__((constructor)) static void register_image(void)
{
    image = __cudaRegisterFatBinary(fatbin);
    __cudaRegisterFunction(image, &add_host, &add_host, "_Z3addPim", -1, NULL, NULL, NULL, NULL,
                           NULL);
    __cudaRegisterFunction(image, &sleep_host, &sleep_host, "hold", -1, NULL, NULL, NULL, NULL,
                           NULL);
    __cudaRegisterFunction(image, &unknown_host, &unknown_host, "missing", -1, NULL, NULL, NULL,
                           NULL, NULL);
    __cudaRegisterVar(image, &counter_shadow, &counter_shadow, "counter", 0, 4, 0, 0);
    __cudaRegisterFatBinaryEnd(image);
}

static const dim3 one = {1, 1, 1}, many = {16, 1, 1};

static void a_launch_as_nvcc_has_hosts_call_it_runs_the_kernel(void **state)
{
    int *values, back[16];
    size_t n = 16, shared;
    void *args[] = {&values, &n}, *stream;
    CUkernel kernel = NULL;
    dim3 grid, block;

    assert_int_equal(cudaMalloc((void **)&values, sizeof(back)), cudaSuccess);
    assert_int_equal(cudaMemset(values, 0, sizeof(back)), cudaSuccess);
    assert_int_equal(__cudaPushCallConfiguration(one, many, 100, NULL), 0);
    assert_int_equal(__cudaGetKernel(&kernel, &add_host), cudaSuccess);
    assert_int_equal(__cudaPopCallConfiguration(&grid, &block, &shared, &stream), cudaSuccess);
    assert_int_equal(block.x, 16);
    assert_int_equal(__cudaLaunchKernel(kernel, grid, block, args, shared, stream), cudaSuccess);
    assert_int_equal(cudaMemcpy(back, values, sizeof(back), cudaMemcpyDeviceToHost), cudaSuccess);
    for (int i = 0; i < 16; i++)
        assert_int_equal(back[i], i + 100);
    assert_int_equal(cudaLaunchKernel(&add_host, one, many, args, 0, NULL), cudaSuccess);
    assert_int_equal(cudaMemcpy(back, values, sizeof(back), cudaMemcpyDeviceToHost), cudaSuccess);
    assert_int_equal(back[3], 106);
    assert_int_equal(
        cudaLaunchKernelExC(&(cudaLaunchConfig_t){one, many, 1000, NULL, NULL, 0}, &add_host, args),
        cudaSuccess);
    assert_int_equal(cudaMemcpy(back, values, sizeof(back), cudaMemcpyDeviceToHost), cudaSuccess);
    assert_int_equal(back[3], 1109);
    assert_int_equal(cudaFree(values), cudaSuccess);
}

static void arguments_are_copied_at_the_launch(void **state)
{
    struct gate *pointer = &gate;
    void *args[] = {&pointer};

    assert_int_equal(cudaLaunchKernel(&sleep_host, one, one, args, 0, NULL), cudaSuccess);
    pointer = NULL;
    gate_wait_entered(&gate);
    assert_int_equal(cudaStreamQuery(NULL), cudaErrorNotReady);
    gate_open(&gate);
    assert_int_equal(cudaDeviceSynchronize(), cudaSuccess);
}

static void errors_are_remembered_until_asked_for(void **state)
{
    void *pointer;

    assert_int_equal(cudaGetLastError(), cudaErrorNotReady);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
    assert_int_equal(cudaMalloc(&pointer, (size_t)1 << 40), cudaErrorMemoryAllocation);
    assert_int_equal(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
    assert_int_equal(cudaMalloc(&pointer, 0), cudaSuccess);
    assert_null(pointer);
    assert_int_equal(cudaFree(NULL), cudaSuccess);
    assert_int_equal(cudaGetLastError(), cudaErrorMemoryAllocation);
    assert_string_equal(cudaGetErrorName(cudaErrorMemoryAllocation), "cudaErrorMemoryAllocation");
    assert_string_equal(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory");
}

static void what_is_not_there_is_refused(void **state)
{
    CUkernel kernel;
    dim3 wide = {2048, 1, 1};
    void *args[] = {NULL, NULL};
    size_t shared;
    void *stream;
    dim3 dim;

    assert_int_equal(__cudaGetKernel(&kernel, &kernel), cudaErrorInvalidDeviceFunction);
    assert_int_equal(__cudaGetKernel(&kernel, &unknown_host), cudaErrorSymbolNotFound);
    assert_int_equal(cudaLaunchKernel(&add_host, one, wide, args, 0, NULL),
                     cudaErrorInvalidConfiguration);
    assert_int_equal(__cudaPopCallConfiguration(&dim, &dim, &shared, &stream),
                     cudaErrorMissingConfiguration);
    cudaGetLastError();
}

static void a_variable_is_reached_through_its_shadow(void **state)
{
    int value = 9, back = 0;
    size_t size;

    assert_int_equal(cudaGetSymbolSize(&size, &counter_shadow), cudaSuccess);
    assert_int_equal(size, sizeof(int));
    assert_int_equal(cudaMemcpyToSymbol(&counter_shadow, &value, 4, 0, cudaMemcpyHostToDevice),
                     cudaSuccess);
    assert_int_equal(cudaMemcpyFromSymbol(&back, &counter_shadow, 4, 0, cudaMemcpyDeviceToHost),
                     cudaSuccess);
    assert_int_equal(back, 9);
    assert_int_equal(simv_counter, 9);
}

static void pointers_and_devices_are_described(void **state)
{
    struct cudaPointerAttributes attributes;
    struct cudaDeviceProp prop;
    int here, count;
    void *pointer;

    assert_int_equal(cudaGetDeviceCount(&count), cudaSuccess);
    assert_int_equal(count, 1);
    assert_int_equal(cudaGetDeviceProperties(&prop, 0), cudaSuccess);
    assert_string_equal(prop.name, "Simulated GPU");
    assert_int_equal(prop.warpSize, 32);
    assert_int_equal(cudaSetDevice(1), cudaErrorInvalidDevice);
    assert_int_equal(cudaPointerGetAttributes(&attributes, &here), cudaSuccess);
    assert_int_equal(attributes.type, cudaMemoryTypeUnregistered);
    assert_int_equal(cudaMallocManaged(&pointer, 100, 1), cudaSuccess);
    assert_int_equal(cudaPointerGetAttributes(&attributes, pointer), cudaSuccess);
    assert_int_equal(attributes.type, cudaMemoryTypeManaged);
    assert_int_equal(cudaFree(pointer), cudaSuccess);
    cudaGetLastError();
}

static void the_drivers_entry_points_are_passed_on(void **state)
{
    CUdriverProcAddressQueryResult status;
    void *entry;

    assert_int_equal(cudaGetDriverEntryPointByVersion("cuMemAllocAsync", &entry, 12000, 0, &status),
                     cudaSuccess);
    assert_ptr_equal(entry, (void *)cuMemAllocAsync);
    assert_int_equal(
        cudaGetDriverEntryPointByVersion_ptsz("cuMemAllocAsync", &entry, 12000, 0, &status),
        cudaSuccess);
    assert_ptr_equal(entry, (void *)cuMemAllocAsync_ptsz);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_launch_as_nvcc_has_hosts_call_it_runs_the_kernel),
        cmocka_unit_test(arguments_are_copied_at_the_launch),
        cmocka_unit_test(errors_are_remembered_until_asked_for),
        cmocka_unit_test(what_is_not_there_is_refused),
        cmocka_unit_test(a_variable_is_reached_through_its_shadow),
        cmocka_unit_test(pointers_and_devices_are_described),
        cmocka_unit_test(the_drivers_entry_points_are_passed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
