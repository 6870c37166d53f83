/* SPDX-License-Identifier: Apache-2.0 */
#include "module.h"

#include "call.h"
#include "context.h"
#include "device.h"
#include "handle.h"
#include "mem.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Libraries differ from modules only in that no context owns them. */
struct module {
    struct kernel *kernels;
};

static CUresult module_new(struct module **ret_module, enum handle_kind kind, const void *image)
{
    struct module *module;
    CUresult result = CUDA_SUCCESS;

    if (!ret_module || !image)
        return CUDA_ERROR_INVALID_VALUE;
    module = calloc(1, sizeof(*module));
    state_lock();
    if (!module || handle_add(module, kind) < 0)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    state_unlock();
    if (result == CUDA_SUCCESS)
        *ret_module = module;
    else
        free(module);
    return result;
}

static void kernel_free(struct kernel *kernel)
{
    handle_remove(kernel);
    free(kernel->sizes);
    free(kernel->name);
    free(kernel);
}

static CUresult module_delete(struct module *module, enum handle_kind kind)
{
    struct kernel *kernel;

    state_lock();
    if (!handle_is(module, kind)) {
        state_unlock();
        return CUDA_ERROR_INVALID_HANDLE;
    }
    handle_remove(module);
    while ((kernel = module->kernels)) {
        module->kernels = kernel->next;
        kernel_free(kernel);
    }
    state_unlock();
    free(module);
    return CUDA_SUCCESS;
}

struct kernel *kernel_get(const void *handle)
{
    return handle_is(handle, HANDLE_KERNEL) ? (struct kernel *)handle : NULL;
}

/* The host symbol prefix + name; NULL where there is none. Called without the
 * state lock: dlsym takes the loader's, under which a constructor may be
 * calling us. */
static void *host_symbol(const char *prefix, const char *name)
{
    size_t size = strlen(prefix) + strlen(name) + 1;
    char *symbol = malloc(size);
    void *address = NULL;

    if (symbol) {
        snprintf(symbol, size, "%s%s", prefix, name);
        address = dlsym(RTLD_DEFAULT, symbol);
    }
    free(symbol);
    return address;
}

static void kernel_read_sizes(struct kernel *kernel)
{
    const size_t *stated = host_symbol("simk_sizes_", kernel->name);
    size_t count = 0;

    if (!stated) {
        kernel_name_sizes(kernel->name, &kernel->sizes, &kernel->sizes_count);
        return;
    }
    while (stated[count])
        count++;
    kernel->sizes = malloc((count + 1) * sizeof(*kernel->sizes));
    if (kernel->sizes) {
        memcpy(kernel->sizes, stated, count * sizeof(*kernel->sizes));
        kernel->sizes_count = count;
    }
}

static struct kernel *kernel_new(const char *name)
{
    void *function = host_symbol("simk_", name);
    struct kernel *kernel;

    if (!function) {
        fprintf(stderr, "fake libcuda: kernel %s: no host function simk_%s\n", name, name);
        return NULL;
    }
    kernel = calloc(1, sizeof(*kernel));
    if (kernel)
        kernel->name = strdup(name);
    if (!kernel || !kernel->name) {
        free(kernel);
        return NULL;
    }
    memcpy(&kernel->function, &function, sizeof(function));
    kernel_read_sizes(kernel);
    return kernel;
}

static struct kernel *module_find_kernel(struct module *module, const char *name)
{
    struct kernel *kernel = module->kernels;

    while (kernel && strcmp(kernel->name, name) != 0)
        kernel = kernel->next;
    return kernel;
}

static CUresult module_kernel(struct kernel **ret_kernel, struct module *module,
                              enum handle_kind kind, const char *name)
{
    struct kernel *kernel, *known = NULL;
    CUresult result = CUDA_SUCCESS;

    if (!ret_kernel || !name)
        return CUDA_ERROR_INVALID_VALUE;
    kernel = kernel_new(name);
    state_lock();
    if (!handle_is(module, kind))
        result = CUDA_ERROR_INVALID_HANDLE;
    else if (!kernel)
        result = CUDA_ERROR_NOT_FOUND;
    else if (!(known = module_find_kernel(module, name)) && handle_add(kernel, HANDLE_KERNEL) < 0)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS && !known) {
        kernel->module = module;
        kernel->next = module->kernels;
        module->kernels = known = kernel;
        kernel = NULL;
    }
    if (kernel)
        kernel_free(kernel);
    state_unlock();
    if (result == CUDA_SUCCESS)
        *ret_kernel = known;
    return result;
}

