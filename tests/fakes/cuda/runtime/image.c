/* SPDX-License-Identifier: Apache-2.0 */
#include "image.h"

#include <pthread.h>
#include <stdlib.h>

struct symbol {
    struct symbol *next;
    struct image *image;
    const void *host; /* the host function or variable in the program */
    const char *name; /* in the device code */
};

struct image {
    const void *fatbin;
    CUlibrary library; /* NULL until first used */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct symbol *functions, *variables;

/* The program keeps this handle and gives it back. */
RUNTIME_EXPORT void **__cudaRegisterFatBinary(void *fatbin);
RUNTIME_EXPORT void **__cudaRegisterFatBinary(void *fatbin)
{
    struct image *image = calloc(1, sizeof(*image));

    if (image)
        image->fatbin = fatbin;
    return (void **)(void *)image;
}

RUNTIME_EXPORT void __cudaRegisterFatBinaryEnd(void **handle);
RUNTIME_EXPORT void __cudaRegisterFatBinaryEnd(void **handle)
{
    (void)handle;
}

static void symbols_forget(struct symbol **list, const struct image *image)
{
    while (*list) {
        struct symbol *symbol = *list;

        if (symbol->image == image) {
            *list = symbol->next;
            free(symbol);
        } else {
            list = &symbol->next;
        }
    }
}

RUNTIME_EXPORT void __cudaUnregisterFatBinary(void **handle);
RUNTIME_EXPORT void __cudaUnregisterFatBinary(void **handle)
{
    struct image *image = (struct image *)(void *)handle;

    if (!image)
        return;
    pthread_mutex_lock(&mutex);
    symbols_forget(&functions, image);
    symbols_forget(&variables, image);
    pthread_mutex_unlock(&mutex);
    /* At exit the driver may be gone already; its answer does not matter. */
    if (image->library && driver.cuLibraryUnload)
        driver.cuLibraryUnload(image->library);
    free(image);
}

static void symbol_add(struct symbol **list, void **handle, const void *host, const char *name)
{
    struct symbol *symbol = calloc(1, sizeof(*symbol));

    if (!symbol)
        return;
    symbol->image = (struct image *)(void *)handle;
    symbol->host = host;
    symbol->name = name;
    pthread_mutex_lock(&mutex);
    symbol->next = *list;
    *list = symbol;
    pthread_mutex_unlock(&mutex);
}

RUNTIME_EXPORT void __cudaRegisterFunction(void **handle, const char *host, char *device,
                                           const char *name, int thread_limit, void *thread,
                                           void *block, void *block_dim, void *grid_dim,
                                           int *warp_size);
RUNTIME_EXPORT void __cudaRegisterFunction(void **handle, const char *host, char *device,
                                           const char *name, int thread_limit, void *thread,
                                           void *block, void *block_dim, void *grid_dim,
                                           int *warp_size)
{
    symbol_add(&functions, handle, host, name);
}

RUNTIME_EXPORT void __cudaRegisterVar(void **handle, char *host, char *device, const char *name,
                                      int is_extern, size_t size, int constant, int global);
RUNTIME_EXPORT void __cudaRegisterVar(void **handle, char *host, char *device, const char *name,
                                      int is_extern, size_t size, int constant, int global)
{
    symbol_add(&variables, handle, host, name);
}

RUNTIME_EXPORT char __cudaInitModule(void **handle);
RUNTIME_EXPORT char __cudaInitModule(void **handle)
{
    (void)handle;
    return 1;
}

/* Called without the lock: loading goes into the driver and from there into
 * the loader, whose lock a constructor may hold that registers an image. */
static cudaError_t image_load(struct image *image, CUlibrary *ret_library)
{
    CUlibrary library, unused = NULL;
    cudaError_t error;

    pthread_mutex_lock(&mutex);
    *ret_library = image->library;
    pthread_mutex_unlock(&mutex);
    if (*ret_library)
        return cudaSuccess;
    error = from_driver(
        driver.cuLibraryLoadData(&library, image->fatbin, NULL, NULL, 0, NULL, NULL, 0));
    if (error != cudaSuccess)
        return error;
    pthread_mutex_lock(&mutex);
    if (image->library)
        unused = library; /* another thread was quicker */
    else
        image->library = library;
    *ret_library = image->library;
    pthread_mutex_unlock(&mutex);
    if (unused)
        driver.cuLibraryUnload(unused);
    return cudaSuccess;
}

/* A copy of what is registered for the host address; false: nothing. */
static bool symbol_find(struct symbol *const *list, const void *host, struct symbol *ret_symbol)
{
    struct symbol *symbol;

    pthread_mutex_lock(&mutex);
    symbol = *list;
    while (symbol && symbol->host != host)
        symbol = symbol->next;
    if (symbol)
        *ret_symbol = *symbol;
    pthread_mutex_unlock(&mutex);
    return symbol != NULL;
}

cudaError_t image_kernel(const void *host_function, CUkernel *ret_kernel)
{
    struct symbol symbol;
    CUlibrary library;
    cudaError_t error;

    if (!symbol_find(&functions, host_function, &symbol))
        return cudaErrorInvalidDeviceFunction;
    error = image_load(symbol.image, &library);
    /* The driver gives the same kernel for the same name each time. */
    if (error == cudaSuccess)
        error = from_driver(driver.cuLibraryGetKernel(ret_kernel, library, symbol.name));
    return error;
}

cudaError_t image_variable(const void *host_variable, CUdeviceptr *ret_pointer, size_t *ret_size)
{
    struct symbol symbol;
    CUlibrary library;
    cudaError_t error;

    if (!symbol_find(&variables, host_variable, &symbol))
        return cudaErrorInvalidSymbol;
    error = image_load(symbol.image, &library);
    if (error == cudaSuccess)
        error = from_driver(driver.cuLibraryGetGlobal(ret_pointer, ret_size, library, symbol.name));
    return error;
}
