/* SPDX-License-Identifier: Apache-2.0 */
#include "probe.h"

#include "clock.h"
#include "memory.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Long enough that starting the threads is nothing; short enough to sit between two tokens. */
#define SLICE_BYTES ((size_t)1 << 26)

/* The buffer is this many times the last cache. */
#define CACHE_FACTOR 4
#define SLICES_MIN 4

#define PIECE_BYTES ((size_t)1 << 18)

struct berth_probe {
    const struct berth_kernels *kernels;
    struct berth_thread_pool *pool;
    char *memory;
    size_t slice_count;
    size_t next;
    struct berth_series times;
    _Atomic uint64_t checksum; /* keeps the reads from being optimised away */
};

int berth__probe_new(const struct berth_kernels *kernels, struct berth_thread_pool *pool,
                     struct berth_failure *failure, struct berth_probe **ret_probe)
{
    struct berth_probe *probe = calloc(1, sizeof(*probe));
    long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    size_t wanted = cache > 0 ? (size_t)cache * CACHE_FACTOR : 0;

    if (!probe)
        return berth__failure_no_memory(failure, "probe", sizeof(*probe));
    probe->kernels = kernels;
    probe->pool = pool;
    probe->slice_count = wanted / SLICE_BYTES > SLICES_MIN ? wanted / SLICE_BYTES : SLICES_MIN;
    probe->memory = berth__memory_alloc(BERTH_TAG_WORKSPACE, probe->slice_count * SLICE_BYTES);
    if (!probe->memory) {
        free(probe);
        return berth__failure_no_memory(failure, "probe", wanted);
    }
    /* Untouched memory would be one shared page of zeros. */
    memset(probe->memory, 1, probe->slice_count * SLICE_BYTES);
    *ret_probe = probe;
    return 0;
}

void berth__probe_free(struct berth_probe *probe)
{
    if (!probe)
        return;
    berth__memory_free(BERTH_TAG_WORKSPACE, probe->memory, probe->slice_count * SLICE_BYTES);
    berth__series_done(&probe->times);
    free(probe);
}

static void pieces_read(void *arg, size_t begin, size_t end)
{
    struct berth_probe *probe = arg;
    const char *slice = probe->memory + probe->next * SLICE_BYTES;

    atomic_fetch_add_explicit(
        &probe->checksum,
        probe->kernels->read(slice + begin * PIECE_BYTES, (end - begin) * PIECE_BYTES),
        memory_order_relaxed);
}

void berth__probe_sample(struct berth_probe *probe)
{
    uint64_t begin = berth__clock_ns();

    berth__thread_pool_run(probe->pool, pieces_read, probe, SLICE_BYTES / PIECE_BYTES, 1);
    berth__series_add(&probe->times, berth__clock_ns() - begin);
    probe->next = (probe->next + 1) % probe->slice_count;
}

double berth__probe_bandwidth(struct berth_probe *probe)
{
    uint64_t median_ns = berth__series_median(&probe->times);

    return median_ns > 0 ? (double)SLICE_BYTES * 1e9 / (double)median_ns : 0;
}
