/* SPDX-License-Identifier: Apache-2.0 */
/* berth snapshot: what a process's pools hold, as a file for PyTorch's memory_viz page. */
#include "tools/berth/process.h"
#include "tools/berth/snapshot_pickle.h"
#include "tools/berth/tool.h"
#include "tools/berth/whole_file.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The file that the process has written, or -1 after one line. */
static int ask(const struct berth_process *process)
{
    struct berth_session session;
    json_t *reply;
    int fd = -1;

    if (berth__session_open(&session, process, 0) < 0)
        return -1;
    reply = berth__session_request(&session, json_pack("{s:s}", "op", "snapshot"), -1, 0);
    if (reply && session.client.received < 0)
        berth__tool_fail("snapshot: process %d sent no file", (int)process->pid);
    if (reply) {
        fd = session.client.received;
        session.client.received = -1;
    }
    json_decref(reply);
    berth__session_close(&session);
    return fd;
}

static int write_snapshot(const char *output, const struct berth_snapshot *snapshot)
{
    char *bytes = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&bytes, &size);
    int r = -ENOMEM;

    if (out) {
        berth__snapshot_pickle(snapshot, out);
        r = ferror(out) ? -ENOMEM : 0;
        if (fclose(out) != 0)
            r = -ENOMEM;
    }
    if (r == 0 && strcmp(output, "-") == 0)
        fwrite(bytes, 1, size, stdout); /* whether it got out is told in the end */
    else if (r == 0)
        r = berth__whole_file_output(output, bytes, size);
    free(bytes);
    return r < 0 ? berth__tool_fail("snapshot: %s: %s", output, strerror(-r)) : 0;
}

/* All of the file, to be freed; NULL after one line. It is not mapped: its writer may shorten it.
 */
static void *read_file(int fd, size_t *ret_size)
{
    struct stat st;
    char *bytes;
    size_t done = 0;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size <= 0) {
        berth__tool_fail("snapshot: the process's file is empty");
        return NULL;
    }
    bytes = berth__tool_realloc(NULL, (size_t)st.st_size);
    while (done < (size_t)st.st_size) {
        ssize_t n = pread(fd, bytes + done, (size_t)st.st_size - done, (off_t)done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    *ret_size = done;
    return bytes;
}

/* Reads what the process wrote, and writes it as a pickle. */
static int convert(const char *output, int fd)
{
    char why[BERTH_SNAPSHOT_WHY_MAX] = "";
    struct berth_snapshot snapshot;
    size_t size = 0;
    void *bytes = read_file(fd, &size);
    int r;

    if (!bytes)
        return BERTH_EXIT_FAILURE;
    r = berth__snapshot_parse(bytes, size, &snapshot, why);
    r = r < 0 ? berth__tool_fail("snapshot: %s", why) : write_snapshot(output, &snapshot);
    berth__snapshot_done(&snapshot);
    free(bytes);
    return r;
}

int berth__command_snapshot(int argc, char **argv)
{
    static const struct option options[] = {{"output", required_argument, NULL, 'o'},
                                            {NULL, 0, NULL, 0}};
    struct berth_process process;
    const char *output = NULL;
    int c, fd, r;

    while ((c = getopt_long(argc, argv, "o:", options, NULL)) != -1) {
        if (c != 'o')
            return BERTH_EXIT_MISUSE;
        output = optarg;
    }
    if (argc - optind > 1 || !output)
        return berth__tool_misuse("snapshot: expected berth snapshot [PID] -o FILE");
    if (berth__process_find(argv[optind], &process) != 0)
        return BERTH_EXIT_FAILURE;
    fd = ask(&process);
    r = fd < 0 ? BERTH_EXIT_FAILURE : convert(output, fd);
    if (fd >= 0)
        close(fd);
    berth__process_done(&process);
    return berth__tool_finish(r);
}
