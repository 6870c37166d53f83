/* SPDX-License-Identifier: Apache-2.0 */
/* How a persistent store is opened, made and closed. */
#include "pmem/persist_store_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* While a block goes away nobody else gets in: a matter of one commit, which is waited for. */
#define LOCK_TRIES 100
#define LOCK_PAUSE_NS (5 * 1000 * 1000)

static void *default_reserve(size_t size, size_t alignment)
{
    char *p, *start;
    size_t before;

    if (size + alignment < size)
        return NULL;
    p = mmap(NULL, size + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    start = (char *)(((uintptr_t)p + alignment - 1) & ~(uintptr_t)(alignment - 1));
    before = (size_t)(start - p);
    if (before > 0)
        munmap(p, before);
    if (alignment > before)
        munmap(start + size, alignment - before);
    return start;
}

static void default_release(void *p, size_t size)
{
    munmap(p, size);
}

static const struct berth_persist_addresses default_addresses = {default_reserve, default_release};

/* "PATH: the reason". */
__attribute__((format(printf, 5, 6))) static int refuse(int r, const char *path, char *why,
                                                        size_t why_size, const char *format, ...)
{
    int n = snprintf(why, why_size, "%s: ", path);
    va_list args;

    va_start(args, format);
    if (n >= 0 && (size_t)n < why_size)
        vsnprintf(why + n, why_size - (size_t)n, format, args);
    va_end(args);
    return r;
}

static int choose_media(struct berth_persist_store *store,
                        const struct berth_persist_options *options, char *why, size_t why_size)
{
    store->media = options->media;
    if (store->media)
        return 0;
    if (store->place.is_direct)
        store->media = berth__persist_media_pmem();
    if (store->media)
        return 0;
    /* Who only reads flushes nothing. */
    if (store->place.is_device && !options->read_only)
        return refuse(-ENOTSUP, options->path, why, why_size,
                      "a dax device needs libpmem.so.1, which is not installed");
    store->place.is_direct = store->place.is_device;
    store->media = berth__persist_media_msync();
    return 0;
}

static int lock_as_user(const struct berth_persist_store *store)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
    int r = 0;

    for (int i = 0; i < LOCK_TRIES; i++) {
        r = berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_USERS, F_RDLCK);
        if (r != -EBUSY)
            break;
        nanosleep(&pause, NULL);
    }
    return r;
}

static int map_head(struct berth_persist_store *store, uint64_t size)
{
    store->head = berth__persist_place_map_head(&store->place, size);
    store->head_size = store->head ? size : 0;
    return store->head ? 0 : -errno;
}

static void unmap_head(struct berth_persist_store *store)
{
    if (store->head)
        munmap(store->head, store->head_size);
    store->head = NULL;
}

/* Whatever else was there: no commit record and no directory of it is left. */
static int make_blank(struct berth_persist_store *store)
{
    static const char zeros[BERTH_PERSIST_PAGE];
    const struct berth_persist_media *media = store->media;
    const size_t after_magic = sizeof(uint64_t);

    media->store(media->context, store->head + after_magic, zeros, sizeof(zeros) - after_magic);
    media->store(media->context, store->head + BERTH_PERSIST_PAGE, zeros, sizeof(zeros));
    media->store(media->context, store->head + 2 * BERTH_PERSIST_PAGE, zeros, sizeof(zeros));
    return berth__persist_media_persist(media, store->head, 3 * BERTH_PERSIST_PAGE);
}

/* The superblock's last part is its magic number; the commit record follows when all else is
 * durable. Until then the medium is blank, and may be formatted again. */
static int write_super(struct berth_persist_store *store, const struct berth_persist_super *super)
{
    const struct berth_persist_media *media = store->media;
    struct berth_persist_super *to = (void *)store->head;
    const uint64_t nothing = 0;
    int r;

    media->store(media->context, &to->magic, &nothing, sizeof(nothing));
    r = berth__persist_media_persist(media, &to->magic, sizeof(to->magic));
    if (r == 0 && !berth__persist_is_blank(store->head))
        r = make_blank(store);
    if (r < 0)
        return r;
    media->store(media->context, &to->version, &super->version,
                 sizeof(*super) - sizeof(super->magic));
    r = berth__persist_media_persist(media, to, sizeof(*to));
    if (r < 0)
        return r;
    media->store(media->context, &to->magic, &super->magic, sizeof(super->magic));
    return berth__persist_media_persist(media, &to->magic, sizeof(to->magic));
}

