/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever clients do, the process goes on, other clients are served, and what is asked
 * wrongly is answered with a reason.
 * Method: a subject process with a real control thread, attacked over its socket.
 */
#include "tests/unit/ipc/subject.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char directory[] = "/tmp/berth-test-XXXXXX";
static struct subject subject;

static int start(void **state)
{
    subject_start(&subject, directory);
    return 0;
}

static int stop(void **state)
{
    subject_stop(&subject);
    return 0;
}

static void expect_service(void)
{
    struct berth_client client;

    subject_connect(&subject, &client);
    subject_expect(&client, "{\"op\":\"ping\",\"id\":\"me\"}", "{\"id\":\"me\",\"ok\":true}");
    berth__client_close(&client);
}

static void a_client_is_greeted_and_answered(void **state)
{
    struct berth_client client;
    char expected[64];

    subject_connect(&subject, &client);
    subject_expect(&client, "{\"op\":\"ping\"}", "{\"id\":null,\"ok\":true}");
    subject_expect(&client, "{\"op\":\"ping\",\"id\":12}", "{\"id\":12,\"ok\":true}");
    snprintf(expected, sizeof(expected), "\"pid\":%d,", (int)subject.pid);
    subject_expect(&client, "{\"op\":\"stat\"}", expected);
    subject_expect(&client, "{\"op\":\"stat\"}", "\"table\":{\"version\":0,\"origin\":\"\"}");
    subject_expect(&client, "{\"op\":\"options\"}", "\"name\":\"control\"");
    subject_expect(&client, "{\"op\":\"policy.show\"}", "\"rules\":[]");
    subject_expect(&client, "{\"op\":\"policy.table\"}", "\"size\":0");
    subject_expect(&client, "{\"op\":\"rules\"}", "\"rule_count\":0");
    berth__client_close(&client);
}

static void wrong_requests_get_reasons(void **state)
{
    static const char *const pairs[][2] = {
        {"hello", "\"bad-json\""},
        {"{", "\"bad-json\""},
        {"{\"op\":\"ping\"} x", "\"bad-json\""},
        {"{\"op\":\"ping\",\"op\":\"stat\"}", "\"bad-json\""},
        {"\"\xff\xfe\"", "\"bad-json\""},
        {"[]", "\"bad-request\""},
        {"{}", "\"bad-request\""},
        {"{\"op\":1}", "\"bad-request\""},
        {"{\"op\":null,\"id\":3}", "{\"id\":3,\"ok\":false"},
        {"{\"op\":\"destroy\"}", "\"unknown-op\""},
        {"{\"op\":\"ping\\u0000\"}", "\"id\":null"},
        {"{\"op\":\"rules\",\"first\":-1}", "\"bad-request\""},
        {"{\"op\":\"rules\",\"first\":\"x\"}", "\"bad-request\""},
        {"{\"op\":\"policy.apply\"}", "\"no-descriptor\""},
        {"{\"op\":\"policy.patch\"}", "\"bad-request\""},
        {"{\"op\":\"policy.patch\",\"changes\":[]}", "\"bad-request\""},
        {"{\"op\":\"policy.patch\",\"changes\":[{\"rule\":\"x\",\"places\":[\"dram\"]}]}",
         "no policy is in force"},
    };
    struct berth_client client;

    subject_connect(&subject, &client);
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        subject_expect(&client, pairs[i][0], pairs[i][1]);
    subject_expect(&client, "{\"op\":\"ping\"}", "\"ok\":true");
    berth__client_close(&client);
}

static void deep_json_is_refused(void **state)
{
    struct berth_client client;
    size_t depth = 500000;
    char *request = malloc(depth + 1);

    assert_non_null(request);
    memset(request, '[', depth);
    request[depth] = '\0';
    subject_connect(&subject, &client);
    subject_expect(&client, request, "\"bad-json\"");
    berth__client_close(&client);
    free(request);
    expect_service();
}

static void a_frame_of_2_mib_is_refused_and_the_next_is_served(void **state)
{
    struct berth_client client;
    size_t size = (size_t)2 << 20;
    char *request = malloc(size + 1);

    assert_non_null(request);
    memset(request, ' ', size);
    request[size] = '\0';
    subject_connect(&subject, &client);
    subject_expect(&client, request, "\"frame-too-long\"");
    subject_expect(&client, "{\"op\":\"ping\"}", "\"ok\":true");
    berth__client_close(&client);
    free(request);
}

