/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what is printed is one line, whatever is in it; what is not wanted is not printed; errno
 * stays. Method: stderr is a pipe whose other end is read.
 */
#include "alloc/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int ends[2];
static int real_stderr;
static char printed[8192];

static int begin(void **state)
{
    (void)state;
    if (pipe2(ends, O_NONBLOCK) < 0)
        return -1;
    real_stderr = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    berth__log_configure("warning");
    return 0;
}

static int end(void **state)
{
    (void)state;
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

/* What was printed since the last call, without "berth[PID]: ". */
static const char *read_printed(void)
{
    ssize_t n = read(ends[0], printed, sizeof(printed) - 1);
    char head[64];

    printed[n > 0 ? n : 0] = '\0';
    snprintf(head, sizeof(head), "berth[%d]: ", (int)getpid());
    if (n > 0 && strncmp(printed, head, strlen(head)) == 0)
        return printed + strlen(head);
    return printed;
}

static void a_warning_is_printed_by_default_and_info_is_not(void **state)
{
    (void)state;
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_TIER, "%s has %d", "it", 7);
    assert_string_equal(read_printed(), "tier: it has 7\n");
    berth__log(BERTH_LOG_ERROR, BERTH_TOPIC_IPC, "x");
    assert_string_equal(read_printed(), "ipc: x\n");
    berth__log(BERTH_LOG_INFO, BERTH_TOPIC_TIER, "x");
    assert_string_equal(read_printed(), "");
    berth__log_configure(NULL);
    berth__log_configure("");
    assert_string_equal(read_printed(), "");
    assert_true(berth__log_enabled(BERTH_LOG_WARNING, BERTH_TOPIC_CUDA));
    assert_false(berth__log_enabled(BERTH_LOG_INFO, BERTH_TOPIC_CUDA));
}

static void levels_are_per_topic(void **state)
{
    (void)state;
    berth__log_configure("none,site:debug,fork:info");
    assert_true(berth__log_enabled(BERTH_LOG_DEBUG, BERTH_TOPIC_SITE));
    assert_true(berth__log_enabled(BERTH_LOG_INFO, BERTH_TOPIC_FORK));
    assert_false(berth__log_enabled(BERTH_LOG_DEBUG, BERTH_TOPIC_FORK));
    assert_false(berth__log_enabled(BERTH_LOG_ERROR, BERTH_TOPIC_POOL));
    berth__log_configure("error");
    assert_false(berth__log_enabled(BERTH_LOG_WARNING, BERTH_TOPIC_SITE));
    assert_string_equal(read_printed(), "");
}

static void a_wrong_part_is_said_and_the_others_count(void **state)
{
    static const char *const wrong[] = {"loud",  "site:loud", "nowhere:info",
                                        ":info", "site:",     "Info"};

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char spec[64];

        berth__log_configure("warning");
        snprintf(spec, sizeof(spec), "%s,cuda:info", wrong[i]);
        berth__log_configure(spec);
        assert_non_null(strstr(read_printed(), "; expected "));
        assert_non_null(strchr(printed, '\n'));
        assert_true(berth__log_enabled(BERTH_LOG_INFO, BERTH_TOPIC_CUDA));
        assert_false(berth__log_enabled(BERTH_LOG_INFO, BERTH_TOPIC_SITE));
    }
}

static void each_level_and_topic_is_told(void **state)
{
    (void)state;
    berth__log_configure("loud");
    assert_string_equal(read_printed(), "options: BERTH_DEBUG: 'loud' is not known; expected none, "
                                        "error, warning, info or debug\n");
    berth__log_configure("nowhere:info");
    assert_non_null(strstr(read_printed(), "expected options, policy, tier, "));
    assert_non_null(strstr(printed, ", move or classifier\n"));
}

static void every_length_is_one_line(void **state)
{
    char text[BERTH_LOG_LINE_MAX * 2];

    (void)state;
    for (size_t length = BERTH_LOG_LINE_MAX - 40; length < BERTH_LOG_LINE_MAX + 40; length++) {
        size_t head, got;

        memset(text, 'a', length);
        text[length] = '\0';
        berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_TIER, "%s", text);
        head = (size_t)(read_printed() - printed) + strlen("tier: ");
        got = strlen(printed);
        assert_true(got <= BERTH_LOG_LINE_MAX);
        assert_int_equal(printed[got - 1], '\n');
        if (head + length + 1 <= BERTH_LOG_LINE_MAX) {
            assert_int_equal(got, head + length + 1);
            assert_int_equal(printed[got - 2], 'a');
        } else {
            assert_int_equal(got, BERTH_LOG_LINE_MAX);
            assert_memory_equal(printed + got - 4, "...", 3);
        }
    }
}

static void a_line_feed_in_a_name_makes_no_second_line(void **state)
{
    (void)state;
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_TIER, "path '%s'", "a\nberth: b\033[31m");
    assert_string_equal(read_printed(), "tier: path 'a?berth: b?[31m'\n");
}

static void once_is_once(void **state)
{
    _Atomic int said = 0;

    (void)state;
    for (int i = 0; i < 3; i++)
        berth__log_once(&said, BERTH_LOG_WARNING, BERTH_TOPIC_TIER, "again %d", i);
    assert_string_equal(read_printed(), "tier: again 0\n");
}

static void errno_stays_also_when_nobody_reads(void **state)
{
    int null;

    (void)state;
    errno = 4242;
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_TIER, "%s", strerror(EINVAL));
    assert_int_equal(errno, 4242);
    close(STDERR_FILENO);
    errno = 4242;
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_TIER, "lost");
    assert_int_equal(errno, 4242);
    null = open("/dev/full", O_WRONLY);
    assert_int_equal(null, STDERR_FILENO);
    errno = 4242;
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_TIER, "lost");
    assert_int_equal(errno, 4242);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(a_warning_is_printed_by_default_and_info_is_not),
        TEST(levels_are_per_topic),
        TEST(a_wrong_part_is_said_and_the_others_count),
        TEST(each_level_and_topic_is_told),
        TEST(every_length_is_one_line),
        TEST(a_line_feed_in_a_name_makes_no_second_line),
        TEST(once_is_once),
        TEST(errno_stays_also_when_nobody_reads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
