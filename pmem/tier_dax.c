/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/tier_dax.h"

#include "alloc/file_call.h"
#include "alloc/log.h"
#include "alloc/quantity.h"
#include "pmem/arena.h"
#include "pmem/chunks.h"
#include "pmem/dax_device.h"
#include "pmem/file_lock.h"
#include "pmem/huge_advice.h"
#include "pmem/persist_format.h"
#include "pmem/tier_file.h"
#include "pmem/window.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

struct dax_tier {
    struct berth_chunks chunks;
    struct berth_dax_device device;
    struct berth_tier_file *file;
    uint64_t size;        /* of what is used of the device: whole chunks */
    _Atomic int locked;   /* 0 = not yet, 1 = ours, or -errno: not to be had */
    pthread_mutex_t lock; /* while the device is being locked */
};

static struct dax_tier dax_tiers[BERTH_TIER_MAX];

size_t berth__tier_dax_alignment(berth_tier_id id)
{
    return dax_tiers[id].device.alignment;
}

#define refuse(error, ...) (snprintf(why, why_size, __VA_ARGS__), (error))

/*
 * A mapping that is never used and never goes: a program that closes descriptors which are not its
 * own does not unlock the device. A child has no part in it.
 */
static int keep_lock(int fd, size_t size)
{
    void *p = mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED)
        return -errno;
    madvise(p, size, MADV_DONTFORK);
    return 0;
}

static int lock_device(const struct dax_tier *dax, char *why, size_t why_size)
{
    int r;

    if (getpid() != dax->chunks.owner)
        return refuse(-EBUSY, "it is the parent's");
    if (!berth__tier_file_has_descriptor(dax->file))
        return refuse(-EBADF, "the program has closed it");
    r = berth__file_lock(dax->file->fd, why, why_size);
    if (r < 0)
        return r;
    r = keep_lock(dax->file->fd, (size_t)1 << dax->chunks.shift);
    if (r < 0) {
        berth__file_unlock(dax->file->fd);
        return refuse(r, "it cannot be mapped: %s", strerrordesc_np(-r));
    }
    return 0;
}

/* Before the first piece of the device is mapped. A device that is not to be had is not asked for
 * again: others may come to rely on it. */
static int have_device(struct berth_tier *tier)
{
    struct dax_tier *dax = tier->state;
    int r = atomic_load_explicit(&dax->locked, memory_order_acquire);
    char why[128];

    if (r != 0)
        return r < 0 ? r : 0;
    pthread_mutex_lock(&dax->lock);
    r = atomic_load_explicit(&dax->locked, memory_order_relaxed);
    if (r == 0) {
        r = lock_device(dax, why, sizeof(why));
        if (r < 0)
            berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_TIER,
                       "tier %s has no memory in this process: %s: %s", tier->name, tier->path,
                       why);
        atomic_store_explicit(&dax->locked, r < 0 ? r : 1, memory_order_release);
    }
    pthread_mutex_unlock(&dax->lock);
    return r < 0 ? r : 0;
}

static int dax_map(struct berth_tier *tier, void *address, size_t size)
{
    int saved_errno = errno;
    int r = have_device(tier);

    (void)address;
    (void)size;
    errno = saved_errno;
    return r;
}

/*
 * The kernel cannot map a device's pages for a process without huge pages, and tells it by SIGBUS:
 * where it can say otherwise (Linux 5.14), it does here, before a block is handed out.
 */
static int map_pages(void *address, size_t size)
{
    if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0)
        return -EPERM;
#ifdef MADV_POPULATE_WRITE
    if (madvise(address, size, MADV_POPULATE_WRITE) < 0 && errno != EINVAL)
        return -errno;
#endif
    return 0;
}

