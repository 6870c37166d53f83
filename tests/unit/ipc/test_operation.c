/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: tables come in whole and sealed or not at all, changes are made all or none, and what was
 * in force stays when they are refused.
 * Method: a subject process gets tables of the builder's, and descriptors of every wrong kind.
 */
#include "alloc/stats.h"
#include "ipc/base64.h"
#include "pmem/table_build.h"
#include "tests/unit/ipc/subject.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define ALL_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static char directory[] = "/tmp/berth-test-XXXXXX";
static struct subject subject;
static struct berth_client client;

static int start(void **state)
{
    subject_start(&subject, directory);
    subject_connect(&subject, &client);
    return 0;
}

static int stop(void **state)
{
    berth__client_close(&client);
    subject_stop(&subject);
    return 0;
}

static int memory_file(const void *bytes, size_t size, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

/* A table of `count` rules r0, r1, ... that place weights in dram and then in tier `small`. */
static void *build(unsigned count, size_t *ret_size)
{
    static const char *const places[] = {"dram", "small"};
    const struct berth_tier_config tier = {.name = "small",
                                           .kind = BERTH_KIND_DRAM,
                                           .path = "",
                                           .capacity = 1 << 20,
                                           .fork_copy_max = UINT64_MAX};
    struct berth_table_draft *draft = berth__draft_new();
    char why[512], name[32];
    void *bytes = NULL;

    assert_non_null(draft);
    assert_int_equal(berth__draft_add_tier(draft, &tier, 1), 0);
    for (unsigned i = 0; i < count; i++) {
        const struct berth_rule_info rule = {.name = name,
                                             .side = BERTH_SIDE_BOTH,
                                             .tags = 1u << BERTH_TAG_WEIGHT,
                                             .pattern = "",
                                             .thread = "",
                                             .min_size = 65536,
                                             .max_size = UINT64_MAX,
                                             .sequence_last = UINT64_MAX,
                                             .place_count = 2,
                                             .line = i + 2};

        snprintf(name, sizeof(name), "r%u", i);
        assert_int_equal(berth__draft_add_rule(draft, &rule, places), 0);
    }
    if (berth__draft_finish(draft, &bytes, ret_size, why, sizeof(why)) < 0)
        fail_msg("%s", why);
    berth__draft_free(draft);
    return bytes;
}

static void apply_rules(unsigned count, const char *request, const char *expected)
{
    size_t size = 0;
    void *bytes = build(count, &size);
    int fd = memory_file(bytes, size, ALL_SEALS);

    subject_expect_with(&client, fd, request, expected);
    close(fd);
    free(bytes);
}

static void a_table_is_applied_and_shown(void **state)
{
    apply_rules(2, "{\"op\":\"policy.apply\",\"id\":1,\"origin\":\"here\"}",
                "{\"id\":1,\"ok\":true,\"version\":1}");
    subject_expect(&client, "{\"op\":\"stat\"}", "\"table\":{\"version\":1,\"origin\":\"here\"}");
    subject_expect(&client, "{\"op\":\"stat\"}", "\"rule_count\":2");
    subject_expect(&client, "{\"op\":\"rules\",\"first\":1}", "\"rules\":[{\"name\":\"r1\"");
    subject_expect(&client, "{\"op\":\"policy.show\"}", "\"places\":[\"dram\",\"small\"]");
    subject_expect(&client, "{\"op\":\"policy.show\"}", "\"capacity\":1048576");
    subject_expect(&client, "{\"op\":\"policy.show\",\"first_rule\":2}", "\"rules\":[]");
    apply_rules(1, "{\"op\":\"policy.apply\"}", "\"version\":2");
    subject_expect(&client, "{\"op\":\"stat\"}", "\"origin\":\"agent\"");
}

static void only_sealed_memory_files_with_a_table_are_taken(void **state)
{
    static const char apply[] = "{\"op\":\"policy.apply\"}";
    char noise[4096];
    size_t size = 0;
    void *bytes = build(1, &size);
    int pipes[2];
    int fd;

    apply_rules(1, apply, "\"version\":1");

    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    subject_expect_with(&client, pipes[0], apply, "not a memory file");
    subject_expect_with(&client, pipes[1], apply, "not a memory file");
    close(pipes[0]);
    close(pipes[1]);
    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    subject_expect_with(&client, fd, apply, "\"bad-descriptor\"");
    close(fd);
    fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    subject_expect_with(&client, fd, apply, "not a memory file");
    close(fd);
    fd = memory_file(bytes, size, 0);
    subject_expect_with(&client, fd, apply, "not sealed");
    close(fd);
    fd = memory_file(bytes, size, F_SEAL_SHRINK | F_SEAL_GROW);
    subject_expect_with(&client, fd, apply, "not sealed");
    close(fd);
    fd = memory_file("", 0, ALL_SEALS);
    subject_expect_with(&client, fd, apply, "is empty");
    close(fd);
    fd = memory_file(bytes, size - 1, ALL_SEALS);
    subject_expect_with(&client, fd, apply, "\"bad-table\"");
    close(fd);
    srandom(1);
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (char)random();
    fd = memory_file(noise, sizeof(noise), ALL_SEALS);
    subject_expect_with(&client, fd, apply, "\"bad-table\"");
    close(fd);
    fd = memfd_create("large", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, (off_t)1 << 40), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, ALL_SEALS), 0);
    subject_expect_with(&client, fd, apply, "larger than 16 MiB");
    close(fd);

    subject_expect(&client, "{\"op\":\"stat\"}", "\"version\":1");
    free(bytes);
}

