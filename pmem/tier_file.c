/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/tier_file.h"

#include "alloc/file_call.h"
#include "alloc/log.h"
#include "alloc/quantity.h"
#include "alloc/stats.h"
#include "pmem/arena.h"
#include "pmem/file_pages.h"
#include "pmem/fork.h"
#include "pmem/huge_advice.h"
#include "pmem/huge_pool.h"
#include "pmem/memory_room.h"
#include "pmem/table.h"
#include "pmem/tier_huge.h"
#include "pmem/window.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* A signal interrupts an allocation and undoes it: pieces, which shrink, so that it ends. */
#define PIECE_MAX ((size_t)64 << 20)
#define PIECE_MIN ((size_t)64 << 10)
/* Programs expect low descriptor numbers for their own files. */
#define DESCRIPTOR_MIN 900
/* How many a tier leaves for them: a program that cannot open a file fails, one without a tier
 * does not. */
#define DESCRIPTORS_LEFT 8

static struct berth_tier_file files[BERTH_TIER_MAX];
static _Atomic bool file_made[BERTH_TIER_MAX];

struct berth_tier_file *berth__tier_file(berth_tier_id id)
{
    return atomic_load_explicit(&file_made[id], memory_order_acquire) ? &files[id] : NULL;
}

static int open_named(const char *directory)
{
    char path[PATH_MAX];
    int fd;

    if (snprintf(path, sizeof(path), "%s/berth-XXXXXX", directory) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return -errno;
    unlink(path); /* where mkostemp() made it, if that is a preloaded library's */
    return fd;
}

/* Where few descriptors are allowed: the last eighth of them. */
static int descriptor_min(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > DESCRIPTOR_MIN)
        return DESCRIPTOR_MIN;
    return (int)(limit.rlim_cur - limit.rlim_cur / 8);
}

/* Programs hand out low numbers in order, and some count on them. */
int berth__tier_file_move(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, descriptor_min());

    if (high < 0)
        return fd;
    close(fd);
    return high;
}

int berth__tier_file_open(const char *directory)
{
    int fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
        fd = open_named(directory);
    else if (fd < 0)
        fd = -errno;
    if (fd < 0)
        return fd;
    (void)berth__file_pages_in_place(fd);
    return berth__tier_file_move(fd);
}

int berth__tier_file_open_memory(void)
{
    int fd = memfd_create("berth-tier", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return -errno;
    /* Whoever finds it by /proc can read and write it, but not take its pages away. */
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL);
    return berth__tier_file_move(fd);
}

int berth__tier_file_open_again(const struct berth_tier_file *file)
{
    return file->is_foreign || file->in_memory ? berth__tier_file_open_memory()
                                               : berth__tier_file_open(file->tier->path);
}

bool berth__tier_file_has_descriptor(const struct berth_tier_file *file)
{
    struct stat st;

    return berth__fstat(file->fd, &st) == 0 && st.st_dev == file->device &&
           st.st_ino == file->inode;
}

/*
 * Whether a file can be mapped with MAP_SYNC is asked where the kernel likes: a mapping over
 * another that the filesystem refuses has already taken the other away.
 */
