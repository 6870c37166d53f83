/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How large an array is, by its descriptor. The driver tells the size of a sparse one only
 * (cuda.h, cuArrayGetMemoryRequirements), and lays any other out as it likes: this is what its
 * elements take, without padding.
 */
#ifndef BERTH_HOOKS_CUDA_DRIVER_ARRAY_H
#define BERTH_HOOKS_CUDA_DRIVER_ARRAY_H

#include <stdint.h>

/*
 * Bytes; 0 for no descriptor, for one that the driver refuses, and for arrays without memory of
 * their own (sparse, or mapped later). CUDA_ARRAY_DESCRIPTOR, CUDA_ARRAY3D_DESCRIPTOR of cuda.h.
 */
__attribute__((visibility("hidden"))) uint64_t berth__array_size(const void *descriptor);
__attribute__((visibility("hidden"))) uint64_t berth__array_size_3d(const void *descriptor,
                                                                    unsigned levels);

#endif