static void a_client_that_half_closes_still_gets_its_answers(void **state)
{
    static const char requests[] = "{\"op\":\"ping\",\"id\":1}\n{\"op\":\"ping\",\"id\":2}\nrest";
    int fd = subject_connect_plainly(&subject);
    char text[2048];
    size_t used = 0;
    ssize_t n;

    assert_true(fd >= 0);
    assert_int_equal(write(fd, requests, sizeof(requests) - 1), sizeof(requests) - 1);
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    while ((n = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
        used += (size_t)n;
    assert_int_equal(n, 0);
    text[used] = '\0';
    assert_non_null(strstr(text, "{\"id\":1,\"ok\":true}\n{\"id\":2,\"ok\":true}\n"));
    close(fd);
}

static void a_client_killed_in_mid_frame_harms_nobody(void **state)
{
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
            int fd = subject_connect_plainly(&subject);

            if (fd < 0 || write(fd, "{\"op\":\"st", 9) != 9)
                _exit(1);
            raise(SIGKILL);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
    }
    expect_service();
}

/* Reads a line; -1 at the end. */
static int read_line(int fd, char *line, size_t size)
{
    size_t used = 0;

    while (used + 1 < size && read(fd, line + used, 1) == 1)
        if (line[used++] == '\n')
            break;
    line[used] = '\0';
    return used > 0 ? 0 : -1;
}

static void of_hundreds_of_clients_some_are_served_and_the_rest_told_why(void **state)
{
    enum { CLIENTS = 300 };
    int fd[CLIENTS];
    int served = 0, refused = 0;

    for (int i = 0; i < CLIENTS; i++) {
        char line[1024];

        fd[i] = subject_connect_plainly(&subject);
        assert_true(fd[i] >= 0);
        assert_int_equal(read_line(fd[i], line, sizeof(line)), 0);
        if (strstr(line, "\"protocol\":1"))
            served++;
        else if (strstr(line, "\"busy\""))
            refused++;
    }
    assert_int_equal(served, 32);
    assert_int_equal(refused, CLIENTS - 32);
    /* One that has a place is answered while the others wait. */
    assert_int_equal(write(fd[0], "{\"op\":\"ping\"}\n", 14), 14);
    {
        char line[1024];

        assert_int_equal(read_line(fd[0], line, sizeof(line)), 0);
        assert_string_equal(line, "{\"id\":null,\"ok\":true}\n");
    }
    for (int i = 0; i < CLIENTS; i++)
        close(fd[i]);
    /* Their places are free as soon as the server has seen that they are gone. */
    for (int tries = 0;; tries++) {
        char line[1024];
        int again = subject_connect_plainly(&subject);

        assert_true(again >= 0);
        assert_int_equal(read_line(again, line, sizeof(line)), 0);
        close(again);
        if (strstr(line, "\"protocol\":1"))
            break;
        assert_true(tries < 1000);
        poll(NULL, 0, 5);
    }
    expect_service();
}

static void clients_that_never_read_cost_bounded_memory_and_delay_nobody(void **state)
{
    enum { CLIENTS = 20 };
    static const char request[] = "{\"op\":\"stat\"}\n";
    int fd[CLIENTS];
    char path[64];
    long resident = 0;
    FILE *file;

    for (int i = 0; i < CLIENTS; i++) {
        fd[i] = subject_connect_plainly(&subject);
        assert_true(fd[i] >= 0);
    }
    /* Each sends until the server takes no more from it: its answers have piled up. */
    for (int i = 0; i < CLIENTS; i++)
        for (int sent = 0; sent < 200000; sent++)
            if (send(fd[i], request, sizeof(request) - 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
                struct pollfd entry = {.fd = fd[i], .events = POLLOUT};

                assert_int_equal(errno, EAGAIN);
                if (poll(&entry, 1, 100) == 0)
                    break;
            }
    expect_service();
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)subject.pid);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %ld", &resident), 1);
    fclose(file);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* Per client a queue of 1 MiB, doubled while it grew, and what it sent. */
    assert_true(resident * sysconf(_SC_PAGESIZE) < (long)CLIENTS * (5 << 20));
#endif
    for (int i = 0; i < CLIENTS; i++)
        close(fd[i]);
    expect_service();
}

static void the_program_does_not_see_the_socket(void **state)
{
    struct berth_client client;

    subject_connect(&subject, &client);
    assert_true(subject_tell(&subject, 'o'));
    berth__client_close(&client);
}

static void a_program_that_closes_everything_keeps_its_socket(void **state)
{
    struct berth_client client;

    subject_connect(&subject, &client);
    assert_true(subject_tell(&subject, 'd'));
    subject_expect(&client, "{\"op\":\"stat\"}", "\"ok\":true");
    berth__client_close(&client);
    expect_service();
}

static void a_forked_child_starts_its_own_and_leaves_the_parents(void **state)
{
    struct berth_client client;

    subject_connect(&subject, &client);
    assert_true(subject_tell(&subject, 'f'));
    subject_expect(&client, "{\"op\":\"ping\"}", "\"ok\":true");
    assert_true(subject_has_name(&subject));
    berth__client_close(&client);
    expect_service();
}

