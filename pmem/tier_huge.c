/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/tier_huge.h"

#include "alloc/log.h"
#include "alloc/quantity.h"
#include "pmem/arena.h"
#include "pmem/chunks.h"
#include "pmem/huge_pool.h"
#include "pmem/mempolicy.h"
#include "pmem/table.h"
#include "pmem/tier_file.h"
#include "pmem/window.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

struct huge_tier {
    struct berth_chunks chunks;
    struct berth_tier_file *file;
    const struct berth_node_choice *nodes;
    enum berth_numa_mode numa;
    uint64_t page;
};

static struct huge_tier huge_tiers[BERTH_TIER_MAX];

#define refuse(error, ...) (snprintf(why, why_size, __VA_ARGS__), (error))

/* Takes the pages now: of what the pool has reserved for the mapping, a node may have none. */
static int take_pages(const struct huge_tier *huge, void *address, size_t size)
{
    bool first_only;
    int r = 0;

    if (huge->nodes)
        r = berth__mempolicy_set(address, size, &huge->nodes->nodes, huge->numa, &first_only);
    if (r < 0 && !huge->nodes->all)
        return r;
#ifdef MADV_POPULATE_WRITE
    if (madvise(address, size, MADV_POPULATE_WRITE) < 0 && errno != EINVAL)
        return errno == EFAULT ? -ENOMEM : -errno;
#endif
    return 0;
}

static int attach(void *context, void *address, uint64_t offset, size_t size)
{
    struct huge_tier *huge = context;
    void *p;
    int r;

    if (!berth__tier_file_has_descriptor(huge->file))
        return -EBADF;
    r = berth__window_try_mapping(huge->page, MAP_SHARED | MAP_NORESERVE, huge->file->fd, offset);
    if (r < 0)
        return r;
    p = mmap(address, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, huge->file->fd,
             (off_t)offset);
    r = p == MAP_FAILED ? -errno : take_pages(huge, address, size);
    if (r == 0)
        return 0;
    if (p == MAP_FAILED) {
        berth__window_mend(address, size);
        return r;
    }
    /* What was reserved belongs to the file, not to the mapping. */
    madvise(address, size, MADV_REMOVE);
    berth__window_clear(address, size);
    return r;
}

/* Where the second fails, the pages are gone and the mapping is not: chunks.h attaches it anew. */
static int detach(void *context, void *address, uint64_t offset, size_t size)
{
    (void)context;
    (void)offset;
    if (madvise(address, size, MADV_REMOVE) < 0)
        return -errno;
    return berth__window_clear(address, size);
}

static int huge_map(struct berth_tier *tier, void *address, size_t size)
{
    (void)tier;
    (void)address;
    (void)size;
    return 0;
}

static int huge_commit(struct berth_tier *tier, void *address, size_t size)
{
    struct huge_tier *huge = tier->state;
    int saved_errno = errno;
    int r = berth__chunks_commit(&huge->chunks, address, size);

    errno = saved_errno;
    return r;
}

static int huge_decommit(struct berth_tier *tier, void *address, size_t size)
{
    struct huge_tier *huge = tier->state;
    int saved_errno = errno;
    int r = berth__chunks_decommit(&huge->chunks, address, size);

    errno = saved_errno;
    return r;
}

static void huge_describe(const struct berth_tier *tier, char *text, size_t text_size)
{
    const struct huge_tier *huge = tier->state;
    char page[BERTH_QUANTITY_TEXT_MAX], nodes[64], on[96] = "";

    if (huge->nodes) {
        berth__node_set_text(&huge->nodes->nodes, nodes, sizeof(nodes));
        snprintf(on, sizeof(on), " of node %s, %s", nodes,
                 huge->numa == BERTH_NUMA_BIND ? "bound" : "preferred");
    }
    snprintf(text, text_size,
             "reserved huge pages of %s%s%s%s: %lld in the system, %lld of them free; fork = %s",
             berth__quantity_format(huge->page, page), on, tier->path[0] ? " in " : "", tier->path,
             (long long)berth__huge_pool_number(huge->page, "nr_hugepages"),
             (long long)berth__huge_pool_number(huge->page, "free_hugepages"),
             tier->fork == BERTH_FORK_SHARE ? "share" : "copy");
}

static const struct berth_tier_ops huge_ops = {
    .map = huge_map,
    .commit = huge_commit,
    .decommit = huge_decommit,
    .describe = huge_describe,
};

