/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/ipc/subject.h"

#include "alloc/options.h"
#include "ipc/control.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Long enough for a sanitizer on a busy machine; a test that needs it fails. */
#define PATIENCE_MS 20000

static int command_pipe, answer_pipe;

static bool is_socket(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* In the subject: what is open, as the program sees it. */
static bool descriptors_are_its_own(void)
{
    int lowest = dup(0);
    bool good = true;

    for (int fd = 0; fd < 1024; fd++) {
        if (is_socket(fd))
            good = false;
        if (fd < lowest && fcntl(fd, F_GETFD) < 0)
            good = false;
    }
    close(lowest);
    return good;
}

static bool close_all(void)
{
    for (int fd = 3; fd < 1024; fd++)
        if (fd != command_pipe && fd != answer_pipe)
            close(fd);
    return true;
}

/* Talks to this very process's socket. */
static bool talks_to_itself(void)
{
    char directory[PATH_MAX], name[BERTH_ADDRESS_NAME_MAX], why[BERTH_ADDRESS_WHY_MAX];
    struct berth_client client;
    uint64_t start = 0;
    char *text = NULL;
    int r = -1;

    if (berth__address_start(0, &start, NULL) < 0 ||
        berth__address_directory(geteuid(), getenv("XDG_RUNTIME_DIR"), false, directory, why) < 0)
        return false;
    berth__address_name(getpid(), start, name);
    for (int tries = 0; r < 0 && tries < PATIENCE_MS / 5; tries++) {
        r = berth__client_connect(&client, directory, name, PATIENCE_MS, &text);
        if (r < 0)
            poll(NULL, 0, 5);
    }
    if (r < 0)
        return false;
    free(text);
    r = berth__client_request(&client, "{\"op\":\"ping\",\"id\":7}", -1, PATIENCE_MS, &text);
    berth__client_close(&client);
    if (r < 0)
        return false;
    r = strcmp(text, "{\"id\":7,\"ok\":true}");
    free(text);
    return r == 0;
}

static int count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    int count = 0;

    while (tasks && readdir(tasks))
        count++;
    if (tasks)
        closedir(tasks);
    return count - 2;
}

/*
 * Asked by the leak checker, where there is one: what only the stack of a thread held is reachable
 * no more once the first thread has ended, or in a forked child.
 */
int __lsan_is_turned_off(void);

static bool pointers_are_lost;

int __lsan_is_turned_off(void)
{
    return pointers_are_lost;
}

static bool child_has_its_own(void)
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        bool alone = count_threads() == 1;

        pointers_are_lost = true;
        berth__control_start();
        exit(alone && talks_to_itself() ? 0 : 1);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool fork_often(void)
{
    for (int i = 0; i < 200; i++) {
        pid_t pid = fork();
        int status = 0;

        if (pid == 0)
            _exit(0);
        if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
            return false;
    }
    return true;
}

static bool shut_in(void)
{
    char directory[PATH_MAX];

    snprintf(directory, sizeof(directory), "%s/empty", getenv("XDG_RUNTIME_DIR"));
    return mkdir(directory, 0700) == 0 && chroot(directory) == 0 && chdir("/") == 0;
}

