/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/trace_file.h"

#include "tools/berth/tool.h"
#include "tools/berth/whole_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What is read: how much of it there is, and where its last line begins if it is text. */
struct input {
    char *bytes;
    size_t size, line;
};

/* Whether the bytes until `size` are those of a recording, as far as they go. */
static bool may_be_recording(const struct input *input)
{
    size_t size = input->size < sizeof(BERTH_TRACE_MAGIC) ? input->size : sizeof(BERTH_TRACE_MAGIC);

    return memcmp(input->bytes, BERTH_TRACE_MAGIC, size) == 0;
}

/*
 * Whether what was just read, `count` bytes, shows that the rest need not be read, for the reader
 * of the text refuses it already: else a device that has no end would take all memory. 1, 0, or
 * -EINVAL with the reason in `why`.
 */
static int is_refused(const char *name, struct input *input, size_t count, char *why)
{
    size_t before = input->size - count;
    const char *last;

    if (may_be_recording(input))
        return 0;
    if (memchr(input->bytes + before, '\0', count))
        return 1;
    last = memrchr(input->bytes + before, '\n', count);
    if (last)
        input->line = (size_t)(last + 1 - input->bytes);
    if (input->size - input->line > BERTH_TRACE_LINE_MAX)
        return 1;
    if (before > BERTH_TRACE_LINE_MAX || input->size <= BERTH_TRACE_LINE_MAX)
        return 0;
    return berth__trace_csv_check_header(name, input->bytes, input->size, why);
}

/* The whole of what can be read, to be freed; NULL with the reason in `why`. */
static char *read_descriptor(const char *name, int fd, size_t *ret_size, char *why)
{
    struct input input = {0};
    size_t room = 0;
    int r = 0;

    while (r == 0) {
        ssize_t n;

        if (input.size == room) {
            room = room * 2 + (1 << 20);
            input.bytes = berth__tool_realloc(input.bytes, room);
        }
        n = read(fd, input.bytes + input.size, room - input.size);
        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            r = -errno;
            snprintf(why, BERTH_TRACE_WHY_MAX, "trace: %.200s: %s", name, strerror(errno));
        } else {
            input.size += (size_t)n;
            r = is_refused(name, &input, (size_t)n, why);
        }
    }
    *ret_size = input.size;
    if (r >= 0)
        return input.bytes;
    free(input.bytes);
    return NULL;
}

static char *read_bytes(const char *name, const char *path, size_t *ret_size, char *why)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    char *bytes;

    if (fd < 0) {
        snprintf(why, BERTH_TRACE_WHY_MAX, "trace: %.200s: %s", name, strerror(errno));
        return NULL;
    }
    bytes = read_descriptor(name, fd, ret_size, why);
    close(fd);
    return bytes;
}

int berth__trace_file_read_recording(const char *name, const char *path,
                                     struct berth_trace_log *log, uint64_t *ret_started_real_ns,
                                     char why[BERTH_TRACE_WHY_MAX])
{
    size_t size = 0;
    char *bytes = read_bytes(name, path, &size, why);
    int r;

    if (!bytes)
        return -EINVAL;
    r = berth__trace_recording_parse(name, bytes, size, log, ret_started_real_ns, why);
    if (r < 0)
        berth__trace_log_done(log);
    free(bytes);
    return r;
}

int berth__trace_file_read_as(const char *name, const char *path, struct berth_trace_log *log)
{
    char why[BERTH_TRACE_WHY_MAX] = "";
    uint64_t started;
    size_t size = 0;
    char *bytes = read_bytes(name, path, &size, why);
    int r;

    if (!bytes)
        return berth__tool_fail("%s", why);
    if (berth__trace_is_recording(bytes, size))
        r = berth__trace_recording_parse(name, bytes, size, log, &started, why);
    else
        r = berth__trace_csv_parse(name, bytes, size, log, why);
    free(bytes);
    if (r == 0)
        return 0;
    berth__trace_log_done(log);
    return berth__tool_fail("%s", why);
}

int berth__trace_file_read(const char *path, struct berth_trace_log *log)
{
    return berth__trace_file_read_as(path, path, log);
}

int berth__trace_file_hold(const char *path, char ret_path[BERTH_TRACE_HELD_MAX])
{
    char why[BERTH_TRACE_WHY_MAX] = "";
    struct stat st;
    size_t size = 0;
    char *bytes;
    int fd, r;

    ret_path[0] = '\0';
    /* What is not there is told by whoever reads it. Standard input is not the children's. */
    if (stat(path, &st) < 0 || S_ISDIR(st.st_mode) ||
        (S_ISREG(st.st_mode) && strncmp(path, "/dev/", 5) != 0 && strncmp(path, "/proc/", 6) != 0))
        return 0;
    bytes = read_bytes(path, path, &size, why);
    if (!bytes)
        return berth__tool_fail("%s", why);
    fd = memfd_create("berth-trace", 0);
    r = fd < 0 ? -errno : berth__whole_file_write(fd, bytes, size);
    free(bytes);
    if (r < 0)
        return berth__tool_fail("trace: %.200s: it cannot be held in memory: %s", path,
                                strerror(-r));
    snprintf(ret_path, BERTH_TRACE_HELD_MAX, "/proc/self/fd/%d", fd);
    return 0;
}