static int find_map_flags(int fd)
{
#ifdef MAP_SYNC
    int flags = MAP_SHARED_VALIDATE | MAP_SYNC;
    void *p = mmap(NULL, BERTH_OS_PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (p != MAP_FAILED) {
        munmap(p, BERTH_OS_PAGE);
        return flags;
    }
#endif
    return MAP_SHARED;
}

void berth__tier_file_release(struct berth_tier_file *file)
{
    if (file->anchor)
        munmap(file->anchor, BERTH_OS_PAGE);
    file->anchor = NULL;
}

/* Devices and huge pages are not mapped by OS pages, nor are their numbers given away. */
static void drop_anchor(struct berth_tier_file *file, int fd)
{
    void *p = mmap(NULL, BERTH_OS_PAGE, PROT_NONE, MAP_SHARED, fd, 0);

    berth__tier_file_release(file);
    if (p != MAP_FAILED)
        file->anchor = p;
}

int berth__tier_file_adopt(struct berth_tier_file *file, int fd)
{
    struct stat st;

    if (berth__fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode))
        drop_anchor(file, fd);
    file->fd = fd;
    file->device = st.st_dev;
    file->inode = st.st_ino;
    berth__file_full_forget(&file->full);
    file->asks_room = berth__memory_room_is_asked(fd);
    /* Pieces of a device are mapped by its own tier; the kernel would log a single OS page of it.
     */
    file->map_flags = S_ISCHR(st.st_mode) ? MAP_SHARED : find_map_flags(fd);
    file->is_on_disk = S_ISREG(st.st_mode) && !file->asks_room && file->map_flags == MAP_SHARED;
    if (file->is_on_disk)
        berth__file_pages_single(fd);
    return 0;
}

/* Beyond RLIMIT_FSIZE the kernel would send SIGXFSZ instead of an error. */
static bool exceeds_file_limit(size_t end)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
           end > limit.rlim_cur;
}

static int allocate_piece(int fd, size_t offset, size_t size)
{
    if (fallocate(fd, 0, (off_t)offset, (off_t)size) == 0)
        return 0;
    if (errno == EOPNOTSUPP)
        return -posix_fallocate(fd, (off_t)offset, (off_t)size);
    return -errno;
}

int berth__tier_file_allocate(int fd, size_t offset, size_t size)
{
    size_t piece = PIECE_MAX;

    if (exceeds_file_limit(offset + size))
        return -EFBIG;
    while (size > 0) {
        size_t now = size < piece ? size : piece;
        int r = allocate_piece(fd, offset, now);

        if (r == -EINTR) {
            if (piece > PIECE_MIN)
                piece >>= 1;
            continue;
        }
        if (r < 0)
            return r;
        offset += now;
        size -= now;
    }
    return 0;
}

/* fallocate() is a cancellation point; malloc() is none, and jemalloc's locks may be held here. */
static int allocate_uncancelled(int fd, size_t offset, size_t size)
{
    int cancel_state, r;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    r = berth__tier_file_allocate(fd, offset, size);
    pthread_setcancelstate(cancel_state, NULL);
    return r;
}

/* The inverse of allocation by way of the mapping, for which no descriptor is needed. */
static int punch(void *address, size_t size)
{
    return madvise(address, size, MADV_REMOVE) < 0 ? -errno : 0;
}

/*
 * Nobody has been given these addresses yet, but programs that scan or keep all that they have
 * mapped (/proc/self/maps) read them, and beyond a file's end that is SIGBUS. So the file reaches
 * as far as its mappings, by its last page, which is given back: ftruncate() could cut off what
 * another thread has had meanwhile. Where that page cannot be had, or may be the parent's by then,
 * the end stays where it is.
 */
static void lengthen(const struct berth_tier_file *file, void *address, size_t size)
{
    size_t last = (uintptr_t)address - file->base + size - BERTH_OS_PAGE;
    struct stat st;

    if (!file->is_parents && berth__fstat(file->fd, &st) == 0 && S_ISREG(st.st_mode) &&
        (size_t)st.st_size <= last && allocate_uncancelled(file->fd, last, BERTH_OS_PAGE) == 0)
        punch((char *)address + size - BERTH_OS_PAGE, BERTH_OS_PAGE);
}

int berth__tier_file_map(const struct berth_tier_file *file, void *address, size_t size)
{
    off_t offset = (off_t)((uintptr_t)address - file->base);
    void *p =
        mmap(address, size, PROT_READ | PROT_WRITE, file->map_flags | MAP_FIXED, file->fd, offset);
    int r = p == MAP_FAILED ? -errno : 0;

    /* No mapping of the program's may come to lie in a window: what was there is put back. */
    if (r < 0 && !berth__window_mend(address, size))
        r = -ESTALE;
    if (r == 0)
        lengthen(file, address, size);
    if (r == 0 && file->is_on_disk)
        berth__file_pages_read_ahead(address, size);
    return r;
}

