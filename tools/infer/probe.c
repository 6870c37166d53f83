/* SPDX-License-Identifier: Apache-2.0 */
#include "probe.h"

#include "clock.h"
#include "memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The least that is read at a time: starting the threads is nothing against it. */
#define SAMPLE_BYTES_MIN ((size_t)1 << 26)

/* The buffer is this many times the last cache, and at least this large. */
#define CACHE_FACTOR 4
#define BUFFER_BYTES_MIN ((size_t)1 << 28)

#define PIECE_BYTES ((size_t)1 << 18)

struct berth_probe {
    const struct berth_kernels *kernels;
    struct berth_thread_pool *pool;
    char *memory;
    size_t piece_count;            /* of the buffer */
    size_t next;                   /* the piece that the next sample begins with */
    struct berth_series bandwidth; /* bytes per second, of each sample */
    _Atomic uint64_t checksum;     /* keeps the reads from being optimised away */
};

int berth__probe_new(const struct berth_kernels *kernels, struct berth_thread_pool *pool,
                     struct berth_failure *failure, struct berth_probe **ret_probe)
{
    struct berth_probe *probe = calloc(1, sizeof(*probe));
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t bytes = cache > 0 ? (size_t)cache * CACHE_FACTOR : 0;

    if (!probe)
        return berth__failure_no_memory(failure, "probe", sizeof(*probe));
    probe->kernels = kernels;
    probe->pool = pool;
    probe->piece_count = (bytes > BUFFER_BYTES_MIN ? bytes : BUFFER_BYTES_MIN) / PIECE_BYTES;
    bytes = probe->piece_count * PIECE_BYTES;
    probe->memory = berth__memory_alloc(BERTH_TAG_WORKSPACE, bytes);
    if (!probe->memory) {
        free(probe);
        return berth__failure_no_memory(failure, "probe", bytes);
    }
    /* Untouched memory would be one shared page of zeros. */
    memset(probe->memory, 1, bytes);
    *ret_probe = probe;
    return 0;
}

void berth__probe_free(struct berth_probe *probe)
{
    if (!probe)
        return;
    berth__memory_free(BERTH_TAG_WORKSPACE, probe->memory, probe->piece_count * PIECE_BYTES);
    berth__series_done(&probe->bandwidth);
    free(probe);
}

static void pieces_read(void *arg, size_t begin, size_t end)
{
    struct berth_probe *probe = arg;
    uint64_t sum = 0;

    for (size_t i = begin; i < end; i++) {
        size_t piece = (probe->next + i) % probe->piece_count;

        sum += probe->kernels->read(probe->memory + piece * PIECE_BYTES, PIECE_BYTES);
    }
    atomic_fetch_add_explicit(&probe->checksum, sum, memory_order_relaxed);
}

void berth__probe_sample(struct berth_probe *probe, uint64_t size_bytes)
{
    size_t pieces =
        (size_t)(size_bytes > SAMPLE_BYTES_MIN ? size_bytes : SAMPLE_BYTES_MIN) / PIECE_BYTES;
    uint64_t begin = berth__clock_ns(), ns;

    berth__thread_pool_run(probe->pool, pieces_read, probe, pieces, 1);
    ns = berth__clock_ns() - begin;
    if (ns > 0)
        berth__series_add(&probe->bandwidth,
                          (uint64_t)((double)(pieces * PIECE_BYTES) * 1e9 / (double)ns));
    probe->next = (probe->next + pieces) % probe->piece_count;
}

double berth__probe_bandwidth(struct berth_probe *probe)
{
    return (double)berth__series_median(&probe->bandwidth);
}
