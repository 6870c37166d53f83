/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/host_reads.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Processes with more memory than this are left alone: to tell, the kernel goes through all of it,
 * with about 10 ns for each 4 KiB. */
#define RESIDENT_MAX ((uint64_t)64 << 30)

/*
 * Forgets what was read: the kernel takes the processor's marks back, and what the processor has
 * noted of them in its own buffers. Stretches that follow on one another are named as one, so that
 * no huge page is parted but at the ends.
 */
static bool forget(const struct berth_watched *stretches, unsigned count)
{
    for (unsigned i = 0, next; i < count; i = next) {
        for (next = i + 1; next < count && stretches[next].from == stretches[next - 1].to; next++)
            ;
        if (madvise((void *)stretches[i].from, stretches[next - 1].to - stretches[i].from,
                    MADV_COLD) != 0)
            return false;
    }
    return true;
}

/* Makes each a mapping. Neighbours get different advice, so that the kernel joins none. */
static void advise(const struct berth_watched *stretches, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        madvise((void *)stretches[i].from, stretches[i].to - stretches[i].from,
                i % 2 ? MADV_SEQUENTIAL : MADV_RANDOM);
}

/* What is of a file is to be mapped as its tier maps it (file_pages.h). */
static void advise_no_more(const struct berth_watched *stretches, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        madvise((void *)stretches[i].from, stretches[i].to - stretches[i].from,
                stretches[i].is_shared ? MADV_SEQUENTIAL : MADV_NORMAL);
}

/* A file of /proc, read through a buffer. */
struct reader {
    int fd;
    size_t at, end;
    char buffer[4096];
};

/* The next byte, or -1. */
static int next_byte(struct reader *reader)
{
    if (reader->at == reader->end) {
        ssize_t n = read(reader->fd, reader->buffer, sizeof(reader->buffer));

        if (n <= 0)
            return -1;
        reader->at = 0;
        reader->end = (size_t)n;
    }
    return (unsigned char)reader->buffer[reader->at++];
}

/* The next line, without its end, as far as there is room; false: there is none. */
static bool next_line(struct reader *reader, char *line, size_t room)
{
    size_t length = 0;
    int c = next_byte(reader);

    if (c < 0)
        return false;
    for (; c >= 0 && c != '\n'; c = next_byte(reader))
        if (length + 1 < room)
            line[length++] = (char)c;
    line[length] = 0;
    return true;
}

/* A number of this base, from *at on, which is moved behind it. */
static uint64_t parse_number(const char **at, unsigned base)
{
    uint64_t value = 0;

    for (;; ++*at) {
        unsigned digit = **at >= '0' && **at <= '9'   ? (unsigned)(**at - '0')
                         : **at >= 'a' && **at <= 'f' ? (unsigned)(**at - 'a') + 10
                                                      : base;

        if (digit >= base)
            return value;
        value = value * base + digit;
    }
}

/* "from-to rw-s ...", as a mapping's first line begins; its other lines begin with a capital. */
static bool parse_mapping(const char *line, uint64_t *ret_from, uint64_t *ret_to, bool *ret_shared)
{
    const char *at = line;
    uint64_t from = parse_number(&at, 16);

    if (at == line || *at++ != '-')
        return false;
    *ret_from = from;
    *ret_to = parse_number(&at, 16);
    *ret_shared = strncmp(at, " rw-s", 5) == 0;
    return true;
}

static bool parse_size(const char *line, const char *name, uint64_t *ret)
{
    size_t length = strlen(name);

    if (strncmp(line, name, length) != 0)
        return false;
    line += length;
    line += strspn(line, " ");
    *ret = parse_number(&line, 10) << 10;
    return true;
}

static bool is_small_enough(void)
{
    struct reader reader = {.fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)};
    char line[128];
    const char *at = line;
    uint64_t pages = 0;

    if (reader.fd < 0)
        return false;
    if (next_line(&reader, line, sizeof(line))) {
        parse_number(&at, 10);
        at += *at == ' ';
        pages = parse_number(&at, 10);
    }
    close(reader.fd);
    return pages > 0 && pages * (uint64_t)getpagesize() <= RESIDENT_MAX;
}

bool berth__host_reads_watch(const struct berth_watched *stretches, unsigned count)
{
    /* Huge pages are still mapped as such when their marks are taken, and the parts inherit that.
     */
    if (!is_small_enough() || !forget(stretches, count))
        return false;
    advise(stretches, count);
    return true;
}

/* Both are in the order of addresses. A stretch that is no mapping of its own stays unknown. */
static void match(struct reader *reader, struct berth_watched *stretches, unsigned count)
{
    uint64_t from = 0, to = 0, read;
    unsigned at = 0;
    bool shared;
    char line[128];

    while (at < count && next_line(reader, line, sizeof(line))) {
        if (parse_mapping(line, &from, &to, &shared)) {
            for (unsigned i = at; i < count && stretches[i].from < to; i++)
                stretches[i].is_shared |= shared && stretches[i].to > from;
            while (at < count && stretches[at].from < from)
                at++;
        } else if (at < count && stretches[at].from == from && stretches[at].to == to &&
                   parse_size(line, "Referenced:", &read)) {
            stretches[at++].read = read;
        }
    }
}

void berth__host_reads_peek(struct berth_watched *stretches, unsigned count)
{
    struct reader reader = {.fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC)};

    for (unsigned i = 0; i < count; i++) {
        stretches[i].read = BERTH_READ_UNKNOWN;
        stretches[i].is_shared = reader.fd < 0; /* or may be */
    }
    if (reader.fd >= 0) {
        match(&reader, stretches, count);
        close(reader.fd);
    }
}

void berth__host_reads_end(struct berth_watched *stretches, unsigned count)
{
    berth__host_reads_peek(stretches, count);
    advise_no_more(stretches, count);
}
