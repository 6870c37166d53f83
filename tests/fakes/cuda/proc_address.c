/* SPDX-License-Identifier: Apache-2.0 */
/* cuGetProcAddress: from a name without suffix and a version to an entry
 * point. The rows that have no entry point here (arrays, graphics, profiling)
 * answer as on a driver that lacks them. */
#include "call.h"
#include "settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct row {
    const char *name;
    int version;
    bool per_thread;
    const char *symbol;
} rows[] = {
#define RESOLVE(name, version, per_thread, symbol) {#name, version, per_thread, #symbol},
#include "resolver_table.inc"
#undef RESOLVE
};

#define ROWS_COUNT (sizeof(rows) / sizeof(*rows))

/* Rows are sorted by name; returns the first of that name, or NULL. */
static const struct row *row_first(const char *name)
{
    size_t low = 0, high = ROWS_COUNT;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(rows[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ROWS_COUNT && strcmp(rows[low].name, name) == 0 ? &rows[low] : NULL;
}

/* The newest ABI that a program of that version knows. */
static const struct row *row_choose(const struct row *first, int version, bool per_thread)
{
    const struct row *best = NULL;

    for (const struct row *row = first; row < rows + ROWS_COUNT; row++) {
        if (strcmp(row->name, first->name) != 0)
            break;
        if (row->per_thread == per_thread && row->version <= version && call_find(row->symbol))
            best = row;
    }
    return best;
}

/* Entries that are no exports, as a driver may have them one day: nobody knows their addresses. */
static CUresult private_alloc(CUdeviceptr *ret_pointer, size_t size)
{
    CUresult (*function)(CUdeviceptr *, size_t) =
        (CUresult(*)(CUdeviceptr *, size_t))call_find("cuMemAlloc_v2");

    return function(ret_pointer, size);
}

static CUresult private_free(CUdeviceptr pointer)
{
    CUresult (*function)(CUdeviceptr) = (CUresult(*)(CUdeviceptr))call_find("cuMemFree_v2");

    return function(pointer);
}

static void (*entry_of(const char *symbol))(void)
{
    if (settings_private_entries() && strcmp(symbol, "cuMemAlloc_v2") == 0)
        return (void (*)(void))private_alloc;
    if (settings_private_entries() && strcmp(symbol, "cuMemFree_v2") == 0)
        return (void (*)(void))private_free;
    return call_find(symbol);
}

static CUresult resolve(const char *name, void **ret_entry, int version, cuuint64_t flags,
                        CUdriverProcAddressQueryResult *ret_status)
{
    const struct row *first, *row = NULL;

    if (!name || !ret_entry || flags > 3)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_entry = NULL;
    *ret_status = CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    if (version > settings_driver_version())
        return CUDA_ERROR_INVALID_VALUE;
    /* What came after the driver does not exist for it. */
    first = row_first(name);
    if (!first || (!row_choose(first, settings_driver_version(), false) &&
                   !row_choose(first, settings_driver_version(), true)))
        return CUDA_SUCCESS;
    if (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM)
        row = row_choose(first, version, true);
    if (!row)
        row = row_choose(first, version, false);
    *ret_status = CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT;
    if (row) {
        void (*entry)(void) = entry_of(row->symbol);

        memcpy(ret_entry, &entry, sizeof(entry));
        *ret_status = CU_GET_PROC_ADDRESS_SUCCESS;
    }
    return CUDA_SUCCESS;
}

/* QUESTION(gpu): the first version has no status to tell what is missing; its
 * documentation names NOT_FOUND. Is that what a new driver answers to it? */
FAKE_CALL(cuGetProcAddress, CALL_EARLY,
          (const char *name, void **ret_entry, int version, cuuint64_t flags),
          (name, ret_entry, version, flags), "%s, %d, %llu", name ? name : "0", version,
          (unsigned long long)flags)
{
    CUdriverProcAddressQueryResult status;
    CUresult result = resolve(name, ret_entry, version, flags, &status);

    return result == CUDA_SUCCESS && !*ret_entry ? CUDA_ERROR_NOT_FOUND : result;
}

/* QUESTION(gpu): an empty name: NOT_FOUND, as the runtime's own queries
 * suggest, or success with a status? */
static CUresult resolve_v2(const char *name, void **ret_entry, int version, cuuint64_t flags,
                           CUdriverProcAddressQueryResult *ret_status)
{
    CUdriverProcAddressQueryResult status;
    CUresult result = resolve(name, ret_entry, version, flags, &status);

    if (result == CUDA_SUCCESS && ret_status)
        *ret_status = status;
    return result == CUDA_SUCCESS && !*name ? CUDA_ERROR_NOT_FOUND : result;
}

FAKE_CALL(cuGetProcAddress_v2, CALL_EARLY,
          (const char *name, void **ret_entry, int version, cuuint64_t flags,
           CUdriverProcAddressQueryResult *ret_status),
          (name, ret_entry, version, flags, ret_status), "%s, %d, %llu", name ? name : "0", version,
          (unsigned long long)flags)
{
    return resolve_v2(name, ret_entry, version, flags, ret_status);
}

FAKE_CALL(cuGetProcAddress_v2_ptsz, CALL_EARLY,
          (const char *name, void **ret_entry, int version, cuuint64_t flags,
           CUdriverProcAddressQueryResult *ret_status),
          (name, ret_entry, version, flags, ret_status), "%s, %d, %llu", name ? name : "0", version,
          (unsigned long long)flags)
{
    if (!(flags & 3))
        flags |= CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    return resolve_v2(name, ret_entry, version, flags, ret_status);
}

/* The driver's private tables are not this simulator's business: every one is
 * "not found". */
FAKE_CALL(cuGetExportTable, CALL_EARLY, (const void **ret_table, const CUuuid *id), (ret_table, id),
          "%s", "")
{
    if (!ret_table || !id)
        return CUDA_ERROR_INVALID_VALUE;
    *ret_table = NULL;
    return CUDA_ERROR_NOT_FOUND;
}