/* Sends a frame with `count` copies of a descriptor. */
static void send_with(const char *frame, int fd, unsigned count)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(16 * sizeof(int))];
    } control = {0};
    struct iovec vector = {.iov_base = (char *)frame, .iov_len = strlen(frame)};
    struct msghdr message = {.msg_iov = &vector,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);

    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    for (unsigned i = 0; i < count; i++)
        memcpy(CMSG_DATA(header) + i * sizeof(int), &fd, sizeof(int));
    assert_int_equal(sendmsg(client.fd, &message, MSG_NOSIGNAL), strlen(frame));
}

static void several_descriptors_are_refused_and_closed(void **state)
{
    static const char apply[] = "{\"op\":\"policy.apply\"}";
    size_t size = 0;
    void *bytes = build(1, &size);
    int fd = memory_file(bytes, size, ALL_SEALS);
    static const unsigned counts[] = {2, 4, 5, 16};

    for (int i = 0; i < 4; i++) {
        send_with("\n", fd, counts[i]);
        subject_expect(&client, apply, "\"bad-descriptor\"");
        subject_expect(&client, apply, "\"no-descriptor\"");
    }
    /* One that came too early is kept until it is asked for. */
    send_with("\n", fd, 1);
    subject_expect(&client, "{\"op\":\"ping\"}", "\"ok\":true");
    subject_expect(&client, apply, "\"version\":1");
    subject_expect(&client, apply, "\"no-descriptor\"");
    close(fd);
    free(bytes);
}

