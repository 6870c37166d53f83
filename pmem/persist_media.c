/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/persist_media.h"

#include "alloc/private_library.h"
#include "alloc/thread_key.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Two threads may load the library at once: each a copy, which are as good, and neither waits for
 * the other, because one of them may be inside the loader already. */
static struct {
    _Atomic(void (*)(const void *, size_t)) flush; /* written last */
    _Atomic(void (*)(void)) drain;
    _Atomic bool absent;
} pmem;

/* The kernel and the processor keep an aligned word whole; memcpy() might not. */
static void copy_store(void *context, void *to, const void *from, size_t size)
{
    (void)context;
    if (size == sizeof(uint64_t) && (uintptr_t)to % sizeof(uint64_t) == 0) {
        uint64_t word;

        memcpy(&word, from, sizeof(word));
        atomic_store_explicit((_Atomic uint64_t *)to, word, memory_order_release);
        return;
    }
    memcpy(to, from, size);
}

static int pmem_flush(void *context, const void *p, size_t size)
{
    (void)context;
    atomic_load_explicit(&pmem.flush, memory_order_relaxed)(p, size);
    return 0;
}

static void pmem_drain(void *context)
{
    (void)context;
    atomic_load_explicit(&pmem.drain, memory_order_relaxed)();
}

static int msync_flush(void *context, const void *p, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t start = (uintptr_t)p & ~(page - 1);

    (void)context;
    return msync((void *)start, (uintptr_t)p + size - start, MS_SYNC) < 0 ? -errno : 0;
}

/* msync() comes back when the filesystem has it. */
static void msync_drain(void *context)
{
    (void)context;
    atomic_thread_fence(memory_order_seq_cst);
}

static const struct berth_persist_media pmem_media = {
    .name = "libpmem", .store = copy_store, .flush = pmem_flush, .drain = pmem_drain};
static const struct berth_persist_media msync_media = {
    .name = "msync", .store = copy_store, .flush = msync_flush, .drain = msync_drain};

static void load_pmem(void)
{
    struct berth_low_keys low;
    char why[256];
    void *library;
    void (*flush)(const void *, size_t) = NULL;
    void (*drain)(void) = NULL;

    /* Its constructor makes a key. */
    berth__thread_keys_take(&low);
    library = berth__private_library_open("libpmem.so.1", 0, why, sizeof(why));
    berth__thread_keys_give_back(&low);
    if (library) {
        *(void **)&drain = dlsym(library, "pmem_drain");
        *(void **)&flush = dlsym(library, "pmem_flush");
    }
    if (!drain || !flush) {
        dlerror();
        atomic_store(&pmem.absent, true);
        return;
    }
    atomic_store(&pmem.drain, drain);
    atomic_store(&pmem.flush, flush);
}

const struct berth_persist_media *berth__persist_media_pmem(void)
{
    if (!atomic_load(&pmem.flush) && !atomic_load(&pmem.absent))
        load_pmem();
    return atomic_load(&pmem.flush) ? &pmem_media : NULL;
}

const struct berth_persist_media *berth__persist_media_msync(void)
{
    return &msync_media;
}

int berth__persist_media_persist(const struct berth_persist_media *media, const void *p,
                                 size_t size)
{
    int r = media->flush(media->context, p, size);

    media->drain(media->context);
    return r;
}
