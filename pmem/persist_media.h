/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A persist medium: how stores to a mapping become durable.
 *
 * What was stored is durable once it was flushed and a drain came after the flush. Between two
 * drains nothing is ordered: any part of what was stored may be durable, and any may be lost. The
 * store of persistent blocks (persist_store.h) is written against these three verbs alone, so that
 * a test can put a log in their place and replay what the hardware might have done.
 */
#ifndef BERTH_PMEM_PERSIST_MEDIA_H
#define BERTH_PMEM_PERSIST_MEDIA_H

#include <stddef.h>
#include <stdint.h>

struct berth_persist_media {
    const char *name;
    /* Copies to the mapping; 8 bytes that are aligned to 8 arrive whole or not at all. */
    void (*store)(void *context, void *to, const void *from, size_t size);
    /* 0 or -errno: the range may then be durable or not. */
    int (*flush)(void *context, const void *p, size_t size);
    void (*drain)(void *context);
    void *context;
};

/* For mappings that write through to the medium (dax devices, MAP_SYNC): libpmem, or NULL where the
 * library is not installed. Loads it at the first call: no lock may be held, nor a loader call be
 * under way. */
const struct berth_persist_media *berth__persist_media_pmem(void);
/* For any other shared mapping of a file: msync(). */
const struct berth_persist_media *berth__persist_media_msync(void);

/* Flush and drain. */
int berth__persist_media_persist(const struct berth_persist_media *media, const void *p,
                                 size_t size);

#endif