static void a_patch_changes_all_or_nothing(void **state)
{
    static const char *const wrong[][2] = {
        {"1", "\"changes\\\" is no list"},
        {"[1]", "a change is no object"},
        {"[{}]", "neither or both"},
        {"[{\"rule\":\"r0\"}]", "changes nothing"},
        {"[{\"rule\":\"r0\",\"tier\":\"small\",\"capacity\":1}]", "neither or both"},
        {"[{\"rule\":\"r0\",\"capacity\":1}]", "a rule has no capacity"},
        {"[{\"tier\":\"small\",\"places\":[\"dram\"]}]", "a tier has nothing else"},
        {"[{\"rule\":\"r0\",\"places\":[]}]", "is no list of 1 to"},
        {"[{\"rule\":\"r0\",\"places\":[1]}]", "no text"},
        {"[{\"rule\":\"r0\",\"places\":\"dram\"}]", "is no list of 1 to"},
        {"[{\"rule\":\"r0\",\"places\":[\"nowhere\"]}]", "nowhere"},
        {"[{\"rule\":\"r9\",\"places\":[\"dram\"]}]", "r9"},
        {"[{\"tier\":\"large\",\"capacity\":1}]", "large"},
        {"[{\"tier\":\"small\",\"capacity\":0}]", "is 0; expected a size, or null"},
        {"[{\"rule\":\"r0\",\"min_size\":\"many\"}]", "is no size"},
        {"[{\"rule\":\"r0\",\"min_size\":-1}]", "is no size"},
        {"[{\"rule\":\"r0\",\"min_size\":1.5}]", "is no size"},
        {"[{\"rule\":\"r0\",\"color\":1}]", "cannot be changed"},
        {"[{\"rule\":\"r0\",\"places\":[\"small\"]},{\"rule\":\"r9\",\"min_size\":1}]", "r9"},
    };

    apply_rules(2, "{\"op\":\"policy.apply\"}", "\"version\":1");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char request[512];

        snprintf(request, sizeof(request), "{\"op\":\"policy.patch\",\"changes\":%s}", wrong[i][0]);
        subject_expect(&client, request, wrong[i][1]);
        subject_expect(&client, request, "\"ok\":false");
    }
    subject_expect(&client, "{\"op\":\"policy.show\"}", "\"version\":1");
    subject_expect(&client, "{\"op\":\"policy.show\"}", "\"places\":[\"dram\",\"small\"]");
    subject_expect(
        &client,
        "{\"op\":\"policy.patch\",\"changes\":[{\"rule\":\"r1\",\"places\":[\"small\"],"
        "\"min_size\":\"1M\",\"max_size\":null},{\"tier\":\"small\",\"capacity\":\"2G\"}]}",
        "\"version\":2");
    subject_expect(&client, "{\"op\":\"policy.show\",\"first_rule\":1}",
                   "\"min_size\":1048576,\"max_size\":null");
    subject_expect(&client, "{\"op\":\"policy.show\",\"first_rule\":1}", "\"places\":[\"small\"]");
    subject_expect(&client, "{\"op\":\"policy.show\"}", "\"capacity\":2147483648");
}

static void a_stale_version_is_refused(void **state)
{
    apply_rules(1, "{\"op\":\"policy.apply\",\"if_version\":0}", "\"version\":1");
    apply_rules(1, "{\"op\":\"policy.apply\",\"if_version\":0}", "\"stale\"");
    subject_expect(&client,
                   "{\"op\":\"policy.patch\",\"if_version\":7,\"changes\":[{\"rule\":\"r0\","
                   "\"min_size\":1}]}",
                   "\"stale\"");
    subject_expect(&client, "{\"op\":\"stat\"}", "\"version\":1");
    subject_expect(&client,
                   "{\"op\":\"policy.patch\",\"if_version\":1,\"changes\":[{\"rule\":\"r0\","
                   "\"min_size\":1}]}",
                   "\"version\":2");
}

/* Copies the string that follows `key` in a reply. */
static char *text_after(const char *reply, const char *key)
{
    const char *at = strstr(reply, key);

    assert_non_null(at);
    at += strlen(key);
    return strndup(at, strcspn(at, "\""));
}

/* As jemalloc would: the tier's free pages are known when they are asked for. */
static void fill_totals(struct berth_host_totals *ret)
{
    *ret = (struct berth_host_totals){0};
    berth__tier_stats[BERTH_TIER_DRAM].cached = 8192;
}

static int start_with_a_block(void **state)
{
    berth__stats_alloc(BERTH_TIER_DRAM, BERTH_TAG_WEIGHT, 5000, 8192);
    berth__tier_stats[BERTH_TIER_DRAM].reserved = 12288;
    berth__host_totals = fill_totals;
    return start(state);
}

/* Free pages that have been handed out since they were counted are not counted twice. */
static void what_is_cached_is_part_of_what_is_reserved(void **state)
{
    (void)state;
    subject_expect(&client, "{\"op\":\"stat\"}",
                   "\"reserved\":12288,\"cached\":4096,\"overhead\":0,\"requested\":5000");
}

