/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of a disk's file that are written through a mapping. Their space is allocated before, and
 * must be all that the first write to a page needs: where the filesystem asks for more, one that is
 * full is a SIGBUS.
 */
#ifndef BERTH_PMEM_FILE_PAGES_H
#define BERTH_PMEM_FILE_PAGES_H

#include <stdbool.h>
#include <stddef.h>

/*
 * For a file that is empty: what is written over is to stay where it is. Filesystems that write
 * everything anew elsewhere (btrfs) need space for that again and again. False where that cannot be
 * had, as far as is known: what was allocated may find no space when it is written. Keeps errno.
 */
bool berth__file_pages_in_place(int fd);

/*
 * What the kernel reads ahead it may keep in large pieces of its cache (xfs since Linux 5.18, ext4
 * since 6.16), and the first write to one page of a piece asks for space for all of it: for what
 * beside the block was never allocated, too. What is opened for random reads has single pages
 * alone, however many are read at once. That is for what is mapped or read by this descriptor, or
 * by another one of the same opening. Keeps errno.
 */
void berth__file_pages_single(int fd);

/*
 * A mapping of such a descriptor, of which the kernel would read one page at each fault: a disk
 * gives far more in the same time. Keeps errno.
 */
void berth__file_pages_read_ahead(void *address, size_t size);

#endif