/* What the head's mapping needs to be, for a store and for a look at the medium's first pages. */
static uint64_t look_size(const struct berth_persist_store *store)
{
    uint64_t least = 3 * BERTH_PERSIST_PAGE;

    return store->place.granule > least ? store->place.granule : least;
}

static int format(struct berth_persist_store *store, const struct berth_persist_options *options,
                  char *why, size_t why_size)
{
    uint64_t device_size = store->place.is_device ? store->place.size : 0;
    struct berth_persist_super super;
    bool zero;
    int r;

    berth__persist_super_make(&super, options->name, store->place.granule,
                              device_size ? device_size : options->capacity, device_size);
    if (device_size && super.data_offset + super.granule > device_size)
        return refuse(-ENOSPC, options->path, why, why_size,
                      "the device is too small: it has %llu bytes",
                      (unsigned long long)device_size);
    r = berth__persist_place_provide(&store->place, 0, super.data_offset, &zero);
    unmap_head(store);
    if (r == 0)
        r = map_head(store, super.data_offset);
    if (r == 0 && mprotect(store->head, store->head_size, PROT_READ | PROT_WRITE) < 0)
        r = -errno;
    if (r == 0)
        r = write_super(store, &super);
    store->super = super;
    if (r == 0)
        r = berth__persist_store_commit_directory(store, NULL, NULL);
    return r < 0 ? refuse(r, options->path, why, why_size, "it cannot be made a store: %s",
                          strerrordesc_np(-r))
                 : 0;
}

/* A file that appears under its name only when it is a store. */
static int make_file(struct berth_persist_store *store, const struct berth_persist_options *options,
                     char *why, size_t why_size)
{
    char reason[BERTH_PERSIST_WHY_MAX];
    int r;

    r = berth__persist_place_make(options->path, &store->place, reason, sizeof(reason));
    if (r < 0)
        return refuse(r, options->path, why, why_size, "%s", reason);
    r = choose_media(store, options, why, why_size);
    if (r == 0)
        r = format(store, options, why, why_size);
    if (r < 0)
        return r;
    r = lock_as_user(store);
    if (r == 0)
        r = berth__persist_place_publish(&store->place);
    if (r < 0 && r != -EEXIST)
        return refuse(r, options->path, why, why_size, "it cannot be made: %s",
                      strerrordesc_np(-r));
    return r;
}

static int read_super(struct berth_persist_store *store,
                      const struct berth_persist_options *options, char *why, size_t why_size)
{
    char reason[BERTH_PERSIST_WHY_MAX];
    int r;

    r = berth__persist_store_read_head(store, 0, store->page, sizeof(store->page));
    if (r == -EINVAL)
        return refuse(r, options->path, why, why_size, "it was cut off while it was opened");
    if (r < 0)
        return refuse(r, options->path, why, why_size, "it cannot be read: %s",
                      strerrordesc_np(-r));
    r = berth__persist_super_read(store->page, store->place.size, &store->super, reason,
                                  sizeof(reason));
    if (r < 0)
        return refuse(r, options->path, why, why_size, "%s", reason);
    if (store->super.granule % store->place.granule != 0)
        return refuse(-EINVAL, options->path, why, why_size,
                      "it was made for pieces of %llu bytes; the device now has pieces of %llu",
                      (unsigned long long)store->super.granule,
                      (unsigned long long)store->place.granule);
    if (*options->name && strcmp(options->name, store->super.name) != 0)
        return refuse(-EINVAL, options->path, why, why_size, "it is the store '%s'; expected '%s'",
                      store->super.name, options->name);
    unmap_head(store);
    r = map_head(store, store->super.data_offset);
    return r < 0 ? refuse(r, options->path, why, why_size, "it cannot be mapped: %s",
                          strerrordesc_np(-r))
                 : 0;
}

static bool may_format(const struct berth_persist_store *store,
                       const struct berth_persist_options *options)
{
    return options->create && store->place.is_device && !options->read_only &&
           (options->overwrite || berth__persist_is_blank(store->head));
}

/*
 * The exclusive lock of those who found a blank device, all of whom share it: each lets go of its
 * own and looks again, after pauses of its own length, until one has it or the store is made. 0, or
 * -EAGAIN when there is nothing to be made any more; the lock is shared then.
 */
static int lock_to_format(struct berth_persist_store *store,
                          const struct berth_persist_options *options)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS / 2 + gettid() % 64 * 100 * 1000};
    int r = -EBUSY;

    for (int i = 0; r == -EBUSY && i < LOCK_TRIES; i++) {
        r = berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_USERS, F_WRLCK);
        if (r != -EBUSY)
            break;
        berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_USERS, F_UNLCK);
        nanosleep(&pause, NULL);
        r = lock_as_user(store);
        if (r == 0)
            r = may_format(store, options) ? -EBUSY : -EAGAIN;
    }
    return r;
}

