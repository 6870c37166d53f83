/* SPDX-License-Identifier: Apache-2.0 */
/* How a program asks the virtual driver for its calls by name. */
#include "tools/virtual/calls.h"

#include <string.h>

static const struct {
    const char *name;
    void *function;
} calls[] = {
#define X(name, parameters) {#name, (void *)name},
    VIRTUAL_CALLS(X)
#undef X
};

/* "cuMemAlloc" stands for "cuMemAlloc_v2": the newest version there is, which is the only one. */
static bool is_asked(const char *name, const char *symbol)
{
    size_t length = strlen(symbol);

    return strncmp(name, symbol, length) == 0 &&
           (name[length] == '\0' ||
            (name[length] == '_' && name[length + 1] == 'v' && strlen(name) == length + 3));
}

VIRTUAL_EXPORT int cuGetProcAddress_v2(const char *symbol, void **function, int version,
                                       uint64_t flags, int *status);
VIRTUAL_EXPORT int cuGetProcAddress(const char *symbol, void **function, int version,
                                    uint64_t flags);

int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                        int *status)
{
    *function = NULL;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]) && !*function; i++)
        if (is_asked(calls[i].name, symbol))
            *function = calls[i].function;
    if (status)
        *status = *function ? 0 : 1; /* CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND */
    return *function ? CU_SUCCESS : CU_NOT_FOUND;
}

int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags)
{
    return cuGetProcAddress_v2(symbol, function, version, flags, NULL);
}
