/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a program never notices that Berth wrote a line, whatever its stderr is: no signal, no
 * wait, nothing among its data. Method: each test is a process whose stderr is made such.
 */
#include "../child_fixture.h"
#include "alloc/log_output.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define LINE "berth[1]: tier: a line\n"
/* A test that waits for ever ends so, and has failed. */
#define BOUND_SECONDS 60

static void write_line(void)
{
    berth__log_output(LINE, strlen(LINE));
}

static bool is_pending(int number)
{
    sigset_t set;

    sigpending(&set);
    return sigismember(&set, number);
}

/* What can be read of it at once. */
static size_t read_all(int fd, char *ret, size_t size)
{
    size_t done = 0;
    ssize_t n;

    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (done < size - 1 && (n = read(fd, ret + done, size - 1 - done)) > 0)
        done += (size_t)n;
    ret[done] = '\0';
    return done;
}

static int temporary_file(void)
{
    char path[] = "log-output-XXXXXX";
    int fd = mkstemp(path);

    CHECK(fd >= 0);
    unlink(path);
    return fd;
}

static void fill(int fd)
{
    char bytes[4096] = {0};
    int flags = fcntl(fd, F_GETFL);

    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    while (write(fd, bytes, sizeof(bytes)) > 0)
        ;
    fcntl(fd, F_SETFL, flags);
}

static void to_pipe(void)
{
    char got[64];
    int ends[2];

    CHECK(pipe(ends) == 0 && dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    write_line();
    CHECK(read_all(ends[0], got, sizeof(got)) == strlen(LINE) && strcmp(got, LINE) == 0);
}

static void a_pipe_gets_the_line(void **state)
{
    (void)state;
    in_child(to_pipe);
}

static void to_nobody(void)
{
    int ends[2];

    CHECK(pipe(ends) == 0 && dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    close(ends[0]);
    write_line();
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    close(ends[0]);
    write_line();
}

static void nobody_who_reads_is_no_signal(void **state)
{
    (void)state;
    in_child(to_nobody);
}

static void to_full(void)
{
    int ends[2];

    alarm(BOUND_SECONDS);
    CHECK(pipe(ends) == 0 && dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    fill(STDERR_FILENO);
    write_line();
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    CHECK(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
    fill(STDERR_FILENO);
    write_line();
}

static void nobody_is_waited_for(void **state)
{
    (void)state;
    in_child(to_full);
}

static void to_stopped_terminal(void)
{
    int terminal, program;

    alarm(BOUND_SECONDS);
    CHECK(openpty(&terminal, &program, NULL, NULL, NULL) == 0);
    CHECK(dup2(program, STDERR_FILENO) == STDERR_FILENO);
    fill(STDERR_FILENO);
    write_line();
}

static void a_full_terminal_is_not_waited_for(void **state)
{
    (void)state;
    in_child(to_stopped_terminal);
}

static void limit_files(rlim_t size)
{
    const struct rlimit limit = {size, size};

    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void to_limited(void)
{
    CHECK(dup2(temporary_file(), STDERR_FILENO) == STDERR_FILENO);
    limit_files(0);
    write_line();
    CHECK(!is_pending(SIGXFSZ));
}

static void a_file_that_may_not_grow_is_no_signal(void **state)
{
    (void)state;
    in_child(to_limited);
}

/* The same, where the program has such a signal pending, which it must still get. */
static void to_limited_again(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    sigaddset(&set, SIGPIPE);
    CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    raise(SIGXFSZ);
    to_pipe();
    CHECK(dup2(temporary_file(), STDERR_FILENO) == STDERR_FILENO);
    limit_files(0);
    write_line();
    CHECK(is_pending(SIGXFSZ) && !is_pending(SIGPIPE));
    CHECK(sigprocmask(SIG_BLOCK, NULL, &set) == 0 && sigismember(&set, SIGPIPE) &&
          sigismember(&set, SIGXFSZ) && !sigismember(&set, SIGTTOU));
}

static void what_was_pending_stays_so(void **state)
{
    (void)state;
    in_child(to_limited_again);
}

/* What is behind descriptor 2 once the program has put `fd` there, and Berth has written. */
static off_t size_after(int fd)
{
    close(STDERR_FILENO);
    CHECK(dup2(fd, STDERR_FILENO) == STDERR_FILENO);
    write_line();
    return lseek(fd, 0, SEEK_END);
}

static void to_something_else(void)
{
    int data = temporary_file(), log = temporary_file(), terminal, program, ends[2];
    char got[64];

    berth__log_output_remember();
    CHECK(size_after(data) == 0);
    CHECK(pipe(ends) == 0);
    size_after(ends[1]);
    CHECK(read_all(ends[0], got, sizeof(got)) == 0);
    CHECK(fcntl(log, F_SETFL, O_APPEND) == 0);
    CHECK(size_after(log) == (off_t)strlen(LINE));
    CHECK(openpty(&terminal, &program, NULL, NULL, NULL) == 0);
    size_after(program);
    CHECK(read_all(terminal, got, sizeof(got)) == strlen(LINE) + 1); /* with a carriage return */
}

static void to_what_was_there(void)
{
    int log = temporary_file();

    CHECK(dup2(log, STDERR_FILENO) == STDERR_FILENO);
    berth__log_output_remember();
    CHECK(size_after(log) == (off_t)strlen(LINE));
}

/* A process that is started without a stderr: whatever it opens first is none. */
static void to_what_never_was(void)
{
    int data = temporary_file();

    close(STDERR_FILENO);
    berth__log_output_remember();
    CHECK(size_after(data) == 0);
    berth__log_output_remember();
    CHECK(size_after(data) == 0);
}

static void data_get_no_line(void **state)
{
    (void)state;
    in_child(to_something_else);
    in_child(to_what_was_there);
    in_child(to_what_never_was);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pipe_gets_the_line),
        cmocka_unit_test(nobody_who_reads_is_no_signal),
        cmocka_unit_test(nobody_is_waited_for),
        cmocka_unit_test(a_full_terminal_is_not_waited_for),
        cmocka_unit_test(a_file_that_may_not_grow_is_no_signal),
        cmocka_unit_test(what_was_pending_stays_so),
        cmocka_unit_test(data_get_no_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
