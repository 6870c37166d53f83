/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/node_bind.h"

#include "alloc/tier_ops.h"
#include "pmem/move_fault.h"
#include "pmem/node_set.h"
#include "pmem/sysfs.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

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

static int bind_to(int mode, const struct berth_node_set *set, void *address, size_t size,
                   unsigned flags)
{
    int r = berth__move_fault(BERTH_CALL_BIND);
    unsigned long end = set ? berth__node_set_end(set) : 0;

    if (r < 0)
        return r;
    /* The kernel takes one bit less than it is told of. */
    if (syscall(SYS_mbind, address, size, mode, end ? set->bits : NULL, end ? end + 1 : 0, flags) ==
        0)
        return 0;
    return errno == EIO ? -EBUSY : -errno;
}

int berth__node_bind(berth_tier_id tier, void *address, size_t size)
{
    const struct berth_tier *of = berth__tier(tier);
    int mode = of->numa == BERTH_NUMA_PREFERRED ? MPOL_PREFERRED : MPOL_BIND;
    unsigned flags = MPOL_MF_MOVE | (mode == MPOL_BIND ? MPOL_MF_STRICT : 0);
    int saved_errno = errno;
    struct node_sets *sets = map_sets();
    char why[BERTH_NODES_WHY_MAX];
    int r;

    if (!sets)
        return -ENOMEM;
    r = berth__node_set_add(&sets->wanted, of->nodes, why, sizeof(why));
#ifdef MPOL_PREFERRED_MANY
    if (mode == MPOL_PREFERRED && berth__node_set_count(&sets->wanted) > 1)
        mode = MPOL_PREFERRED_MANY;
#endif
    if (r == 0)
        r = bind_to(mode, &sets->wanted, address, size, flags);
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
    struct node_sets *sets = map_sets();
    char why[BERTH_NODES_WHY_MAX];
    int r = 0;

    if (!sets)
        return -ENOMEM;
    if (berth__node_set_add(&sets->avoided, berth__tier(tier)->nodes, why, sizeof(why)) == 0 &&
        (others(sets, "devices/system/node/has_cpu") ||
         others(sets, "devices/system/node/has_memory")))
        r = bind_to(MPOL_BIND, &sets->wanted, address, size, MPOL_MF_MOVE | MPOL_MF_STRICT);
    if (r == 0)
        r = bind_to(MPOL_DEFAULT, NULL, address, size, 0);
    munmap(sets, sizeof(*sets));
    errno = saved_errno;
    return r;
}
