/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/overcommit.h"

#include "pmem/jemalloc.h"
#include "pmem/spare.h"
#include "pmem/window.h"

#include <errno.h>
#include <sys/mman.h>

/* Less than this, 1 GiB, is not asked about: any machine has it, in swap if not in memory. */
#define ASKED_MIN ((size_t)1 << 30)
/*
 * When so little cannot be had, there are no addresses left. A larger step may be more than
 * jemalloc needs: it then asks for less, and a large block looks after itself (pmem/host.c).
 */
#define STEP_SMALL ((size_t)8 << 20)

bool berth__overcommit_allows(size_t size)
{
    int saved_errno = errno;
    void *p;

    if (size < ASKED_MIN)
        return true;
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p != MAP_FAILED)
        munmap(p, size);
    errno = saved_errno;
    return p != MAP_FAILED;
}

/* What jemalloc calls as mmap (embed_jemalloc.sh). */
BERTH_HIDDEN void *berth_je_mmap(void *address, size_t size, int protection, int flags, int fd,
                                 off_t offset);

void *berth_je_mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *p;

    flags &= ~MAP_NORESERVE;
    p = mmap(address, size, protection, flags, fd, offset);
    if (p == MAP_FAILED && size <= STEP_SMALL && !(flags & MAP_FIXED) && berth__window_shed(size))
        p = mmap(address, size, protection, flags, fd, offset);
    if (p == MAP_FAILED && !address) {
        void *cut = berth__spare_cut(size);

        p = cut ? cut : MAP_FAILED;
    }
    return p;
}
