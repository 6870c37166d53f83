/* SPDX-License-Identifier: Apache-2.0 */
/* berth policy apply and show, for a process that runs. */
#include "ipc/base64.h"
#include "tools/berth/policy_file.h"
#include "tools/berth/policy_move.h"
#include "tools/berth/policy_show.h"
#include "tools/berth/process.h"
#include "tools/berth/table_file.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Sends the table; prints the version under which it is in force. Then moves what is there. */
static int apply(const struct berth_process *process, int fd, const char *file, bool moves)
{
    int status = BERTH_EXIT_FAILURE;
    struct berth_session session;
    json_t *request, *reply = NULL;

    if (berth__session_open(&session, process, 0) < 0)
        return BERTH_EXIT_FAILURE;
    request = json_pack("{s:s,s:s?}", "op", "policy.apply", "origin", file);
    if (!request) /* a name that is no UTF-8 is not told */
        request = json_pack("{s:s}", "op", "policy.apply");
    reply = berth__session_request(&session, request, fd, 0);
    if (reply) {
        printf("process %d: policy version %lld is in force\n", (int)process->pid,
               (long long)json_integer_value(json_object_get(reply, "version")));
        status = moves ? berth__policy_move(process, &session) : 0;
    }
    json_decref(reply);
    berth__session_close(&session);
    return status;
}

int berth__command_policy_apply(int argc, char **argv)
{
    static const struct option options[] = {{"move", no_argument, NULL, 'm'}, {NULL, 0, NULL, 0}};
    struct berth_process process;
    bool moves = false;
    void *bytes = NULL;
    size_t size = 0;
    int fd, status, c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == '?')
            return BERTH_EXIT_MISUSE;
        moves = true;
    }
    if (optind + 2 != argc)
        return berth__tool_misuse("policy apply: expected berth policy apply [--move] PID FILE");
    if (berth__policy_compile_file(argv[optind + 1], stderr, &bytes, &size) != 0)
        return BERTH_EXIT_FAILURE;
    fd = berth__table_file_seal(bytes, size);
    free(bytes);
    if (fd < 0)
        return BERTH_EXIT_FAILURE;
    status = berth__process_find(argv[optind], &process);
    if (status == 0) {
        status = apply(&process, fd, argv[optind + 1], moves);
        berth__process_done(&process);
    }
    close(fd);
    return berth__tool_finish(status);
}

/* The table of a process, as it came piece by piece. */
struct received_table {
    char *bytes;
    size_t size, room;
    json_int_t version;
};

/* Appends a piece. False: it is not the next one. */
static int append_piece(struct received_table *table, const json_t *reply)
{
    const json_t *data = json_object_get(reply, "data");
    const char *text = json_string_value(data);
    size_t length = json_string_length(data), size = 0;

    if (!text)
        return 0;
    if (table->room < table->size + length) {
        table->room = table->size + length;
        table->bytes = berth__tool_realloc(table->bytes, table->room);
    }
    if (berth__base64_decode(text, length, table->bytes + table->size, &size) < 0)
        return 0;
    table->size += size;
    return size > 0;
}

/*
 * Reads the whole table. A table that is replaced meanwhile is read again from its start. 0, or
 * -EIO after one line.
 */
static int receive(struct berth_session *session, struct received_table *ret)
{
    struct received_table table = {0};
    json_int_t whole = 0;

    do {
        json_t *request =
            json_pack("{s:s,s:I}", "op", "policy.table", "first", (json_int_t)table.size);
        json_t *reply = berth__session_request(session, request, -1, 0);
        json_int_t version = json_integer_value(json_object_get(reply, "version"));

        whole = json_integer_value(json_object_get(reply, "size"));
        if (reply && table.size > 0 && version != table.version) {
            table.size = 0;
            json_decref(reply);
            continue;
        }
        table.version = version;
        if (!reply || (whole > 0 && !append_piece(&table, reply))) {
            if (reply)
                berth__tool_fail("process %d: its table was not understood", (int)session->pid);
            json_decref(reply);
            free(table.bytes);
            return -EIO;
        }
        json_decref(reply);
    } while ((json_int_t)table.size < whole);
    *ret = table;
    return 0;
}

static int show(const struct received_table *table, int shape, pid_t pid)
{
    struct berth_table_view view;
    char why[512];

    if (table->version == 0)
        return berth__tool_fail("process %d has no policy", (int)pid);
    if (berth__table_open(table->bytes, table->size, &view, why, sizeof(why)) < 0)
        return berth__tool_fail("process %d: its table is of another version of Berth: %s",
                                (int)pid, why);
    if (shape == 'j')
        return berth__policy_show_json(&view, stdout) < 0 ? BERTH_EXIT_FAILURE : 0;
    if (shape == 't')
        berth__policy_show_text(&view, stdout);
    else
        berth__policy_show_table(&view, stdout);
    return 0;
}

int berth__command_policy_show_process(int argc, char **argv)
{
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"text", no_argument, NULL, 't'}, {NULL, 0, NULL, 0}};
    struct received_table table = {0};
    struct berth_process process;
    struct berth_session session;
    int shape = 0, status = BERTH_EXIT_FAILURE, c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == '?')
            return BERTH_EXIT_MISUSE;
        shape = c;
    }
    if (optind + 1 != argc)
        return berth__tool_misuse("policy show: expected berth policy show [--text | --json] "
                                  "FILE|PID");
    if (berth__process_find(argv[optind], &process) != 0)
        return BERTH_EXIT_FAILURE;
    if (berth__session_open(&session, &process, 0) == 0) {
        if (receive(&session, &table) == 0)
            status = show(&table, shape, process.pid);
        free(table.bytes);
        berth__session_close(&session);
    }
    berth__process_done(&process);
    return berth__tool_finish(status);
}