static bool limit_descriptors(void)
{
    const struct rlimit limit = {8, 8};

    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

#define SPARE_DESCRIPTORS 64

/* Takes every number up to a limit; how many these were. */
static int use_up_descriptors(int taken[SPARE_DESCRIPTORS])
{
    struct rlimit limit;
    int count = 0;

    taken[0] = dup(0);
    if (taken[0] < 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    limit.rlim_cur = (rlim_t)taken[0] + SPARE_DESCRIPTORS;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        return 0;
    while (taken[count] >= 0 && ++count < SPARE_DESCRIPTORS)
        taken[count] = dup(0);
    return count;
}

static bool is_alone_for_a_while(void)
{
    int taken[SPARE_DESCRIPTORS];
    int count = use_up_descriptors(taken);
    bool ended = count > 0 && dup(0) < 0 && berth__control_pause();

    while (count > 0)
        close(taken[--count]);
#ifndef __SANITIZE_THREAD__ /* which has threads of its own, now and then */
    ended = ended && count_threads() == 1;
#endif
    if (!ended)
        return false;
    return berth__control_start() == 0 && talks_to_itself();
}

/* They need none of the program's. */
static bool begins_without_descriptors(void)
{
    int taken[SPARE_DESCRIPTORS];

    return use_up_descriptors(taken) > 0 && dup(0) < 0 && berth__control_pause() &&
           berth__control_start() == 0;
}

/* Whichever number the bell has. The socket thread has come by in between. */
static bool keeps_its_signals(void)
{
    const struct timespec at_once = {0};
    sigset_t one, before;
    bool kept = true;

    for (int number = 1; kept && number <= SIGRTMAX; number++) {
        if (number == SIGKILL || number == SIGSTOP || (number >= __SIGRTMIN && number < SIGRTMIN))
            continue;
        sigemptyset(&one);
        sigaddset(&one, number);
        pthread_sigmask(SIG_BLOCK, &one, &before);
        kept = kill(getpid(), number) == 0 && talks_to_itself() &&
               sigtimedwait(&one, NULL, &at_once) == number;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    return kept;
}

static atomic_bool enough;

static void *pause_often(void *ended)
{
    for (int i = 0; i < 1500; i++)
        *(int *)ended += berth__control_pause();
    return NULL;
}

static void *wake_always(void *unused)
{
    (void)unused;
    while (!enough) {
        berth__control_start();
        berth__control_wake();
        sched_yield();
    }
    return NULL;
}

static bool pauses_at_once(void)
{
    pthread_t pausing, waking;
    int ended[2] = {0, 0};

    enough = false;
    if (pthread_create(&waking, NULL, wake_always, NULL) != 0 ||
        pthread_create(&pausing, NULL, pause_often, &ended[0]) != 0)
        return false;
    pause_often(&ended[1]);
    pthread_join(pausing, NULL);
    enough = true;
    pthread_join(waking, NULL);
    return ended[0] + ended[1] > 0 && berth__control_start() == 0 && talks_to_itself();
}

/*
 * Asked by the race detector, where there is one. It takes descriptors of one number for the same
 * one, whichever thread's table they are in: what opens and closes them in the socket's own table
 * is no race. A forked child that starts threads is what is tested here.
 */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_options(void);

const char *__tsan_default_suppressions(void)
{
    return "race:listen_at\nrace:watch_listener\nrace:accept_one\nrace:prepare_wait\n"
           "race:client_close\nrace:client_read\nrace:client_flush\nrace:berth__server_step\n"
           "race:berth__descriptors_leave\nrace:berth__descriptors_program_ended\n"
           "race:berth__address_make\nrace:berth__passed_*\n"
           "race:berth__address_answers\nrace:berth__leftovers_sweep\n"
           "race:berth__user_map_outer\n";
}

const char *__tsan_default_options(void)
{
    return "die_after_fork=0";
}

static void *obey(void *unused);

static bool end_first_thread(void)
{
    pthread_t thread;

    pointers_are_lost = true;
    return pthread_create(&thread, NULL, obey, NULL) == 0;
}

static void *obey(void *unused)
{
    char command;

    while (read(command_pipe, &command, 1) == 1) {
        bool good = false;

        switch (command) {
        case 'b':
            good = begins_without_descriptors();
            break;
        case 'd':
            good = close_all();
            break;
        case 'f':
            good = child_has_its_own();
            break;
        case 'F':
            good = fork_often();
            break;
        case 'l':
            good = limit_descriptors();
            break;
        case 'o':
            good = descriptors_are_its_own();
            break;
        case 'p':
            good = end_first_thread();
            break;
        case 'r':
            good = shut_in();
            break;
        case 'u':
            good = keeps_its_signals();
            break;
        case 'z':
            good = is_alone_for_a_while();
            break;
        case 'Z':
            good = pauses_at_once();
            break;
        default:
            exit(0);
        }
        if (write(answer_pipe, good ? "y" : "n", 1) != 1)
            exit(1);
        if (command == 'p')
            pthread_exit(NULL);
    }
    return NULL;
}

static void run_subject(const char *directory)
{
    char why[BERTH_OPTION_WHY_MAX];

    setenv("XDG_RUNTIME_DIR", directory, 1);
    if (berth__option_set("control", 7, "always", 6, BERTH_ORIGIN_ENVIRONMENT, why) < 0)
        exit(1);
    berth__control_main_begun();
    obey(NULL);
    exit(0);
}

void subject_start_quietly(struct subject *subject, const char *directory)
{
    int commands[2], answers[2];

    assert_int_equal(pipe2(commands, O_CLOEXEC), 0);
    assert_int_equal(pipe2(answers, O_CLOEXEC), 0);
    memset(subject, 0, sizeof(*subject));
    subject->pid = fork();
    assert_true(subject->pid >= 0);
    if (subject->pid == 0) {
        close(commands[1]);
        close(answers[0]);
        command_pipe = commands[0];
        answer_pipe = answers[1];
        run_subject(directory);
    }
    close(commands[0]);
    close(answers[1]);
    subject->commands = commands[1];
    subject->answers = answers[0];
    snprintf(subject->directory, sizeof(subject->directory), "%s/berth", directory);
    assert_int_equal(berth__address_start(subject->pid, &subject->start, NULL), 0);
    berth__address_name(subject->pid, subject->start, subject->name);
}

void subject_start(struct subject *subject, const char *directory)
{
    struct berth_client client;

    subject_start_quietly(subject, directory);
    subject_connect_later(subject, &client);
    berth__client_close(&client);
}

bool subject_tell(struct subject *subject, char command)
{
    char answer = '?';

    assert_int_equal(write(subject->commands, &command, 1), 1);
    assert_int_equal(read(subject->answers, &answer, 1), 1);
    return answer == 'y';
}

int subject_wait(struct subject *subject)
{
    int status = -1;

    assert_int_equal(waitpid(subject->pid, &status, 0), subject->pid);
    close(subject->commands);
    close(subject->answers);
    subject->pid = 0;
    return status;
}

void subject_stop(struct subject *subject)
{
    char path[PATH_MAX + BERTH_ADDRESS_NAME_MAX];

    if (subject->pid <= 0)
        return;
    kill(subject->pid, SIGKILL);
    subject_wait(subject);
    snprintf(path, sizeof(path), "%s/%s", subject->directory, subject->name);
    unlink(path);
}

bool subject_has_name(const struct subject *subject)
{
    char path[PATH_MAX + BERTH_ADDRESS_NAME_MAX];
    struct stat st;

    snprintf(path, sizeof(path), "%s/%s", subject->directory, subject->name);
    return lstat(path, &st) == 0;
}

void subject_connect(const struct subject *subject, struct berth_client *client)
{
    char *hello = NULL;

    assert_int_equal(
        berth__client_connect(client, subject->directory, subject->name, PATIENCE_MS, &hello), 0);
    assert_non_null(strstr(hello, "\"protocol\":1"));
    free(hello);
}

void subject_connect_later(const struct subject *subject, struct berth_client *client)
{
    char *hello = NULL;
    int r = -1;

    for (int tries = 0; r < 0 && tries < PATIENCE_MS / 5; tries++) {
        r = berth__client_connect(client, subject->directory, subject->name, PATIENCE_MS, &hello);
        if (r < 0)
            poll(NULL, 0, 5);
    }
    assert_int_equal(r, 0);
    free(hello);
}

int subject_connect_plainly(const struct subject *subject)
{
    struct sockaddr_un address;
    int directory_fd, fd;

    assert_int_equal(
        berth__address_make(subject->directory, subject->name, &address, &directory_fd), 0);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        close(fd);
        fd = -1;
    }
    if (directory_fd >= 0)
        close(directory_fd);
    return fd;
}

void subject_expect_with(struct berth_client *client, int fd, const char *request,
                         const char *expected)
{
    char *reply = NULL;

    assert_int_equal(berth__client_request(client, request, fd, PATIENCE_MS, &reply), 0);
    if (!strstr(reply, expected))
        fail_msg("asked %.200s: expected %s in %.1000s", request, expected, reply);
    free(reply);
}

void subject_expect(struct berth_client *client, const char *request, const char *expected)
{
    subject_expect_with(client, -1, request, expected);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    return remove(path);
}

void subject_remove_directory(const char *directory)
{
    nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
