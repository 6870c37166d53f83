/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a descriptor goes from one thread's table to another's, from this process only, and with
 * the answer that it belongs to, to the client that asked. Method: a thread with a table of its own
 * takes what the first one gives; a server answers several frames at once, with and without.
 */
#include "ipc/buffer.h"
#include "ipc/client.h"
#include "ipc/descriptors.h"
#include "ipc/handover.h"
#include "ipc/server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/berth-test-XXXXXX";

static int make_file(const char *text)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

static void assert_reads(int fd, const char *expected)
{
    char text[64] = "";

    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(pread(fd, text, sizeof(text) - 1, 0), strlen(expected));
    assert_string_equal(text, expected);
}

static void nothing_is_taken_where_nothing_was_given(void **state)
{
    struct berth_handover handover;
    int fd = -7;

    assert_int_equal(berth__handover_open(&handover), 0);
    assert_int_equal(berth__handover_take(&handover, &fd), -ENOENT);
    assert_int_equal(fd, -7);
    assert_int_equal(berth__handover_give(&handover, -1), -EBADF);
    assert_int_equal(berth__handover_take(&handover, &fd), -ENOENT);
    berth__handover_close(&handover);
    assert_int_equal(berth__handover_give(&handover, 0), -ECONNREFUSED);
}

static void another_process_gives_nothing(void **state)
{
    struct berth_handover handover;
    int fd = -7, own = make_file("own"), status;
    pid_t child;

    assert_int_equal(berth__handover_open(&handover), 0);
    child = fork();
    if (child == 0)
        _exit(berth__handover_give(&handover, make_file("foreign")) != 0);
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(berth__handover_give(&handover, own), 0);
    assert_int_equal(berth__handover_take(&handover, &fd), 0);
    assert_reads(fd, "own");
    close(fd);
    close(own);
    berth__handover_close(&handover);
}

/* What the two threads tell each other; one of them runs at a time. */
struct meeting {
    struct berth_handover handover;
    pthread_barrier_t barrier;
    int fd;
    bool is_apart; /* the descriptor's number means something else to the other thread */
};

static void *take_apart(void *context)
{
    struct meeting *meeting = context;
    char why[256], text[16] = "";
    int fd = -1;

    if (berth__descriptors_leave(why, sizeof(why)) < 0 ||
        berth__handover_open(&meeting->handover) < 0)
        abort();
    pthread_barrier_wait(&meeting->barrier);
    pthread_barrier_wait(&meeting->barrier); /* it was given */
    meeting->is_apart = fcntl(meeting->fd, F_GETFD) < 0;
    if (berth__handover_take(&meeting->handover, &fd) == 0)
        meeting->is_apart &= pread(fd, text, sizeof(text), 0) == 6 && strcmp(text, "across") == 0;
    else
        meeting->is_apart = false;
    close(fd);
    berth__handover_close(&meeting->handover);
    return NULL;
}

static void a_descriptor_crosses_from_table_to_table(void **state)
{
    struct meeting meeting = {.fd = make_file("across")};
    pthread_t thread;
    int high = fcntl(meeting.fd, F_DUPFD_CLOEXEC, 500);

    close(meeting.fd);
    meeting.fd = high;
    pthread_barrier_init(&meeting.barrier, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, take_apart, &meeting), 0);
    pthread_barrier_wait(&meeting.barrier);
    assert_int_equal(berth__handover_give(&meeting.handover, meeting.fd), 0);
    pthread_barrier_wait(&meeting.barrier);
    pthread_join(thread, NULL);
    assert_true(meeting.is_apart);
    close(meeting.fd);
}

/* "d..." is answered with a descriptor of a file that has the frame's text, others without. */
static void answer(void *context, struct berth_exchange *exchange)
{
    bool gives = exchange->frame[0] == 'd';

    exchange->reply = berth__buffer_resize(NULL, 0, exchange->length + 1);
    assert_non_null(exchange->reply);
    memcpy(exchange->reply, exchange->frame, exchange->length);
    exchange->reply[exchange->length] = '\n';
    exchange->reply_length = exchange->length + 1;
    exchange->gives_descriptor = gives;
    if (gives && exchange->handover) {
        char text[64];
        int fd;

        snprintf(text, sizeof(text), "%.*s", (int)exchange->length, exchange->frame);
        if (strcmp(text, "denied") == 0) {
            exchange->gives_descriptor = false; /* an error, at the second look */
            return;
        }
        fd = strcmp(text, "dropped") == 0 ? -1 : make_file(text);
        berth__handover_give(exchange->handover, fd);
        close(fd);
    }
}