static int file_map(struct berth_tier *tier, void *address, size_t size)
{
    struct berth_tier_file *file = tier->state;
    int saved_errno = errno;
    int r = -EBADF;

    if (berth__tier_file_has_descriptor(file))
        r = berth__window_try_mapping(BERTH_OS_PAGE, file->map_flags, file->fd, 0);
    if (r == 0)
        r = berth__tier_file_map(file, address, size);
    if (r == 0 && tier->huge_pages != BERTH_HUGE_NEVER && file->asks_room)
        berth__huge_advise(address, size);
    errno = saved_errno;
    return r;
}

/* A child whose copy is without a file (no descriptor could be had) is one of many, and quiet. */
static void say_descriptor_is_gone(const struct berth_tier *tier,
                                   const struct berth_tier_file *file)
{
    static _Atomic int said;

    if (file->fd < 0)
        berth__log_once(&said, BERTH_LOG_INFO, BERTH_TOPIC_TIER,
                        "tier %s has no file in this child, and grows no more", tier->name);
    else
        berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_TIER,
                        "the file of tier %s was closed; the tier grows no more", tier->name);
}

/* What was taken in vain goes back. */
static int take_space(struct berth_tier_file *file, void *address, size_t offset, size_t size)
{
    int r;

    if (berth__file_full_for(&file->full, file->fd, size))
        return -ENOSPC;
    r = allocate_uncancelled(file->fd, offset, size);
    if (r < 0)
        punch(address, size);
    if (r == -ENOSPC)
        berth__file_full_note(&file->full, file->fd, size);
    return r;
}

static int file_commit(struct berth_tier *tier, void *address, size_t size)
{
    struct berth_tier_file *file = tier->state;
    size_t offset = (uintptr_t)address - file->base;
    int saved_errno = errno;
    int r;

    if (!berth__tier_file_has_descriptor(file)) {
        say_descriptor_is_gone(tier, file);
        errno = saved_errno;
        return -EBADF;
    }
    if (file->asks_room && !berth__memory_room_for(size)) {
        berth__stats_refusal(file->id, ENOMEM);
        errno = saved_errno;
        return -ENOMEM;
    }
    r = berth__page_set_reach(&file->committed, offset, size);
    if (r == 0)
        r = take_space(file, address, offset, size);
    if (r < 0)
        berth__stats_refusal(file->id, -r);
    else
        berth__page_set_add(&file->committed, offset, size);
    errno = saved_errno;
    return r;
}

static int file_decommit(struct berth_tier *tier, void *address, size_t size)
{
    struct berth_tier_file *file = tier->state;
    size_t offset = (uintptr_t)address - file->base;
    int saved_errno = errno;
    int r = file->is_parents ? -EPERM : punch(address, size);

    if (r == 0)
        berth__page_set_remove(&file->committed, offset, size);
    errno = saved_errno;
    return r;
}

static void file_describe(const struct berth_tier *tier, char *text, size_t text_size)
{
    const struct berth_tier_file *file = tier->state;

    snprintf(text, text_size, "an unnamed file in %s, mapped %s; fork = %s%s%s",
             tier->path[0] ? tier->path : "memory",
             file->map_flags == MAP_SHARED ? "shared" : "shared with MAP_SYNC",
             file->fork == BERTH_FORK_SHARE ? "share" : "copy",
             tier->huge_pages == BERTH_HUGE_NEVER ? "" : "; ",
             tier->huge_pages == BERTH_HUGE_NEVER ? "" : berth__huge_advice_shared_text());
}

static const struct berth_tier_ops file_ops = {
    .map = file_map,
    .commit = file_commit,
    .decommit = file_decommit,
    .describe = file_describe,
};