static void a_long_table_comes_back_in_pieces(void **state)
{
    size_t size = 0, got = 0;
    char *bytes = build(9000, &size);
    char *back = malloc(size + 3);
    int fd = memory_file(bytes, size, ALL_SEALS);

    assert_true(size > 384 * 1024);
    subject_expect_with(&client, fd, "{\"op\":\"policy.apply\"}", "\"version\":1");
    close(fd);
    subject_expect(&client, "{\"op\":\"policy.show\",\"first_rule\":8999}", "\"name\":\"r8999\"");
    subject_expect(&client, "{\"op\":\"rules\",\"first\":8999}", "\"name\":\"r8999\"");
    subject_expect(&client, "{\"op\":\"stat\"}", "\"rule_count\":9000");
    while (got < size) {
        char request[64];
        char *reply = NULL, *text;
        size_t piece = 0;

        snprintf(request, sizeof(request), "{\"op\":\"policy.table\",\"first\":%zu}", got);
        assert_int_equal(berth__client_request(&client, request, -1, 20000, &reply), 0);
        text = text_after(reply, "\"data\":\"");
        /* jansson may write "/" as it is: nothing in base64 needs an escape. */
        assert_int_equal(berth__base64_decode(text, strlen(text), back + got, &piece), 0);
        assert_true(piece > 0 && got + piece <= size);
        got += piece;
        free(text);
        free(reply);
    }
    assert_memory_equal(back, bytes, size);
    free(back);
    free(bytes);
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

/* The subject uses no CUDA; what can be said without it is. */
static void shared_memory_is_refused_with_the_reason(void **state)
{
    static const char *const asked[][2] = {
        {"{\"op\":\"shared.list\"}", "\"segments\":[],\"tiers\":[]"},
        {"{\"op\":\"shared.create\"}", "there is no \\\"name\\\""},
        {"{\"op\":\"shared.create\",\"name\":3}", "\\\"name\\\" is no text"},
        {"{\"op\":\"shared.create\",\"name\":\"a\\u0000b\"}", "has a null character"},
        {"{\"op\":\"shared.create\",\"name\":\"w\",\"size\":-1}", "\\\"size\\\" is no size"},
        {"{\"op\":\"shared.create\",\"name\":\"w\",\"size\":[]}", "\\\"size\\\" is no size"},
        {"{\"op\":\"shared.create\",\"name\":\"w\",\"size\":1}", "\"no-cuda\""},
        {"{\"op\":\"shared.open\",\"name\":\"w\"}", "\"no-cuda\""},
        {"{\"op\":\"shared.drop\",\"name\":\"w\"}", "\"no-cuda\""},
        {"{\"op\":\"shared.attach\"}", "there is no \\\"tier\\\""},
        {"{\"op\":\"shared.attach\",\"tier\":\"small\"}", "\"no-tier\""},
        {"{\"op\":\"shared.attach\",\"tier\":\"h\",\"from\":1}", "\\\"from\\\" is no text"},
        {"{\"op\":\"shared.detach\",\"tier\":\"h\"}", "\"no-tier\""},
    };

    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
        subject_expect(&client, asked[i][0], asked[i][1]);
}

#define WITH_SUBJECT(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SUBJECT(a_table_is_applied_and_shown),
        WITH_SUBJECT(only_sealed_memory_files_with_a_table_are_taken),
        WITH_SUBJECT(several_descriptors_are_refused_and_closed),
        WITH_SUBJECT(a_patch_changes_all_or_nothing),
        WITH_SUBJECT(a_stale_version_is_refused),
        WITH_SUBJECT(a_long_table_comes_back_in_pieces),
        WITH_SUBJECT(shared_memory_is_refused_with_the_reason),
        cmocka_unit_test_setup_teardown(what_is_cached_is_part_of_what_is_reserved,
                                        start_with_a_block, stop),
    };

    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
