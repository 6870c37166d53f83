/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where berth_describe() asks: one function per side, set by the preload library that serves the
 * side before its first block exists, NULL while there is none.
 *
 * Each fills *ret and returns 0, or returns -ENOENT (the address is in no block that this side
 * accounts one by one) and leaves *ret as it is. Any thread; they allocate nothing.
 */
#ifndef BERTH_ALLOC_DESCRIBE_H
#define BERTH_ALLOC_DESCRIBE_H

#include "alloc/types.h"

extern BERTH_SHARED int (*berth__describe_host)(const void *p, struct berth_block_info *ret);
extern BERTH_SHARED int (*berth__describe_device)(const void *p, struct berth_block_info *ret);

/* berth_describe() itself, under a name that the program cannot interpose. */
int berth__describe(const void *p, struct berth_block_info *ret_info, size_t info_size);

#endif
