/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/snapshot.h"

#include "alloc/options.h"
#include "alloc/site.h"
#include "alloc/trace.h"
#include "ipc/snapshot_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_SIZE ((size_t)64 << 10)

struct writer {
    int fd;
    int error;
    size_t used;
    unsigned char *buffer;
    uint64_t *sites; /* a bit for each site that is to be named */
    struct berth_snapshot_counts counts;
};

static void flush(struct writer *writer)
{
    for (size_t done = 0; done < writer->used && writer->error == 0;) {
        ssize_t n = write(writer->fd, writer->buffer + done, writer->used - done);

        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            writer->error = n == 0 ? -EIO : -errno;
    }
    writer->used = 0;
}

static void put(struct writer *writer, const void *bytes, size_t size)
{
    const unsigned char *at = bytes;

    while (size > 0 && writer->error == 0) {
        size_t n = BUFFER_SIZE - writer->used;

        if (n > size)
            n = size;
        memcpy(writer->buffer + writer->used, at, n);
        writer->used += n;
        at += n;
        size -= n;
        if (writer->used == BUFFER_SIZE)
            flush(writer);
    }
}

static void put_chunk(struct writer *writer, enum berth_snapshot_type type, uint64_t size)
{
    const struct berth_snapshot_chunk chunk = {.type = type, .size = size};

    put(writer, &chunk, sizeof(chunk));
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void put_header(struct writer *writer)
{
    struct berth_snapshot_header header = {.magic = BERTH_SNAPSHOT_MAGIC,
                                           .pid = (uint32_t)getpid(),
                                           .time_ns = clock_ns(CLOCK_MONOTONIC),
                                           .time_real_ns = clock_ns(CLOCK_REALTIME)};

    put(writer, &header, sizeof(header));
}

static void want_site(struct writer *writer, berth_site_id site)
{
    if (site != 0 && site < BERTH_SITE_MAX)
        writer->sites[site / 64] |= (uint64_t)1 << site % 64;
}

static int put_segment(void *context, const struct berth_segment_row *segment,
                       const struct berth_block_row *blocks)
{
    struct writer *writer = context;
    uint64_t size = segment->blocks * sizeof(*blocks);

    put_chunk(writer, BERTH_SNAPSHOT_SEGMENT, sizeof(*segment) + size);
    put(writer, segment, sizeof(*segment));
    put(writer, blocks, size);
    for (uint32_t i = 0; i < segment->blocks; i++)
        want_site(writer, blocks[i].site);
    writer->counts.segments++;
    writer->counts.blocks += segment->blocks;
    return writer->error;
}

/* All at once, because the ring goes on turning. */
static void put_history(struct writer *writer)
{
    size_t room = berth__trace_history_room();
    size_t bytes = room * sizeof(struct berth_trace_record), count;
    struct berth_trace_record *records;

    if (room == 0)
        return;
    records = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (records == MAP_FAILED) {
        writer->error = -ENOMEM;
        return;
    }
    count = berth__trace_history(records, room);
    put_chunk(writer, BERTH_SNAPSHOT_HISTORY, count * sizeof(*records));
    put(writer, records, count * sizeof(*records));
    for (size_t i = 0; i < count; i++)
        want_site(writer, records[i].site);
    writer->counts.records = count;
    munmap(records, bytes);
}

/* The size of a site's chunk; or writes it. */
static uint64_t site_chunk(struct writer *writer, berth_site_id site, bool is_written)
{
    struct berth_snapshot_site head = {.site = site, .frames = 0};
    uint64_t size = sizeof(head);
    struct berth_site_frame name;

    while (berth__site_frame(site, head.frames, &name) == 0)
        head.frames++;
    if (is_written)
        put(writer, &head, sizeof(head));
    for (unsigned i = 0; i < head.frames && berth__site_frame(site, i, &name) == 0; i++) {
        struct berth_snapshot_frame frame = {.offset = name.offset,
                                             .module_length = (uint32_t)strlen(name.module),
                                             .symbol_length =
                                                 name.symbol ? (uint32_t)strlen(name.symbol) : 0};

        size += sizeof(frame) + frame.module_length + frame.symbol_length;
        if (!is_written)
            continue;
        put(writer, &frame, sizeof(frame));
        put(writer, name.module, frame.module_length);
        put(writer, name.symbol, frame.symbol_length);
    }
    return size;
}

static void put_sites(struct writer *writer)
{
    berth_site_id count = berth__site_count();

    for (berth_site_id site = 1; site < count && writer->error == 0; site++) {
        if (!(writer->sites[site / 64] & (uint64_t)1 << site % 64))
            continue;
        put_chunk(writer, BERTH_SNAPSHOT_SITE, site_chunk(writer, site, false));
        site_chunk(writer, site, true);
        writer->counts.sites++;
    }
}

static void put_options(struct writer *writer)
{
    for (unsigned i = 0; i < BERTH_OPTION_COUNT; i++) {
        char text[BERTH_OPTION_TEXT_MAX];
        const char *name = berth__option_info[i].name;
        const char *value = berth__option_text((enum berth_option)i, text);

        put_chunk(writer, BERTH_SNAPSHOT_OPTION, strlen(name) + strlen(value) + 2);
        put(writer, name, strlen(name) + 1);
        put(writer, value, strlen(value) + 1);
    }
}

int berth__snapshot_take(int *ret_fd, struct berth_snapshot_counts *ret_counts)
{
    struct writer writer = {.fd = memfd_create("berth-snapshot", MFD_CLOEXEC)};
    int r;

    if (writer.fd < 0)
        return -errno;
    writer.buffer = malloc(BUFFER_SIZE);
    writer.sites = calloc(BERTH_SITE_MAX / 64, sizeof(*writer.sites));
    r = writer.buffer && writer.sites ? 0 : -ENOMEM;
    if (r == 0) {
        put_header(&writer);
        r = berth__pool_walk(put_segment, &writer);
    }
    if (r == 0) {
        put_history(&writer);
        put_sites(&writer);
        put_options(&writer);
        put_chunk(&writer, BERTH_SNAPSHOT_END, 0);
        flush(&writer);
        r = writer.error;
    }
    free(writer.buffer);
    free(writer.sites);
    if (r < 0) {
        close(writer.fd);
        return r;
    }
    *ret_fd = writer.fd;
    *ret_counts = writer.counts;
    return 0;
}