bool berth__tier_huge_serves(const struct berth_tier *tier)
{
    return tier->ops == &huge_ops;
}

static int open_file(const struct berth_tier_config *config, char *why, size_t why_size)
{
    int fd;

    if (config->path[0]) {
        if (!berth__huge_pool_is_directory(config->path))
            return refuse(-ENOTSUP, "%s is no hugetlbfs", config->path);
        fd = berth__tier_file_open(config->path);
        return fd < 0
                   ? refuse(fd, "no file can be made in %s: %s", config->path, strerrordesc_np(-fd))
                   : fd;
    }
    fd = berth__huge_pool_open(why, why_size);
    return fd < 0 ? fd : berth__tier_file_move(fd);
}

/* To make a file larger than RLIMIT_FSIZE is no error of the call, but a signal: SIGXFSZ. */
static void limit_size(uint64_t *size, uint64_t page)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        *size > limit.rlim_cur)
        *size = (uint64_t)limit.rlim_cur & ~(page - 1);
}

/* How large the file is to be: the capacity, or all the huge pages that there can be. */
static int find_size(struct huge_tier *huge, int fd, const struct berth_tier_config *config,
                     uint64_t *ret_size, char *why, size_t why_size)
{
    int64_t pages = berth__huge_pool_pages(fd, &huge->page, why, why_size);

    if (pages < 0)
        return (int)pages;
    *ret_size = (uint64_t)pages * huge->page;
    if (config->capacity != 0 && config->capacity < *ret_size)
        *ret_size = (config->capacity + huge->page - 1) & ~(huge->page - 1);
    limit_size(ret_size, huge->page);
    if (*ret_size == 0)
        return refuse(-EFBIG, "the process may have no file of that size (RLIMIT_FSIZE)");
    if (ftruncate(fd, (off_t)*ret_size) < 0)
        return refuse(-errno, "its file cannot be made so large: %s", strerrordesc_np(errno));
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    return 0;
}

static int set_up(struct berth_tier *tier, berth_tier_id id, const struct berth_tier_config *config,
                  int fd, char *why, size_t why_size)
{
    struct huge_tier *huge = &huge_tiers[id];
    uint64_t size = 0;
    int r = find_size(huge, fd, config, &size, why, why_size);

    if (r < 0)
        return r;
    huge->chunks.attach = attach;
    huge->chunks.detach = detach;
    huge->chunks.context = huge;
    huge->chunks.zero = true;
    r = berth__window_open(id, size);
    if (r == 0 && !berth__window_carve(id, BERTH_OS_PAGE, huge->page))
        r = -ENOSPC;
    if (r == 0)
        r = berth__chunks_init(&huge->chunks, berth__window_base(id), berth__window_size(id),
                               huge->page, size);
    if (r < 0)
        return refuse(r, "no addresses are left for it in this process");
    r = berth__tier_file_enter(tier, id, config, fd, &huge->chunks, why, why_size);
    if (r < 0)
        berth__chunks_done(&huge->chunks);
    return r;
}

int berth__tier_huge_make(struct berth_tier *tier, berth_tier_id id,
                          const struct berth_tier_config *config,
                          const struct berth_node_choice *nodes, char *why, size_t why_size)
{
    struct huge_tier *huge = &huge_tiers[id];
    char text[256];
    int fd = open_file(config, why, why_size);
    int r;

    if (fd < 0)
        return fd;
    huge->nodes = nodes;
    huge->numa = config->numa;
    r = set_up(tier, id, config, fd, why, why_size);
    if (r < 0) {
        close(fd);
        return r;
    }
    huge->file = berth__tier_file(id);
    berth__arena_set_decay(id, config->decay_ms);
    tier->sides = BERTH_SIDE_HOST;
    tier->ops = &huge_ops;
    tier->state = huge;
    huge_describe(tier, text, sizeof(text));
    berth__log(BERTH_LOG_INFO, BERTH_TOPIC_TIER, "tier %s: %s", tier->name, text);
    return 0;
}

void berth__tier_huge_say_without(const struct berth_tier *tier, const char *why)
{
    berth__log(
        berth__table_was_told(tier->name) ? BERTH_LOG_INFO : BERTH_LOG_WARNING, BERTH_TOPIC_TIER,
        "tier %s: no huge pages can be had: %s; transparent ones are asked for", tier->name, why);
}