/* Others may make room: a full filesystem is a tier whose blocks go on to the next place. */
static void say_full(const struct berth_tier *tier, berth_tier_id id,
                     const struct berth_tier_config *config)
{
    atomic_store_explicit(&berth__tier_stats[id].refusal_told, 1, memory_order_relaxed);
    berth__log(berth__table_was_told(tier->name) ? BERTH_LOG_INFO : BERTH_LOG_WARNING,
               BERTH_TOPIC_TIER,
               "tier %s: the filesystem of %s has no space left; blocks go to the next place while "
               "that is so",
               tier->name, config->path);
}

/* It is served: space may never be short. */
static void say_elsewhere(const struct berth_tier *tier, const struct berth_tier_config *config)
{
    berth__log(berth__table_was_told(tier->name) ? BERTH_LOG_INFO : BERTH_LOG_WARNING,
               BERTH_TOPIC_TIER,
               "tier %s: the filesystem of %s may want space again for what was allocated before; "
               "should it be full then, the kernel ends the program (SIGBUS)",
               tier->name, config->path);
}

static void named_describe(const struct berth_tier *tier, char *text, size_t text_size)
{
    snprintf(text, text_size, "the persistent blocks of %s in %s alone: no file can be made there",
             tier->segment, tier->path);
}

static const struct berth_tier_ops named_ops = {.describe = named_describe};

/* Where nothing can be written: what a tier with a name keeps there can be read nonetheless. */
static int make_named_alone(struct berth_tier *tier, int error)
{
    tier->sides = BERTH_SIDE_HOST;
    tier->ops = &named_ops;
    berth__log(BERTH_LOG_INFO, BERTH_TOPIC_TIER,
               "tier %s takes no blocks by rule: no file can be made in %s: %s", tier->name,
               tier->path, strerrordesc_np(-error));
    return 0;
}

/* How much may come to lie in the tier. */
static int find_room(const struct berth_tier *tier, berth_tier_id id,
                     const struct berth_tier_config *config, uint64_t *ret_room, char *why,
                     size_t why_size)
{
    struct statvfs fs;

    if (statvfs(config->path, &fs) < 0) {
        int r = -errno;

        snprintf(why, why_size, "%s cannot be used: %s", config->path, strerrordesc_np(-r));
        return r;
    }
    /* A filesystem without a notion of size (ramfs) reports 0 blocks in all. What a named tier
     * keeps is found in a full one too. */
    if (fs.f_blocks > 0 && fs.f_bavail == 0 && !(config->segment && *config->segment))
        say_full(tier, id, config);
    *ret_room = config->capacity ? config->capacity : (uint64_t)fs.f_blocks * fs.f_frsize;
    return 0;
}

/* More than its window can hold is no error: what does not fit goes to the next place. */
static void say_window_is_small(const struct berth_tier *tier, berth_tier_id id, uint64_t capacity)
{
    char asked[BERTH_QUANTITY_TEXT_MAX];
    char window[BERTH_QUANTITY_TEXT_MAX];

    if (capacity > berth__window_size(id))
        berth__log(
            BERTH_LOG_INFO, BERTH_TOPIC_TIER,
            "tier %s: a capacity of %s is more than the %s of addresses that a tier can have",
            tier->name, berth__quantity_format(capacity, asked),
            berth__quantity_format(berth__window_size(id), window));
}

/* Whether the program can still open files. The highest numbers are the last to be taken. */
static bool leaves_some(void)
{
    struct rlimit limit;
    int left = 0;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return true;
    for (int fd = limit.rlim_cur < INT_MAX ? (int)limit.rlim_cur : INT_MAX;
         fd-- > 0 && left < DESCRIPTORS_LEFT;)
        left += fcntl(fd, F_GETFD) < 0;
    return left == DESCRIPTORS_LEFT;
}

int berth__tier_file_enter(struct berth_tier *tier, berth_tier_id id,
                           const struct berth_tier_config *config, int fd,
                           struct berth_chunks *foreign, char *why, size_t why_size)
{
    struct berth_tier_file *file = &files[id];
    int r;

