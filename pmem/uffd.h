/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd: to learn of writes to a range of memory before they happen, and hold them back.
 *
 * One range has one owner in the kernel, and so it has here: whoever watches a range takes it in
 * the table of watched ranges first. Those who move blocks and those who want to know who writes to
 * them thus never meet in the kernel, where the second registration would fail or, worse, the first
 * one's end would take away the second one's protection.
 *
 * A descriptor belongs to the thread that opened it. One that lives in the program's table may be
 * closed by the program, which lets all held writers go: each call tells by failing.
 */
#ifndef BERTH_PMEM_UFFD_H
#define BERTH_PMEM_UFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for any reason. */
#define BERTH_UFFD_WHY_MAX 192

/* What this kernel lets this user do; see berth__uffd_open(). */
struct berth_uffd {
    int fd;
    bool shared_memory; /* tmpfs and memfd too (Linux 5.19) */
    bool untouched;     /* pages that were never touched are protected like others (Linux 6.4) */
    bool takes_pages;   /* berth__uffd_take_pages() works (Linux 6.8) */
    bool tells_removal; /* that the program gives pages back (MADV_DONTNEED) is told */
};

/*
 * Opens a descriptor that also sees what the kernel writes on behalf of system calls: one that does
 * not would have read() fail with EFAULT where the program has done nothing wrong. -EPERM: this
 * user may not (CAP_SYS_PTRACE, vm.unprivileged_userfaultfd or /dev/userfaultfd would let it);
 * -ENOSYS, -ENOTSUP: the kernel cannot; or another negative errno. `why` gets one sentence.
 */
int berth__uffd_open(struct berth_uffd *uffd, char *why, size_t why_size);
void berth__uffd_close(struct berth_uffd *uffd);

/*
 * Begins and ends to watch [address, address + size), multiples of the OS page. -EBUSY: somebody
 * watches part of it. With FOR_WRITES, writers can be held back (berth__uffd_protect()); with
 * FOR_MISSING, whoever touches a page that is not there. The end lets every held thread go.
 */
enum berth_uffd_mode { BERTH_UFFD_FOR_WRITES = 1, BERTH_UFFD_FOR_MISSING = 2 };
int berth__uffd_watch(const struct berth_uffd *uffd, void *address, size_t size, int mode);
void berth__uffd_unwatch(const struct berth_uffd *uffd, void *address, size_t size);

/*
 * Holds back writers to the range from now on, or lets them go. 0 or negative errno; -EAGAIN: the
 * program gives pages back and waits until that is read (berth__uffd_read()).
 */
int berth__uffd_protect(const struct berth_uffd *uffd, void *address, size_t size, bool on);

/* What is told of a watched range. */
enum berth_uffd_event {
    BERTH_UFFD_NOTHING,
    BERTH_UFFD_WRITE,   /* a thread wants to write to `start` and waits */
    BERTH_UFFD_REMOVED, /* the program gives [start, end) back; it waited for this to be read */
    BERTH_UFFD_OTHER,
};
struct berth_uffd_where {
    uintptr_t start, end;
};
/* Reads one event without waiting, or negative errno. */
int berth__uffd_read(const struct berth_uffd *uffd, struct berth_uffd_where *ret_where);

/*
 * Takes the pages of [from, from + size) and puts them at `to`, both watched
 * and ordinary private memory; who touches `from` meanwhile is held back with FOR_MISSING. -EBUSY:
 * a page is pinned, by I/O that is under way or a driver, or is shared with a forked child.
 * -EAGAIN: as above. *ret_done says how far it came, also on failure.
 */
int berth__uffd_take_pages(const struct berth_uffd *uffd, void *to, void *from, size_t size,
                           size_t *ret_done);

#endif
