/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver's functions that allocate, whose calls are counted by the path that they came by.
 * Read by the assembler too: nothing but this one macro.
 */
#ifndef BERTH_ALLOC_ENTRY_PATH_NAMES_H
#define BERTH_ALLOC_ENTRY_PATH_NAMES_H

/* X(name). */
#define BERTH_ENTRY_NAMES(X)                                                                       \
    X(cuMemAlloc_v2)                                                                               \
    X(cuMemAllocPitch_v2)                                                                          \
    X(cuMemAllocManaged)                                                                           \
    X(cuMemAllocHost_v2)                                                                           \
    X(cuMemHostAlloc)                                                                              \
    X(cuMemHostRegister)                                                                           \
    X(cuMemHostRegister_v2)                                                                        \
    X(cuMemAllocAsync)                                                                             \
    X(cuMemAllocAsync_ptsz)                                                                        \
    X(cuMemAllocFromPoolAsync)                                                                     \
    X(cuMemAllocFromPoolAsync_ptsz)                                                                \
    X(cuMemCreate)                                                                                 \
    X(cuArrayCreate_v2)                                                                            \
    X(cuArray3DCreate_v2)                                                                          \
    X(cuMipmappedArrayCreate)

#endif