    if (!leaves_some()) {
        snprintf(why, why_size, "it would leave the program fewer than %d files to open",
                 DESCRIPTORS_LEFT);
        return -EMFILE;
    }
    r = berth__page_set_init(&file->committed, berth__window_size(id));
    if (r < 0) {
        snprintf(why, why_size, "there is no memory for its page set");
        return r;
    }
    r = berth__tier_file_adopt(file, fd);
    if (r < 0) {
        snprintf(why, why_size, "%s cannot be read back", config->path);
        berth__page_set_done(&file->committed);
        return r;
    }
    file->id = id;
    /* Of a file on persistent memory a huge page is mapped where address and offset are alike
     * within it. Each first touch of an OS page may have to write what the file system keeps of it.
     */
    if (!foreign && file->map_flags != MAP_SHARED)
        berth__window_begin_huge(id);
    file->base = berth__window_base(id);
    file->fork = config->fork;
    file->fork_copy_max = config->fork_copy_max;
    file->tier = tier;
    file->is_foreign = foreign != NULL;
    file->chunks = foreign;
    file->piece = foreign ? (size_t)1 << foreign->shift : BERTH_OS_PAGE;
    if (foreign)
        foreign->committed = &file->committed;
    berth__fork_set_mark();
    atomic_store_explicit(&file_made[id], true, memory_order_release);
    return 0;
}

void berth__tier_file_serve(struct berth_tier_file *file)
{
    if (!file->is_foreign)
        return;
    file->is_foreign = false;
    file->piece = BERTH_OS_PAGE;
    file->in_memory = true;
    file->tier->ops = &file_ops;
    file->tier->state = file;
}

/* A device's piece is mapped to its end. */
static void fit_sets(void)
{
    for (unsigned id = 0; id < BERTH_TIER_MAX; id++) {
        struct berth_tier_file *file = berth__tier_file((berth_tier_id)id);

        if (file)
            berth__page_set_fit(&file->committed,
                                berth__window_used((berth_home_id)id) + file->piece);
    }
}

static int make_file(struct berth_tier *tier, berth_tier_id id,
                     const struct berth_tier_config *config, char *why, size_t why_size)
{
    char text[256];
    uint64_t room = 0;
    int fd, r;

    if (berth__huge_pool_is_directory(config->path))
        return berth__tier_huge_make(tier, id, config, NULL, why, why_size);
    if (config->huge_pages == BERTH_HUGE_ALWAYS)
        berth__tier_huge_say_without(tier, "its directory is no hugetlbfs");
    r = find_room(tier, id, config, &room, why, why_size);
    if (r < 0)
        return r;
    fd = berth__tier_file_open(config->path);
    if (fd < 0 && tier->segment[0])
        return make_named_alone(tier, fd);
    if (fd < 0) {
        snprintf(why, why_size, "no file can be made in %s: %s", config->path,
                 strerrordesc_np(-fd));
        return fd;
    }
    r = berth__window_open(id, room);
    if (r < 0)
        snprintf(why, why_size, "no addresses are left for it in this process");
    else
        r = berth__tier_file_enter(tier, id, config, fd, NULL, why, why_size);
    if (r < 0) {
        close(fd);
        return r;
    }
    if (!berth__file_pages_in_place(fd))
        say_elsewhere(tier, config);
    say_window_is_small(tier, id, config->capacity);
    berth__arena_set_decay(id, config->decay_ms);
    tier->sides = BERTH_SIDE_HOST;
    tier->ops = &file_ops;
    tier->state = &files[id];
    file_describe(tier, text, sizeof(text));
    berth__log(BERTH_LOG_INFO, BERTH_TOPIC_TIER, "tier %s: %s", tier->name, text);
    return 0;
}

void berth__tier_file_register(void)
{
    berth__tier_set_maker(BERTH_KIND_FILE, make_file);
    berth__window_when_closed(fit_sets);
}
