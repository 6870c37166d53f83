/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whoever finds a socket's name is not turned away: it has the name from when it listens, and
 * nothing else is left behind, however opening it ends.
 * Method: a client tries at each call that opening a server makes (--wrap, meson.build).
 */
#include "ipc/client.h"
#include "ipc/server.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define NAME "1-2.sock"

static char directory[] = "/tmp/berth-test-XXXXXX";
static struct berth_server server;

/* What a client of the moment is told at each call: 0, or negative errno. */
static struct {
    unsigned calls;
    bool is_refused;
    int listen_error; /* what listen() is to fail with, or 0 */
} seen;

static int try(void)
{
    struct sockaddr_un address;
    int directory_fd;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = berth__address_make(directory, NAME, &address, &directory_fd);

    assert_true(fd >= 0 && r == 0 && directory_fd < 0);
    r = connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static void look(void)
{
    int saved_errno = errno;

    seen.calls++;
    seen.is_refused = seen.is_refused || try() == -ECONNREFUSED;
    errno = saved_errno;
}

int __real_berth__bind(int fd, const struct sockaddr *address, socklen_t size);
int __wrap_berth__bind(int fd, const struct sockaddr *address, socklen_t size);
int __real_listen(int fd, int backlog);
int __wrap_listen(int fd, int backlog);
int __real_berth__chmod(const char *path, mode_t mode);
int __wrap_berth__chmod(const char *path, mode_t mode);

int __wrap_berth__bind(int fd, const struct sockaddr *address, socklen_t size)
{
    int r = __real_berth__bind(fd, address, size);

    look();
    return r;
}

int __wrap_berth__chmod(const char *path, mode_t mode)
{
    look();
    return __real_berth__chmod(path, mode);
}

int __wrap_listen(int fd, int backlog)
{
    int r;

    look();
    if (seen.listen_error) {
        errno = seen.listen_error;
        return -1;
    }
    r = __real_listen(fd, backlog);
    look();
    return r;
}

static void answer(void *context, struct berth_exchange *exchange)
{
    (void)context;
    (void)exchange;
}

static int open_server(struct berth_server *ret)
{
    const struct berth_server_config config = {
        .directory = directory, .name = NAME, .hello = "hello\n", .answer = answer};

    memset(&seen, 0, offsetof(typeof(seen), listen_error));
    return berth__server_open(ret, &config);
}

static unsigned count_names(void)
{
    DIR *stream = opendir(directory);
    unsigned count = 0;

    assert_non_null(stream);
    for (const struct dirent *entry; (entry = readdir(stream));)
        count += entry->d_name[0] != '.';
    closedir(stream);
    return count;
}

static void put_path(char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s", directory, NAME);
}

static void unlink_name(void)
{
    char path[PATH_MAX];

    put_path(path);
    assert_int_equal(unlink(path), 0);
}

static void nobody_is_turned_away_while_it_opens(void **state)
{
    (void)state;
    assert_int_equal(open_server(&server), 0);
    assert_true(seen.calls >= 4 && !seen.is_refused);
    assert_int_equal(try(), 0);
    assert_int_equal(count_names(), 1);
    berth__server_close(&server);
    unlink_name();
}

static void its_name_is_closed_to_others_and_open_to_its_owner(void **state)
{
    mode_t mask = umask(0777);
    char path[PATH_MAX];
    struct stat st;

    (void)state;
    assert_int_equal(open_server(&server), 0);
    umask(mask);
    put_path(path);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(st.st_mode, S_IFSOCK | 0600);
    assert_true(st.st_ino == server.inode && st.st_dev == server.device);
    berth__server_close(&server);
    unlink_name();
}

static void a_dead_name_is_replaced_and_a_living_one_stays(void **state)
{
    static struct berth_server second;

    (void)state;
    assert_int_equal(open_server(&server), 0);
    assert_int_equal(open_server(&second), -EADDRINUSE);
    assert_int_equal(count_names(), 1);
    assert_int_equal(try(), 0);
    berth__server_close(&server);
    assert_int_equal(try(), -ECONNREFUSED);
    assert_int_equal(open_server(&second), 0);
    assert_int_equal(try(), 0);
    berth__server_close(&second);
    unlink_name();
}

/* An image that called exec() in the wrong moment has left the other name. */
static void what_an_earlier_attempt_left_is_no_hindrance(void **state)
{
    char from[PATH_MAX], to[PATH_MAX + sizeof(BERTH_ADDRESS_UNSEEN)];

    (void)state;
    assert_int_equal(open_server(&server), 0);
    berth__server_close(&server);
    put_path(from);
    snprintf(to, sizeof(to), "%s" BERTH_ADDRESS_UNSEEN, from);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(open_server(&server), 0);
    assert_int_equal(count_names(), 1);
    berth__server_close(&server);
    unlink_name();
}

static void one_that_cannot_listen_leaves_nothing(void **state)
{
    (void)state;
    seen.listen_error = ENOBUFS;
    assert_int_equal(open_server(&server), -ENOBUFS);
    seen.listen_error = 0;
    assert_int_equal(count_names(), 0);
}

static int make_directory(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
    (void)state;
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_turned_away_while_it_opens),
        cmocka_unit_test(its_name_is_closed_to_others_and_open_to_its_owner),
        cmocka_unit_test(a_dead_name_is_replaced_and_a_living_one_stays),
        cmocka_unit_test(what_an_earlier_attempt_left_is_no_hindrance),
        cmocka_unit_test(one_that_cannot_listen_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