static void say_no_pages(const struct berth_tier *tier, int error)
{
    static _Atomic int said;

    berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_TIER,
                    error == -EPERM
                        ? "tier %s takes no blocks: the program has turned huge pages off "
                          "(PR_SET_THP_DISABLE), without which %s cannot be mapped"
                        : "tier %s: pages of %s cannot be had; blocks go to the next place",
                    tier->name, tier->path);
}

static int attach(void *context, void *address, uint64_t offset, size_t size)
{
    struct berth_tier *tier = context;
    struct dax_tier *dax = tier->state;
    void *p;
    int r;

    if (!berth__tier_file_has_descriptor(dax->file))
        return -EBADF;
    r = berth__window_try_mapping((size_t)1 << dax->chunks.shift, MAP_SHARED, dax->file->fd,
                                  offset);
    if (r < 0)
        return r;
    p = mmap(address, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, dax->file->fd,
             (off_t)offset);
    r = p == MAP_FAILED ? -errno : map_pages(address, size);
    if (r == 0)
        return 0;
    /* No mapping of the program's may come to lie in a window. */
    if (p == MAP_FAILED) {
        berth__window_mend(address, size);
    } else {
        say_no_pages(tier, r);
        berth__window_clear(address, size);
    }
    return r;
}

static int detach(void *context, void *address, uint64_t offset, size_t size)
{
    (void)context;
    (void)offset;
    return berth__window_clear(address, size);
}

static int dax_commit(struct berth_tier *tier, void *address, size_t size)
{
    struct dax_tier *dax = tier->state;
    int saved_errno = errno;
    int r = berth__chunks_commit(&dax->chunks, address, size);

    errno = saved_errno;
    return r;
}

static int dax_decommit(struct berth_tier *tier, void *address, size_t size)
{
    struct dax_tier *dax = tier->state;
    int saved_errno = errno;
    int r = berth__chunks_decommit(&dax->chunks, address, size);

    errno = saved_errno;
    return r;
}

static void dax_describe(const struct berth_tier *tier, char *text, size_t text_size)
{
    const struct dax_tier *dax = tier->state;
    int locked = atomic_load_explicit(&dax->locked, memory_order_relaxed);
    char size[BERTH_QUANTITY_TEXT_MAX], alignment[BERTH_QUANTITY_TEXT_MAX];
    char left[BERTH_QUANTITY_TEXT_MAX], piece[BERTH_QUANTITY_TEXT_MAX], node[32] = "";

    if (dax->device.node >= 0)
        snprintf(node, sizeof(node), ", node %lld", (long long)dax->device.node);
    snprintf(text, text_size,
             "device-dax %s: %s, aligned to %s%s, mapped shared in pieces of %s; %s%s; fork = %s",
             tier->path, berth__quantity_format(dax->device.size, size),
             berth__quantity_format(dax->device.alignment, alignment), node,
             berth__quantity_format((uint64_t)1 << dax->chunks.shift, piece),
             locked < 0 ? "not to be had"
                        : berth__quantity_format(berth__chunks_free(&dax->chunks), left),
             locked < 0    ? ""
             : locked == 0 ? " free, not in use yet"
                           : " free",
             tier->fork == BERTH_FORK_SHARE ? "share" : "copy");
}

static const struct berth_tier_ops dax_ops = {
    .map = dax_map,
    .commit = dax_commit,
    .decommit = dax_decommit,
    .describe = dax_describe,
};

static void named_describe(const struct berth_tier *tier, char *text, size_t text_size)
{
    snprintf(text, text_size, "device-dax %s, for the persistent blocks of %s alone", tier->path,
             tier->segment);
}

static const struct berth_tier_ops named_ops = {.describe = named_describe};

/* What others have kept on the device is not to be written over by accident. */
static int check_content(int fd, size_t chunk, const char *path, char *why, size_t why_size)
{
    uint64_t magic;
    void *p = mmap(NULL, chunk, PROT_READ, MAP_SHARED, fd, 0);

    if (p == MAP_FAILED) {
        int r = -errno;

        return refuse(r, "%s cannot be mapped: %s", path, strerrordesc_np(-r));
    }
    memcpy(&magic, p, sizeof(magic));
    munmap(p, chunk);
    if (magic == BERTH_PERSIST_MAGIC)
        return refuse(-EEXIST,
                      "%s holds a persistent store; expected a tier with its name, or a device "
                      "without one",
                      path);
    return 0;
}

