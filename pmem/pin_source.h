/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of this process can write to memory behind the back of page protection.
 *
 * I/O past the page cache and io_uring's registered memory hold pages and write to them by their
 * physical addresses. Linux before 6.8, and any in files, does not tell which pages are held; but
 * it tells who could be holding some: an io_uring, and files that are open with O_DIRECT, for which
 * a read() or an asynchronous one may be under way. Newer kernels see what disks hold; file systems
 * without one, as NFS, 9p and FUSE, may hold pages in a way that they do not see. What drivers hold
 * cannot be told from their descriptors.
 */
#ifndef BERTH_PMEM_PIN_SOURCE_H
#define BERTH_PMEM_PIN_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What of it counts. */
enum berth_pins {
    BERTH_PINS_ALL,        /* the kernel sees none */
    BERTH_PINS_UNSEEN,     /* it sees those of disks and io_uring */
    BERTH_PINS_REGISTERED, /* no I/O is under way; but what is registered, and where, counts */
};

/*
 * Looks at the descriptors of `thread`, one of this process, and of those that have tables of their
 * own. 1: [p, p + size) may be held, and `why` gets who by; 0: no; or negative errno. Allocates
 * nothing and takes no lock, and asks no file system, whose server may not answer.
 */
int berth__pin_source_find(pid_t thread, const void *p, size_t size, enum berth_pins pins,
                           char *why, size_t why_size);

/*
 * The same of I/O whose descriptors may be closed: memory is mapped by which it is asked for, of
 * io_setup() or of an io_uring. 1: some is, and *ret_what gets by whom; 0: none; or negative errno.
 * Takes as long as the process has mappings.
 */
int berth__pin_source_find_mapped(const char **ret_what);

#endif
