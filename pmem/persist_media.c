/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/persist_media.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct {
    void (*flush)(const void *, size_t);
    void (*drain)(void);
} pmem;

static pthread_once_t pmem_once = PTHREAD_ONCE_INIT;

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
    pmem.flush(p, size);
    return 0;
}

static void pmem_drain(void *context)
{
    (void)context;
    pmem.drain();
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

/* RTLD_LOCAL: none of its names may come to serve the program. */
static void load_pmem(void)
{
    void *library = dlopen("libpmem.so.1", RTLD_NOW | RTLD_LOCAL);

    if (!library) {
        dlerror();
        return;
    }
    *(void **)&pmem.drain = dlsym(library, "pmem_drain");
    *(void **)&pmem.flush = dlsym(library, "pmem_flush");
    if (!pmem.drain)
        pmem.flush = NULL;
}

const struct berth_persist_media *berth__persist_media_pmem(void)
{
    pthread_once(&pmem_once, load_pmem);
    return pmem.flush ? &pmem_media : NULL;
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