static atomic_bool is_over;

static void *serve(void *context)
{
    while (!atomic_load(&is_over) && berth__server_step(context, 10) == 0)
        ;
    return NULL;
}

/* Reads one answer, and the descriptor that comes with it (-1: none). */
static int expect(struct berth_client *client, const char *request, const char *expected)
{
    char *reply = NULL;
    int fd = -7;

    assert_int_equal(berth__client_request_descriptor(client, request, 20000, &reply, &fd), 0);
    if (!strstr(reply, expected))
        fail_msg("'%s' was answered with: %s", request, reply);
    free(reply);
    return fd;
}

static void an_answer_brings_its_own_descriptor(void **state)
{
    struct berth_server *server = malloc(sizeof(*server));
    const struct berth_server_config config = {
        .directory = directory, .name = "s", .hello = "hello\n", .answer = answer};
    struct berth_client client;
    pthread_t thread;
    char *hello;
    int fd;

    assert_int_equal(berth__server_open(server, &config), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve, server), 0);
    assert_int_equal(berth__client_connect(&client, directory, "s", 20000, &hello), 0);
    free(hello);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(expect(&client, "plain", "plain"), -1);
        fd = expect(&client, "d-one", "d-one");
        assert_reads(fd, "d-one");
        close(fd);
        fd = expect(&client, "d-two", "d-two");
        assert_reads(fd, "d-two");
        close(fd);
    }
    assert_int_equal(expect(&client, "denied", "denied"), -1);
    assert_int_equal(expect(&client, "dropped", "no-handover"), -1);
    assert_int_equal(expect(&client, "plain", "plain"), -1);
    berth__client_close(&client);
    is_over = true;
    pthread_join(thread, NULL);
    is_over = false;
    berth__server_close(server);
    free(server);
}

/* Frames that come at once: descriptors come in the order of their answers. */
static void descriptors_come_in_the_order_of_answers(void **state)
{
    struct berth_server *server = malloc(sizeof(*server));
    const struct berth_server_config config = {
        .directory = directory, .name = "q", .hello = "hello\n", .answer = answer};
    struct berth_client client;
    pthread_t thread;
    char *hello;

    assert_int_equal(berth__server_open(server, &config), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve, server), 0);
    assert_int_equal(berth__client_connect(&client, directory, "q", 20000, &hello), 0);
    free(hello);
    /* A receiver may get a descriptor with earlier bytes, but never before another one's. */
    for (int round = 0; round < 50; round++) {
        int got[4], count = 0;

        got[0] = expect(&client, "first\nd-one\nplain\nd-two", "first");
        got[1] = expect(&client, "", "d-one");
        got[2] = expect(&client, "", "plain");
        got[3] = expect(&client, "", "d-two");
        for (int i = 0; i < 4; i++) {
            if (got[i] < 0)
                continue;
            assert_reads(got[i], count++ == 0 ? "d-one" : "d-two");
            close(got[i]);
        }
        assert_int_equal(count, 2);
    }
    berth__client_close(&client);
    is_over = true;
    pthread_join(thread, NULL);
    is_over = false;
    berth__server_close(server);
    free(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_taken_where_nothing_was_given),
        cmocka_unit_test(another_process_gives_nothing),
        cmocka_unit_test(a_descriptor_crosses_from_table_to_table),
        cmocka_unit_test(an_answer_brings_its_own_descriptor),
        cmocka_unit_test(descriptors_come_in_the_order_of_answers),
    };
    int failed;

    if (!mkdtemp(directory))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        char path[64];

        snprintf(path, sizeof(path), "%s/%c", directory, "sq"[i]);
        unlink(path);
    }
    rmdir(directory);
    return failed;
}
