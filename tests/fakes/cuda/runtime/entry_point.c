/* SPDX-License-Identifier: Apache-2.0 */
/* cudaGetDriverEntryPoint: the driver's own answer, passed on. */
#include "runtime.h"

static cudaError_t entry_point(const char *name, void **ret_entry, unsigned version,
                               unsigned long long flags, CUdriverProcAddressQueryResult *ret_status,
                               bool per_thread)
{
    CUdriverProcAddressQueryResult status;
    CUresult result;

    if (!name || !ret_entry || flags > 2)
        return cudaErrorInvalidValue;
    if (flags == CU_GET_PROC_ADDRESS_DEFAULT)
        flags = per_thread ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
                           : CU_GET_PROC_ADDRESS_LEGACY_STREAM;
    result = driver_resolve(name, ret_entry, (int)version, flags, &status);
    if (result == CUDA_SUCCESS && ret_status)
        *ret_status = status;
    return from_driver(result);
}

RUNTIME_CALL(cudaGetDriverEntryPoint, driver_load,
             (const char *name, void **ret_entry, unsigned long long flags,
              CUdriverProcAddressQueryResult *ret_status),
             (name, ret_entry, flags, ret_status))
{
    return entry_point(name, ret_entry, RUNTIME_VERSION, flags, ret_status, false);
}

RUNTIME_CALL(cudaGetDriverEntryPoint_ptsz, driver_load,
             (const char *name, void **ret_entry, unsigned long long flags,
              CUdriverProcAddressQueryResult *ret_status),
             (name, ret_entry, flags, ret_status))
{
    return entry_point(name, ret_entry, RUNTIME_VERSION, flags, ret_status, true);
}

RUNTIME_CALL(cudaGetDriverEntryPointByVersion, driver_load,
             (const char *name, void **ret_entry, unsigned version, unsigned long long flags,
              CUdriverProcAddressQueryResult *ret_status),
             (name, ret_entry, version, flags, ret_status))
{
    return entry_point(name, ret_entry, version, flags, ret_status, false);
}

RUNTIME_CALL(cudaGetDriverEntryPointByVersion_ptsz, driver_load,
             (const char *name, void **ret_entry, unsigned version, unsigned long long flags,
              CUdriverProcAddressQueryResult *ret_status),
             (name, ret_entry, version, flags, ret_status))
{
    return entry_point(name, ret_entry, version, flags, ret_status, true);
}