static int find_size(struct dax_tier *dax, int fd, const struct berth_tier_config *config,
                     size_t *ret_chunk, char *why, size_t why_size)
{
    size_t chunk = BERTH_HUGE_PAGE;
    struct stat st;
    int r;

    if (berth__fstat(fd, &st) < 0)
        return refuse(-EIO, "%s cannot be looked at", config->path);
    r = berth__dax_device_read(st.st_rdev, &dax->device, why, why_size);
    if (r < 0)
        return r;
    if (dax->device.alignment > chunk)
        chunk = dax->device.alignment;
    dax->size = dax->device.size & ~(uint64_t)(chunk - 1);
    if (dax->size == 0)
        return refuse(-ENOSPC, "%s has no whole piece of its alignment", config->path);
    *ret_chunk = chunk;
    return check_content(fd, chunk, config->path, why, why_size);
}

/* The window of the tier: it begins with a whole chunk. */
static int open_window(struct dax_tier *dax, berth_tier_id id, size_t chunk, char *why,
                       size_t why_size)
{
    int r = berth__window_open(id, dax->size);

    if (r == 0 && !berth__window_carve(id, BERTH_OS_PAGE, chunk))
        r = -ENOSPC;
    if (r == 0)
        r = berth__chunks_init(&dax->chunks, berth__window_base(id), berth__window_size(id), chunk,
                               dax->size);
    return r < 0 ? refuse(r, "no addresses are left for it in this process") : 0;
}

static int set_up(struct berth_tier *tier, berth_tier_id id, const struct berth_tier_config *config,
                  int fd, char *why, size_t why_size)
{
    struct dax_tier *dax = &dax_tiers[id];
    size_t chunk;
    int r = find_size(dax, fd, config, &chunk, why, why_size);

    if (r < 0)
        return r;
    dax->chunks.attach = attach;
    dax->chunks.detach = detach;
    dax->chunks.context = tier;
    r = open_window(dax, id, chunk, why, why_size);
    if (r < 0)
        return r;
    r = berth__tier_file_enter(tier, id, config, fd, &dax->chunks, why, why_size);
    if (r < 0) {
        berth__chunks_done(&dax->chunks);
        return r;
    }
    dax->file = berth__tier_file(id);
    atomic_store(&dax->locked, 0);
    pthread_mutex_init(&dax->lock, NULL);
    tier->ops = &dax_ops;
    tier->state = dax;
    return 0;
}

static int make_dax(struct berth_tier *tier, berth_tier_id id,
                    const struct berth_tier_config *config, char *why, size_t why_size)
{
    char text[256];
    int fd, r;

    tier->sides = BERTH_SIDE_HOST;
    if (tier->segment[0]) {
        struct berth_dax_device device;

        tier->ops = &named_ops;
        return berth__dax_device_find(config->path, &device, why, why_size);
    }
    fd = open(config->path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        r = -errno;
        return refuse(r, "%s cannot be opened: %s", config->path, strerrordesc_np(-r));
    }
    fd = berth__tier_file_move(fd);
    r = set_up(tier, id, config, fd, why, why_size);
    if (r < 0) {
        close(fd);
        return r;
    }
    berth__arena_set_decay(id, config->decay_ms);
    dax_describe(tier, text, sizeof(text));
    berth__log(BERTH_LOG_INFO, BERTH_TOPIC_TIER, "tier %s: %s", tier->name, text);
    return 0;
}

void berth__tier_dax_register(void)
{
    berth__tier_set_maker(BERTH_KIND_DAX, make_dax);
}
