/* SPDX-License-Identifier: Apache-2.0 */
#include "runtime.h"

static __thread cudaError_t last_error;

static const struct error {
    cudaError_t value;
    const char *name, *description;
} errors[] = {
#define ERROR(name, value, description) {name, #name, description},
#include "runtime_errors.inc"
#undef ERROR
};

cudaError_t runtime_result(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

RUNTIME_EXPORT cudaError_t cudaGetLastError(void);
RUNTIME_EXPORT cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;

    last_error = cudaSuccess;
    return error;
}

RUNTIME_EXPORT cudaError_t cudaPeekAtLastError(void);
RUNTIME_EXPORT cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

static const struct error *error_find(cudaError_t value)
{
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++)
        if (errors[i].value == value)
            return &errors[i];
    return NULL;
}

RUNTIME_EXPORT const char *cudaGetErrorName(cudaError_t value);
RUNTIME_EXPORT const char *cudaGetErrorName(cudaError_t value)
{
    return error_find(value) ? error_find(value)->name : "unrecognized error code";
}

RUNTIME_EXPORT const char *cudaGetErrorString(cudaError_t value);
RUNTIME_EXPORT const char *cudaGetErrorString(cudaError_t value)
{
    return error_find(value) ? error_find(value)->description : "unrecognized error code";
}