static void forks_while_clients_are_served(void **state)
{
    struct berth_client client;
    pid_t pid = fork();
    int status;

    assert_true(pid >= 0);
    if (pid == 0) {
        char *hello = NULL, *reply = NULL;

        if (berth__client_connect(&client, subject.directory, subject.name, 20000, &hello) < 0)
            _exit(1);
        for (int i = 0; i < 2000; i++)
            if (berth__client_request(&client, "{\"op\":\"stat\"}", -1, 20000, &reply) < 0)
                _exit(2);
        _exit(0);
    }
    assert_true(subject_tell(&subject, 'F'));
    assert_true(subject_tell(&subject, 'f'));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void exit_takes_the_name_away_and_kill_leaves_it(void **state)
{
    struct subject other;

    assert_true(subject_has_name(&subject));
    assert_int_equal(write(subject.commands, "x", 1), 1);
    assert_int_equal(subject_wait(&subject), 0);
    assert_false(subject_has_name(&subject));

    subject_start(&other, directory);
    kill(other.pid, SIGKILL);
    assert_true(WIFSIGNALED(subject_wait(&other)));
    assert_true(subject_has_name(&other));
}

static void a_program_whose_first_thread_ends_still_ends(void **state)
{
#ifdef __SANITIZE_THREAD__
    skip(); /* the race detector has a thread of its own in every program */
#endif
    assert_true(subject_tell(&subject, 'p'));
    expect_service();
    /* The second thread ends when it has no more commands; then nothing of the program is left. */
    close(subject.commands);
    subject.commands = dup(subject.answers);
    assert_int_equal(subject_wait(&subject), 0);
    assert_false(subject_has_name(&subject));
}

static void the_threads_end_and_start_again_without_a_descriptor(void **state)
{
    struct berth_client client;

    subject_connect(&subject, &client);
    for (int i = 0; i < 5; i++)
        assert_true(subject_tell(&subject, 'z'));
    berth__client_close(&client);
    expect_service();
}

/* A shell that closes one and puts another there would have lost that to who closed it after. */
static void no_number_of_the_programs_descriptors_is_used_to_begin(void **state)
{
    struct berth_client client;

    assert_true(subject_tell(&subject, 'b'));
    subject_connect_later(&subject, &client);
    berth__client_close(&client);
}

static void the_program_gets_all_of_its_signals(void **state)
{
    struct berth_client client;

    subject_connect(&subject, &client);
    assert_true(subject_tell(&subject, 'u'));
    berth__client_close(&client);
    expect_service();
}

static void the_threads_end_and_start_amid_others(void **state)
{
    assert_true(subject_tell(&subject, 'Z'));
    expect_service();
}

static void without_descriptors_the_server_waits_for_some(void **state)
{
    struct berth_client client;
    int fd[16];

    subject_connect(&subject, &client);
    assert_true(subject_tell(&subject, 'l'));
    for (int i = 0; i < 16; i++)
        fd[i] = subject_connect_plainly(&subject);
    subject_expect(&client, "{\"op\":\"ping\"}", "\"ok\":true");
    for (int i = 0; i < 16; i++)
        close(fd[i]);
    berth__client_close(&client);
    expect_service();
}

static void without_jansson_the_answer_says_so(void **state)
{
    struct berth_client client;

    if (geteuid() != 0)
        skip(); /* shutting the subject in, away from the library, needs root */
    subject_connect(&subject, &client);
    assert_true(subject_tell(&subject, 'r'));
    subject_expect(&client, "{\"op\":\"ping\"}", "\"no-jansson\"");
    subject_expect(&client, "{\"op\":\"ping\"}", "\"no-jansson\"");
    berth__client_close(&client);
}

static int make_directory(void **state)
{
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    subject_remove_directory(directory);
    return 0;
}

#define WITH_SUBJECT(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SUBJECT(a_client_is_greeted_and_answered),
        WITH_SUBJECT(wrong_requests_get_reasons),
        WITH_SUBJECT(deep_json_is_refused),
        WITH_SUBJECT(a_frame_of_2_mib_is_refused_and_the_next_is_served),
        WITH_SUBJECT(a_client_that_half_closes_still_gets_its_answers),
        WITH_SUBJECT(a_client_killed_in_mid_frame_harms_nobody),
        WITH_SUBJECT(of_hundreds_of_clients_some_are_served_and_the_rest_told_why),
        WITH_SUBJECT(clients_that_never_read_cost_bounded_memory_and_delay_nobody),
        WITH_SUBJECT(the_program_does_not_see_the_socket),
        WITH_SUBJECT(a_program_that_closes_everything_keeps_its_socket),
        WITH_SUBJECT(a_forked_child_starts_its_own_and_leaves_the_parents),
        WITH_SUBJECT(forks_while_clients_are_served),
        WITH_SUBJECT(exit_takes_the_name_away_and_kill_leaves_it),
        WITH_SUBJECT(a_program_whose_first_thread_ends_still_ends),
        WITH_SUBJECT(the_threads_end_and_start_again_without_a_descriptor),
        WITH_SUBJECT(no_number_of_the_programs_descriptors_is_used_to_begin),
        WITH_SUBJECT(the_program_gets_all_of_its_signals),
        WITH_SUBJECT(the_threads_end_and_start_amid_others),
        WITH_SUBJECT(without_descriptors_the_server_waits_for_some),
        WITH_SUBJECT(without_jansson_the_answer_says_so),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
