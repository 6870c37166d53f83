/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever bytes a client sends, each frame gets one answer that is a whole frame, and
 * nothing is read or written out of bounds (the sanitizer builds say so). Method: valid requests
 * are damaged (bytes changed, cut, doubled, spliced), cut into pieces at random, fed through the
 * framing and answered in this process, with a table in force that they may change. The seed is
 * printed; `protocol SEED ROUNDS` repeats a run.
 */
#include "alloc/device.h"
#include "alloc/log.h"
#include "ipc/buffer.h"
#include "ipc/operation.h"
#include "ipc/shared_tier.h"
#include "ipc/wire.h"
#include "pmem/table.h"
#include "pmem/table_build.h"
#include "tests/random_numbers.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_ROOM 8192

static const char *const corpus[] = {
    "{\"op\":\"ping\",\"id\":1}",
    "{\"op\":\"stat\",\"id\":\"x\"}",
    "{\"op\":\"rules\",\"first\":0}",
    "{\"op\":\"options\"}",
    "{\"op\":\"policy.show\",\"first_site\":0,\"first_rule\":1}",
    "{\"op\":\"policy.table\",\"first\":16}",
    "{\"op\":\"policy.apply\",\"origin\":\"o\",\"if_version\":1}",
    "{\"op\":\"policy.patch\",\"changes\":[{\"rule\":\"r\",\"places\":[\"dram\",\"t\"],"
    "\"min_size\":\"64K\",\"max_size\":null}]}",
    "{\"op\":\"policy.patch\",\"changes\":[{\"tier\":\"t\",\"capacity\":1048576}]}",
    "{\"op\":\"trace.start\",\"call_paths\":true}",
    "{\"op\":\"trace.stop\"}",
    "{\"op\":\"trace.state\",\"id\":7}",
    "{\"op\":\"snapshot\"}",
    "{\"op\":\"shared.list\"}",
    "{\"op\":\"shared.create\",\"name\":\"w\",\"size\":\"64M\",\"device\":0}",
    "{\"op\":\"shared.create\",\"name\":\"w\",\"size\":67108864,"
    "\"device\":\"GPU-00112233-4455-6677-8899-aabbccddeeff\"}",
    "{\"op\":\"shared.open\",\"name\":\"w\"}",
    "{\"op\":\"shared.drop\",\"name\":\"w\"}",
    "{\"op\":\"shared.attach\",\"tier\":\"h\",\"from\":\"1\",\"name\":\"w\",\"offset\":512,"
    "\"size\":\"1M\"}",
    "{\"op\":\"shared.attach\",\"tier\":\"h\",\"from\":\"/nonexistent/a.sock\"}",
    "{\"op\":\"shared.detach\",\"tier\":\"h\"}",
    "{\"op\":\"policy.patch\",\"changes\":[{\"rule\":\"r\",\"min_size\":0},{\"rule\":\"r\","
    "\"max_size\":18446744073709551615}]}",
};

/* One damage; returns the new length. */
static size_t damage(char *frame, size_t length)
{
    size_t at = random_below(length + 1), n = random_below(16);
    const char *other = corpus[random_below(sizeof(corpus) / sizeof(corpus[0]))];

    switch (random_below(6)) {
    case 0: /* a byte changes */
        if (at < length)
            frame[at] = (char)random_next();
        return length;
    case 1: /* a bit changes */
        if (at < length)
            frame[at] ^= (char)(1 << random_below(8));
        return length;
    case 2: /* the end is missing */
        return at;
    case 3: /* a piece is missing */
        n = n < length - at ? n : length - at;
        memmove(frame + at, frame + at + n, length - at - n);
        return length - n;
    case 4: /* a piece is doubled */
        n = n < length - at ? n : length - at;
        if (length + n > FRAME_ROOM)
            return length;
        memmove(frame + at + n, frame + at, length - at);
        return length + n;
    default: /* the end is another request's */
        n = random_below(strlen(other));
        if (at + strlen(other) - n > FRAME_ROOM)
            return length;
        memcpy(frame + at, other + n, strlen(other) - n);
        return at + strlen(other) - n;
    }
}

static void die(const char *what, const char *frame, size_t length)
{
    fprintf(stderr, "protocol: %s for the frame: %.*s\n", what, (int)length, frame);
    exit(1);
}