/* A variable's size is what the symbol table of its object says. */
static CUresult module_global(CUdeviceptr *ret_pointer, size_t *ret_size, const char *name)
{
    void *address = name ? host_symbol("simv_", name) : NULL;
    struct mem mem = {.base = (uint64_t)address, .kind = MEM_GLOBAL};
    const ElfW(Sym) *symbol = NULL;
    CUresult result;
    Dl_info info;

    if (!name)
        return CUDA_ERROR_INVALID_VALUE;
    if (!address || !dladdr1(address, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol)
        return CUDA_ERROR_NOT_FOUND;
    mem.size = symbol->st_size;
    state_lock();
    result = context_current(&mem.context);
    if (result == CUDA_SUCCESS) {
        mem.device = mem.context->device;
        if (!mem_find(mem.base) && !mem_add(&mem))
            result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    state_unlock();
    if (result == CUDA_SUCCESS && ret_pointer)
        *ret_pointer = mem.base;
    if (result == CUDA_SUCCESS && ret_size)
        *ret_size = mem.size;
    return result;
}

FAKE_CALL(cuModuleLoadData, CALL_UNSAFE, (CUmodule * ret_module, const void *image),
          (ret_module, image), "%s", "")
{
    return module_new(ret_module, HANDLE_MODULE, image);
}

FAKE_CALL(cuModuleLoadDataEx, CALL_UNSAFE,
          (CUmodule * ret_module, const void *image, unsigned int count, void *options,
           void **values),
          (ret_module, image, count, options, values), "%u", count)
{
    return module_new(ret_module, HANDLE_MODULE, image);
}

FAKE_CALL(cuModuleLoadFatBinary, CALL_UNSAFE, (CUmodule * ret_module, const void *image),
          (ret_module, image), "%s", "")
{
    return module_new(ret_module, HANDLE_MODULE, image);
}

FAKE_CALL(cuModuleUnload, CALL_UNSAFE, (CUmodule module), (module), "%s", "")
{
    return module_delete(module, HANDLE_MODULE);
}

FAKE_CALL(cuModuleGetFunction, CALL_INIT,
          (CUfunction * ret_function, CUmodule module, const char *name),
          (ret_function, module, name), "%s", name ? name : "0")
{
    return module_kernel((struct kernel **)(void *)ret_function, module, HANDLE_MODULE, name);
}

FAKE_CALL(cuModuleGetGlobal_v2, CALL_INIT,
          (CUdeviceptr * ret_pointer, size_t *ret_size, CUmodule module, const char *name),
          (ret_pointer, ret_size, module, name), "%s", name ? name : "0")
{
    return module_global(ret_pointer, ret_size, name);
}

FAKE_CALL(cuModuleGetLoadingMode, CALL_INIT, (int *ret_mode), (ret_mode), "%s", "")
{
    if (!ret_mode)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_mode = 2; /* CU_MODULE_LAZY_LOADING */
    return CUDA_SUCCESS;
}

FAKE_CALL(cuLibraryLoadData, CALL_INIT,
          (CUlibrary * ret_library, const void *code, void *jit_options, void **jit_values,
           unsigned int jit_count, void *options, void **values, unsigned int count),
          (ret_library, code, jit_options, jit_values, jit_count, options, values, count), "%u, %u",
          jit_count, count)
{
    return module_new((struct module **)(void *)ret_library, HANDLE_LIBRARY, code);
}

FAKE_CALL(cuLibraryUnload, CALL_INIT, (CUlibrary library), (library), "%s", "")
{
    return module_delete((struct module *)library, HANDLE_LIBRARY);
}

FAKE_CALL(cuLibraryGetKernel, CALL_INIT,
          (CUkernel * ret_kernel, CUlibrary library, const char *name), (ret_kernel, library, name),
          "%s", name ? name : "0")
{
    return module_kernel(ret_kernel, (struct module *)library, HANDLE_LIBRARY, name);
}

FAKE_CALL(cuLibraryGetGlobal, CALL_INIT,
          (CUdeviceptr * ret_pointer, size_t *ret_size, CUlibrary library, const char *name),
          (ret_pointer, ret_size, library, name), "%s", name ? name : "0")
{
    return module_global(ret_pointer, ret_size, name);
}

/* No variable of a library here is managed. */
FAKE_CALL(cuLibraryGetManaged, CALL_INIT,
          (CUdeviceptr * ret_pointer, size_t *ret_size, CUlibrary library, const char *name),
          (ret_pointer, ret_size, library, name), "%s", name ? name : "0")
{
    return name ? CUDA_ERROR_NOT_FOUND : CUDA_ERROR_INVALID_VALUE;
}

FAKE_CALL(cuFuncLoad, CALL_INIT, (CUfunction function), (function), "%s", "")
{
    CUresult result;

    state_lock();
    result = kernel_get(function) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    state_unlock();
    return result;
}

FAKE_CALL(cuKernelGetFunction, CALL_INIT, (CUfunction * ret_function, CUkernel kernel),
          (ret_function, kernel), "%s", "")
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;

    if (!ret_function)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (kernel_get(kernel)) {
        *ret_function = (CUfunction)kernel;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

static CUresult kernel_name(const char **ret_name, const void *handle)
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;

    if (!ret_name)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (kernel_get(handle)) {
        *ret_name = kernel_get(handle)->name;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuKernelGetName, CALL_INIT, (const char **ret_name, CUkernel kernel), (ret_name, kernel),
          "%s", "")
{
    return kernel_name(ret_name, kernel);
}

FAKE_CALL(cuFuncGetName, CALL_INIT, (const char **ret_name, CUfunction function),
          (ret_name, function), "%s", "")
{
    return kernel_name(ret_name, function);
}

static CUresult kernel_attribute(int *ret_value, CUfunction_attribute attribute, const void *handle)
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;
    const struct kernel *kernel;
    int value = 0;

    if (!ret_value || attribute > 15)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    kernel = kernel_get(handle);
    if (kernel) {
        if (attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)
            value = 1024;
        else if (attribute == CU_FUNC_ATTRIBUTE_NUM_REGS)
            value = 32;
        else if (attribute == CU_FUNC_ATTRIBUTE_PTX_VERSION ||
                 attribute == CU_FUNC_ATTRIBUTE_BINARY_VERSION)
            value = 90;
        else if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
            value = kernel->shared_max;
        *ret_value = value;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuFuncGetAttribute, CALL_INIT,
          (int *ret_value, CUfunction_attribute attribute, CUfunction function),
          (ret_value, attribute, function), "%d", (int)attribute)
{
    return kernel_attribute(ret_value, attribute, function);
}

FAKE_CALL(cuKernelGetAttribute, CALL_INIT,
          (int *ret_value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device),
          (ret_value, attribute, kernel, device), "%d, %d", (int)attribute, device)
{
    return kernel_attribute(ret_value, attribute, kernel);
}

static CUresult kernel_set(const void *handle, CUfunction_attribute attribute, int value)
{
    CUresult result = CUDA_ERROR_INVALID_HANDLE;

    if (attribute > 15)
        return CUDA_ERROR_INVALID_VALUE;
    state_lock();
    if (kernel_get(handle)) {
        if (attribute == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
            kernel_get(handle)->shared_max = value;
        result = CUDA_SUCCESS;
    }
    state_unlock();
    return result;
}

FAKE_CALL(cuFuncSetAttribute, CALL_INIT,
          (CUfunction function, CUfunction_attribute attribute, int value),
          (function, attribute, value), "%d, %d", (int)attribute, value)
{
    return kernel_set(function, attribute, value);
}

FAKE_CALL(cuKernelSetAttribute, CALL_INIT,
          (CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device),
          (attribute, value, kernel, device), "%d, %d, %d", (int)attribute, value, device)
{
    return kernel_set(kernel, attribute, value);
}

FAKE_CALL(cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags, CALL_INIT,
          (int *ret_blocks, CUfunction function, int block_size, size_t shared, unsigned int flags),
          (ret_blocks, function, block_size, shared, flags), "%d, %zu, %u", block_size, shared,
          flags)
{
    if (!ret_blocks || block_size <= 0)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_blocks = block_size > 1024 ? 0 : 2048 / block_size > 24 ? 24 : 2048 / block_size;
    return CUDA_SUCCESS;
}

FAKE_CALL(cuOccupancyMaxActiveBlocksPerMultiprocessor, CALL_INIT,
          (int *ret_blocks, CUfunction function, int block_size, size_t shared),
          (ret_blocks, function, block_size, shared), "%d, %zu", block_size, shared)
{
    return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags_body(ret_blocks, function,
                                                                     block_size, shared, 0);
}
