/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: a socket's name is read back as it was written and nothing else is, and a directory that
 * somebody else could have made or can write to is not used.
 */
#include "ipc/address.h"

#include "ipc/leftovers.h"
#include "ipc/user_map.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char root[] = "/tmp/berth-test-XXXXXX";

static const char *in_root(const char *name)
{
    static char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", root, name);
    return path;
}

static void names_are_read_back(void **state)
{
    static const char *const wrong[] = {"",
                                        "12",
                                        "12-34",
                                        "12-34.sock.",
                                        "-12-34.sock",
                                        "0-34.sock",
                                        "012-34.sock",
                                        "12-034.sock",
                                        "12--4.sock",
                                        "12-34.socks",
                                        " 12-34.sock",
                                        "x12-34.sock",
                                        "policy-0123456789abcdef.table",
                                        "12-99999999999999999999999.sock",
                                        "99999999999-1.sock"};
    char name[BERTH_ADDRESS_NAME_MAX];
    uint64_t start = 0;
    pid_t pid = 0;

    assert_string_equal(berth__address_name(4711, UINT64_MAX, name),
                        "4711-18446744073709551615.sock");
    assert_int_equal(berth__address_parse(name, &pid, &start), 0);
    assert_int_equal(pid, 4711);
    assert_true(start == UINT64_MAX);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_int_equal(berth__address_parse(wrong[i], &pid, &start), -EINVAL);
    assert_int_equal(pid, 4711);
}