/* Two processes that find a blank device: one makes the store, the other waits for it. */
static int format_device(struct berth_persist_store *store,
                         const struct berth_persist_options *options, char *why, size_t why_size)
{
    int r = lock_to_format(store, options);

    if (r < 0 && r != -EAGAIN)
        return refuse(r, options->path, why, why_size, "%s",
                      r == -EBUSY ? "another process uses it" : strerrordesc_np(-r));
    if (r == 0 && may_format(store, options))
        r = format(store, options, why, why_size);
    else
        r = read_super(store, options, why, why_size);
    berth__persist_place_lock(&store->place, BERTH_PERSIST_LOCK_USERS, F_RDLCK);
    return r;
}

static int read_store(struct berth_persist_store *store,
                      const struct berth_persist_options *options, char *why, size_t why_size)
{
    int r;

    if (store->place.size < look_size(store))
        return refuse(-EINVAL, options->path, why, why_size,
                      "it has %llu bytes, which no store has: it was cut off, or is something else",
                      (unsigned long long)store->place.size);
    r = lock_as_user(store);
    if (r < 0)
        return refuse(r, options->path, why, why_size, "%s",
                      r == -EBUSY ? "another process uses it" : strerrordesc_np(-r));
    r = map_head(store, look_size(store));
    if (r < 0)
        return refuse(r, options->path, why, why_size, "it cannot be mapped: %s",
                      strerrordesc_np(-r));
    if (store->place.is_device && !options->create && berth__persist_is_blank(store->head))
        return refuse(-ENOENT, options->path, why, why_size,
                      "it is blank: no store was made of it");
    r = may_format(store, options) ? format_device(store, options, why, why_size)
                                   : read_super(store, options, why, why_size);
    if (r < 0)
        return r;
    store->directory.generation = 0;
    r = berth__persist_store_refresh(store);
    return r < 0 ? refuse(r, options->path, why, why_size, "%s",
                          r == -EINVAL ? store->why : strerrordesc_np(-r))
                 : 0;
}

static int open_or_make(struct berth_persist_store *store,
                        const struct berth_persist_options *options, char *why, size_t why_size)
{
    char reason[BERTH_PERSIST_WHY_MAX];
    int r;

    r = berth__persist_place_open(options->path, options->read_only, &store->place, reason,
                                  sizeof(reason));
    if (r == -ENOENT && options->create && !options->read_only) {
        r = make_file(store, options, why, why_size);
        if (r != -EEXIST)
            return r;
        /* Another process was faster: its store it is. */
        unmap_head(store);
        berth__persist_place_close(&store->place);
        store->media = NULL;
        r = berth__persist_place_open(options->path, false, &store->place, reason, sizeof(reason));
    }
    if (r < 0) {
        store->place.fd = -1;
        return refuse(r, options->path, why, why_size, "%s", reason);
    }
    if (options->overwrite && !store->place.is_device)
        return refuse(-EEXIST, options->path, why, why_size,
                      "it is a file, which is not overwritten; remove it first");
    r = choose_media(store, options, why, why_size);
    return r < 0 ? r : read_store(store, options, why, why_size);
}

int berth__persist_store_open(const struct berth_persist_options *options,
                              struct berth_persist_store **ret_store, char *why, size_t why_size)
{
    struct berth_persist_store *store = calloc(1, sizeof(*store));
    int r;

    if (!store)
        return refuse(-ENOMEM, options->path, why, why_size, "there is no memory");
    store->place.fd = -1;
    store->addresses = options->addresses ? options->addresses : &default_addresses;
    store->capacity = options->capacity;
    r = open_or_make(store, options, why, why_size);
    if (r < 0) {
        if (r == -ENOMEM)
            refuse(r, options->path, why, why_size, "there is no memory");
        berth__persist_store_close(store);
        return r;
    }
    *ret_store = store;
    return 0;
}

void berth__persist_store_close(struct berth_persist_store *store)
{
    while (store->blocks) {
        store->blocks->references = 1;
        berth__persist_store_detach(store, store->blocks);
    }
    unmap_head(store);
    berth__persist_place_close(&store->place);
    berth__persist_directory_done(&store->directory);
    berth__extent_table_done(&store->space);
    free(store);
}

void berth__persist_store_leave(struct berth_persist_store *store)
{
    if (berth__persist_place_verify(&store->place) == 0)
        close(store->place.fd);
}
