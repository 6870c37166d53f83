/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What of this process can write to memory behind the back of page protection.
 *
 * I/O past the page cache and io_uring's registered memory hold pages and write to them by their
 * physical addresses. Linux before 6.8, and any in files, does not tell which pages are held; but
 * it tells who could be holding some: an io_uring, and files that are open with O_DIRECT, for which
 * a read() or an asynchronous one may be under way. What drivers hold cannot be told from their
 * descriptors.
 */
#ifndef BERTH_PMEM_PIN_SOURCE_H
#define BERTH_PMEM_PIN_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Looks at the descriptors of `thread`, one of this process. 1: [p, p + size) may be held, and
 * `why` gets who by; 0: no; or negative errno. When it is known that no I/O is under way (`idle`),
 * only what is registered counts, and where. Allocates nothing and takes no lock.
 */
int berth__pin_source_find(pid_t thread, const void *p, size_t size, bool idle, char *why,
                           size_t why_size);

#endif
