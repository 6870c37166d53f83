/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/node_bind.h"

#include "alloc/tier_ops.h"
#include "pmem/huge_advice.h"
#include "pmem/move_fault.h"
#include "pmem/node_set.h"
#include "pmem/sysfs.h"
#include "pmem/tier_numa.h"
#include "pmem/window.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MPOL_F_STATIC_NODES
#define MPOL_F_STATIC_NODES (1 << 15)
#endif

/* What the nodes have left is looked at before each piece: others take, too. */
#define PIECE ((size_t)64 << 20)

/* So many pages are asked about at a time. */
#define PAGES_ASKED 64
/* Who looks at a page, as reclaim does, keeps it for a moment. */
#define TRIES_MAX 3

/* Too large for the stack of a thread that frees a block. */
struct node_sets {
    struct berth_node_set wanted, avoided;
    char list[BERTH_NODES_TEXT_MAX];
};

static struct node_sets *map_sets(void)
{
    void *p = mmap(NULL, sizeof(struct node_sets), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

/* Whether every page that there is lies on these nodes. */
static bool are_on(const struct berth_node_set *set, char *p, size_t size)
{
    void *pages[PAGES_ASKED];
    int status[PAGES_ASKED];
    size_t count;

    for (; size > 0; p += count * BERTH_OS_PAGE, size -= count * BERTH_OS_PAGE) {
        count = size / BERTH_OS_PAGE < PAGES_ASKED ? size / BERTH_OS_PAGE : PAGES_ASKED;
        for (size_t i = 0; i < count; i++)
            pages[i] = p + i * BERTH_OS_PAGE;
        if (syscall(SYS_move_pages, 0, count, pages, NULL, status, 0) < 0)
            return false;
        for (size_t i = 0; i < count; i++)
            if (status[i] >= 0 && !berth__node_set_has(set, (unsigned)status[i]))
                return false;
    }
    return true;
}

/*
 * Kernels before 6.7 say EIO, too, where all pages have moved: of a huge page that is mapped in
 * pieces, they find all but the first piece already on its way.
 */
static int bind_to(int mode, const struct berth_node_set *set, void *address, size_t size,
                   unsigned flags)
{
    unsigned long end = set ? berth__node_set_end(set) : 0;
    int r = berth__move_fault(BERTH_CALL_BIND);

    for (int i = 0; r == 0 && i < TRIES_MAX; i++) {
        /* The kernel takes one bit less than it is told of. */
        if (syscall(SYS_mbind, address, size, mode, end ? set->bits : NULL, end ? end + 1 : 0,
                    flags) == 0)
            return 0;
        if (errno != EIO)
            return -errno;
        if (set && are_on(set, address, size))
            return 0;
    }
    return r < 0 ? r : -EBUSY;
}

/* The kernel moves huge pages as a whole: what they have of the blocks beside this one is parted
 * from it (Linux 5.4; to say that a page is cold is what does it). */
static void part_ends(char *p, size_t size)
{
    if ((uintptr_t)p % BERTH_HUGE_PAGE != 0)
        madvise(p, BERTH_OS_PAGE, MADV_COLD);
    if (((uintptr_t)p + size) % BERTH_HUGE_PAGE != 0)
        madvise(p + size - BERTH_OS_PAGE, BERTH_OS_PAGE, MADV_COLD);
}

/* A part of a block: -EBUSY may mean that the nodes have become full meanwhile. */
static int bind_piece(const struct berth_tier *tier, int mode, const struct berth_node_set *set,
                      void *address, size_t size)
{
    unsigned flags = MPOL_MF_MOVE | (mode == MPOL_BIND ? MPOL_MF_STRICT : 0);
    int r = berth__tier_numa_expect(tier, size);

    if (r < 0)
        return r;
    r = bind_to(mode | MPOL_F_STATIC_NODES, set, address, size, flags);
    if (r == 0)
        r = berth__tier_numa_take_rest(tier, address, size);
    berth__tier_numa_arrived(tier, size);
    if (r == -EBUSY && berth__tier_numa_expect(tier, size) < 0)
        return -ENOMEM;
    if (r == -EBUSY)
        berth__tier_numa_arrived(tier, size);
    return r;
}

int berth__node_bind(berth_tier_id tier, void *address, size_t size)
{
    const struct berth_tier *of = berth__tier(tier);
    int mode = of->numa == BERTH_NUMA_PREFERRED ? MPOL_PREFERRED : MPOL_BIND;
    int saved_errno = errno;
    char why[BERTH_NODES_WHY_MAX];
    struct node_sets *sets;
    int r;

    if (!berth__tier_numa_keeps(of))
        return 0;
    sets = map_sets();
    if (!sets)
        return -ENOMEM;
    r = berth__node_set_add(&sets->wanted, of->nodes, why, sizeof(why));
    part_ends(address, size);
#ifdef MPOL_PREFERRED_MANY
    if (mode == MPOL_PREFERRED && berth__node_set_count(&sets->wanted) > 1)
        mode = MPOL_PREFERRED_MANY;
#endif
    for (size_t at = 0; r == 0 && at < size; at += PIECE)
        r = bind_piece(of, mode, &sets->wanted, (char *)address + at,
                       size - at < PIECE ? size - at : PIECE);
    munmap(sets, sizeof(*sets));
    errno = saved_errno;
    return r;
}

static void subtract(struct berth_node_set *from, const struct berth_node_set *what)
{
    for (size_t i = 0; i < BERTH_NODE_WORDS; i++)
        from->bits[i] &= ~what->bits[i];
}

/* The nodes of one list that are none of the tier's. False: there are none. */
static bool others(struct node_sets *sets, const char *path)
{
    char why[BERTH_NODES_WHY_MAX];

    memset(&sets->wanted, 0, sizeof(sets->wanted));
    if (berth__sysfs_text(path, sets->list, sizeof(sets->list)) < 0 ||
        berth__node_set_add(&sets->wanted, sets->list, why, sizeof(why)) < 0)
        return false;
    subtract(&sets->wanted, &sets->avoided);
    return berth__node_set_end(&sets->wanted) > 0;
}

int berth__node_unbind(berth_tier_id tier, void *address, size_t size)
{
    int saved_errno = errno;
    char why[BERTH_NODES_WHY_MAX];
    struct node_sets *sets;
    int r = 0, of_default;

    if (!berth__tier_numa_keeps(berth__tier(tier)))
        return 0;
    sets = map_sets();
    if (!sets)
        return -ENOMEM;
    part_ends(address, size);
    if (berth__node_set_add(&sets->avoided, berth__tier(tier)->nodes, why, sizeof(why)) == 0 &&
        (others(sets, "devices/system/node/has_cpu") ||
         others(sets, "devices/system/node/has_memory")))
        r = bind_to(MPOL_BIND, &sets->wanted, address, size, MPOL_MF_MOVE | MPOL_MF_STRICT);
    /* The one of before has to be put back in any case. */
    of_default = bind_to(MPOL_DEFAULT, NULL, address, size, 0);
    munmap(sets, sizeof(*sets));
    errno = saved_errno;
    return r < 0 ? r : of_default;
}