static void only_a_closed_directory_of_ones_own_is_trusted(void **state)
{
    char why[BERTH_ADDRESS_WHY_MAX];
    uid_t uid = geteuid();
    FILE *file;

    assert_int_equal(berth__address_check(in_root("none"), uid, why), -ENOENT);
    assert_int_equal(mkdir(in_root("good"), 0700), 0);
    assert_int_equal(berth__address_check(in_root("good"), uid, why), 0);
    assert_int_equal(berth__address_check(in_root("good"), uid + 1, why), -EPERM);
    assert_non_null(strstr(why, "belongs to"));

    assert_int_equal(chmod(in_root("good"), 0710), 0);
    assert_int_equal(berth__address_check(in_root("good"), uid, why), -EPERM);
    assert_non_null(strstr(why, "open to others (mode 0710)"));
    assert_int_equal(chmod(in_root("good"), 0700), 0);

    assert_int_equal(symlink("good", in_root("link")), 0);
    assert_int_equal(berth__address_check(in_root("link"), uid, why), -EPERM);
    assert_non_null(strstr(why, "is not a directory"));

    file = fopen(in_root("file"), "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(berth__address_check(in_root("file"), uid, why), -EPERM);
}

static void the_runtime_directory_counts_only_if_it_is_ones_own(void **state)
{
    char directory[PATH_MAX], why[BERTH_ADDRESS_WHY_MAX], expected[PATH_MAX];
    uid_t uid = geteuid();

    setenv("XDG_RUNTIME_DIR", in_root("good"), 1);
    assert_int_equal(berth__address_directory(uid, getenv("XDG_RUNTIME_DIR"), true, directory, why),
                     0);
    assert_string_equal(directory, in_root("good/berth"));
    berth__address_fallback(uid, 0, expected);
    snprintf(directory, sizeof(directory), "/tmp/berth-%u", (unsigned)berth__user_map_outer(uid));
    assert_string_equal(directory, expected);
    /* Another one, where somebody has put something else there. */
    berth__address_directory(uid, NULL, false, directory, why);
    assert_int_equal(strncmp(directory, expected, strlen(expected)), 0);
    strcpy(expected, directory);
    setenv("XDG_RUNTIME_DIR", "relative", 1);
    berth__address_directory(uid, getenv("XDG_RUNTIME_DIR"), false, directory, why);
    assert_string_equal(directory, expected);
    setenv("XDG_RUNTIME_DIR", in_root("missing"), 1);
    berth__address_directory(uid, getenv("XDG_RUNTIME_DIR"), false, directory, why);
    assert_string_equal(directory, expected);
    setenv("XDG_RUNTIME_DIR", in_root("file"), 1);
    berth__address_directory(uid, getenv("XDG_RUNTIME_DIR"), false, directory, why);
    assert_string_equal(directory, expected);
}

static void start_times_tell_processes_apart(void **state)
{
    uint64_t own = 0, again = 0;
    char letter = 0;
    pid_t pid;

    assert_int_equal(berth__address_start(0, &own, &letter), 0);
    assert_int_equal(letter, 'R');
    assert_int_equal(berth__address_start(getpid(), &again, NULL), 0);
    assert_true(own == again && own != 0);
    pid = fork();
    if (pid == 0)
        _exit(0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(berth__address_start(pid, &again, NULL), -ESRCH);
    assert_true(again == own);
}

/* A socket with the name of a process that is gone; its descriptor. */
static int bind_as_dead(const char *directory, char name[BERTH_ADDRESS_NAME_MAX], pid_t *ret_pid)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int directory_fd = -1;

    *ret_pid = fork();
    if (*ret_pid == 0)
        _exit(0);
    assert_int_equal(waitpid(*ret_pid, NULL, 0), *ret_pid);
    berth__address_name(*ret_pid, 7, name);
    assert_int_equal(berth__address_make(directory, name, &address, &directory_fd), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void only_names_that_nobody_answers_to_are_removed(void **state)
{
    char directory[PATH_MAX], name[BERTH_ADDRESS_NAME_MAX];
    char path[PATH_MAX + BERTH_ADDRESS_NAME_MAX];
    pid_t pid;
    int fd;

    snprintf(directory, sizeof(directory), "%s", in_root("good"));
    fd = bind_as_dead(directory, name, &pid);
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    /* As if from another PID namespace: the number means nothing here, but somebody listens. */
    assert_int_equal(listen(fd, 1), 0);
    assert_false(berth__leftovers_still_runs(directory, name, pid, 7));
    assert_int_equal(access(path, F_OK), 0);
    close(fd);
    berth__leftovers_sweep(directory, 10);
    assert_int_equal(access(path, F_OK), -1);
}

/* Of a process in another PID namespace it may begin to listen just now. */
static void a_name_of_one_that_does_not_listen_yet_is_removed_when_it_is_old(void **state)
{
    const struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    char directory[PATH_MAX], name[BERTH_ADDRESS_NAME_MAX];
    char path[PATH_MAX + BERTH_ADDRESS_NAME_MAX];
    char unseen[sizeof(path) + sizeof(BERTH_ADDRESS_UNSEEN)];
    pid_t pid;

    snprintf(directory, sizeof(directory), "%s", in_root("good"));
    close(bind_as_dead(directory, name, &pid));
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    snprintf(unseen, sizeof(unseen), "%s" BERTH_ADDRESS_UNSEEN, path);
    assert_int_equal(rename(path, unseen), 0);
    berth__leftovers_sweep(directory, 10);
    assert_int_equal(access(unseen, F_OK), 0);
    assert_int_equal(utimensat(AT_FDCWD, unseen, long_ago, 0), 0);
    berth__leftovers_sweep(directory, 10);
    assert_int_equal(access(unseen, F_OK), -1);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    return remove(path);
}

static int remove_root(void **state)
{
    return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static int make_root(void **state)
{
    return mkdtemp(root) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_back),
        cmocka_unit_test(only_a_closed_directory_of_ones_own_is_trusted),
        cmocka_unit_test(the_runtime_directory_counts_only_if_it_is_ones_own),
        cmocka_unit_test(only_names_that_nobody_answers_to_are_removed),
        cmocka_unit_test(a_name_of_one_that_does_not_listen_yet_is_removed_when_it_is_old),
        cmocka_unit_test(start_times_tell_processes_apart),
    };

    return cmocka_run_group_tests(tests, make_root, remove_root);
}
