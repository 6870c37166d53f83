/* SPDX-License-Identifier: Apache-2.0 */
/* Result codes in words. */
#include "call.h"

static const struct result {
    CUresult value;
    const char *name;
    const char *description;
} results[] = {
#define RESULT(name, value, description) {name, #name, description},
#include "cuda_results.inc"
#undef RESULT
};

static const struct result *result_find(CUresult value)
{
    for (size_t i = 0; i < sizeof(results) / sizeof(*results); i++)
        if (results[i].value == value)
            return &results[i];
    return NULL;
}

FAKE_CALL(cuGetErrorName, CALL_EARLY, (CUresult value, const char **ret_name), (value, ret_name),
          "%d", (int)value)
{
    const struct result *found = result_find(value);

    if (!ret_name)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_name = found ? found->name : NULL;
    return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

FAKE_CALL(cuGetErrorString, CALL_EARLY, (CUresult value, const char **ret_text), (value, ret_text),
          "%d", (int)value)
{
    const struct result *found = result_find(value);

    if (!ret_text)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_text = found ? found->description : NULL;
    return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
