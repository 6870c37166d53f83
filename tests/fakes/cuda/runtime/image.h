/* SPDX-License-Identifier: Apache-2.0 */
/* An image: the device code of one translation unit, as the compiler's
 * constructor registers it, with the kernels and variables in it. Loaded into
 * the driver when one of them is first used. */
#ifndef BERTH_FAKE_RUNTIME_IMAGE_H
#define BERTH_FAKE_RUNTIME_IMAGE_H

#include "runtime.h"

/* The kernel that stands behind a host function, or behind a cudaKernel_t. */
cudaError_t image_kernel(const void *host_function, CUkernel *ret_kernel);
/* The variable that stands behind a host shadow. */
cudaError_t image_variable(const void *host_variable, CUdeviceptr *ret_pointer, size_t *ret_size);

#endif