static void answer(const struct berth_identity *identity, const char *frame, size_t length)
{
    const struct berth_passed none = {.state = BERTH_PASSED_NONE};
    struct berth_exchange exchange = {.frame = frame, .length = length, .passed = &none};
    size_t n;

    berth__operation_answer(identity, &exchange);
    if (!exchange.reply)
        die("no answer", frame, length);
    n = exchange.reply_length;
    if (n < 2 || n > BERTH_WIRE_FRAME_MAX || exchange.reply[n - 1] != '\n' ||
        memchr(exchange.reply, '\n', n) != exchange.reply + n - 1)
        die("an answer that is no frame", frame, length);
    if (strncmp(exchange.reply, "{\"id\":", 6) != 0)
        die("an answer without id", frame, length);
    berth__buffer_free(exchange.reply, n);
}

/* Feeds what is there, in pieces, and answers what comes out; returns how many frames did. */
static unsigned feed(struct berth_wire *wire, const struct berth_identity *identity,
                     const char *bytes, size_t length)
{
    unsigned count = 0;

    while (length > 0) {
        size_t n = 1 + random_below(length), frame_length = 0;
        const char *frame = NULL;
        int r;

        if (berth__wire_feed(wire, bytes, n) < 0)
            die("no memory", bytes, n);
        while ((r = berth__wire_next(wire, &frame, &frame_length)) != 0) {
            count++;
            if (r == 1 && frame_length > 0)
                answer(identity, frame, frame_length);
        }
        bytes += n;
        length -= n;
    }
    return count;
}

static void install_table(void)
{
    static const char *const places[] = {"t", "dram"};
    const struct berth_tier_config tier = {
        .name = "t", .kind = BERTH_KIND_DRAM, .path = "", .fork_copy_max = UINT64_MAX};
    const struct berth_tier_config hot = {
        .name = "h", .kind = BERTH_KIND_SHARED, .path = "", .fork_copy_max = UINT64_MAX};
    const struct berth_rule_info rule = {.name = "r",
                                         .side = BERTH_SIDE_BOTH,
                                         .tags = BERTH_TAGS_ALL,
                                         .pattern = "",
                                         .thread = "",
                                         .max_size = UINT64_MAX,
                                         .sequence_last = UINT64_MAX,
                                         .place_count = 2};
    struct berth_table_draft *draft = berth__draft_new();
    char why[BERTH_TABLE_WHY_MAX] = "no memory";
    void *bytes = NULL;
    size_t size = 0;

    if (!draft || berth__draft_add_tier(draft, &tier, 1) < 0 ||
        berth__draft_add_tier(draft, &hot, 1) < 0 ||
        berth__draft_add_rule(draft, &rule, places) < 0 ||
        berth__draft_finish(draft, &bytes, &size, why, sizeof(why)) < 0 ||
        berth__table_install(bytes, size, "fuzz", why, sizeof(why)) < 0)
        die(why, "", 0);
    berth__draft_free(draft);
    free(bytes);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 20250101;
    unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 0) : 30000;
    unsigned long answered = 0;
    struct berth_identity identity;
    struct berth_wire wire;
    char frame[FRAME_ROOM + 1];

    printf("seed %llu, %lu rounds\n", (unsigned long long)seed, rounds);
    random_start(seed);
    berth__log_configure("none");
    if (berth__identity_read(&identity) < 0)
        die("no /proc", "", 0);
    /* A driver without a single function: what is asked of it must be refused, not called. */
    berth__device_is_initialised = true;
    berth__shared_tier_register();
    install_table();
    berth__wire_init(&wire);
    for (unsigned long i = 0; i < rounds; i++) {
        const char *from = corpus[random_below(sizeof(corpus) / sizeof(corpus[0]))];
        size_t length = strlen(from);

        memcpy(frame, from, length);
        for (size_t n = random_below(4); n > 0; n--)
            length = damage(frame, length);
        frame[length++] = '\n';
        answered += feed(&wire, &identity, frame, length);
    }
    berth__wire_done(&wire);
    printf("%lu frames, table version %llu\n", answered,
           (unsigned long long)berth__table_version());
    return answered >= rounds && berth__table_version() > 1 ? 0 : 1;
}
