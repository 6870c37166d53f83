/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: one program, linked to the static archive, runs with and without Berth, and under Berth
 * berth_describe() tells the tags that it gave. Method: argv[1] says what to expect: "absent" or
 * "present". Calls are made in a constructor and a destructor too. It is compiled as PIE and not,
 * and prints what went wrong.
 */
#include "alloc/berth.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB ((size_t)1 << 20)

static int failures;

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

static int pushed_early = -1;

__attribute__((constructor)) static void begin(void)
{
    pushed_early = berth_tag_push(BERTH_TAG_KV);
    berth_tag_pop();
}

__attribute__((destructor)) static void end(void)
{
    if (berth_tag_push(BERTH_TAG_KV) != 0 || berth_tag_pop() != 0)
        _Exit(9);
}

static void check_absent(void)
{
    struct berth_block_info info, before;
    void *p = malloc(MIB);

    memset(&info, 0x5a, sizeof(info));
    before = info;
    CHECK(berth_active() == 0);
    for (int i = 0; i < 3 * BERTH_TAG_DEPTH_MAX; i++)
        CHECK(berth_tag_push(BERTH_TAG_WEIGHT) == 0);
    CHECK(berth_tag_pop() == 0);
    CHECK(berth_step() == 0);
    CHECK(berth_describe(p, &info, sizeof(info)) == -ENOSYS);
    CHECK(memcmp(&info, &before, sizeof(info)) == 0);
    free(p);
}

/* The block's tag, or -1 when it is not described rightly. */
static int tag_of(void *p, size_t size)
{
    struct berth_block_info info;
    int r = berth_describe((char *)p + size / 2, &info, sizeof(info));

    if (r != 0) {
        fprintf(stderr, "berth_describe: %s\n", strerror(-r));
        return -1;
    }
    CHECK(info.base == p);
    CHECK(info.requested == size);
    CHECK(info.held >= size);
    CHECK(strcmp(info.tier, "dram") == 0);
    CHECK(strcmp(info.rule, "") == 0);
    return (int)info.tag;
}

static void *other_thread(void *context)
{
    void *p = malloc(MIB);

    (void)context;
    CHECK(tag_of(p, MIB) == BERTH_TAG_UNTAGGED);
    berth_tag_push(BERTH_TAG_ACTIVATION);
    free(p);
    return NULL;
}

static void check_tags(void)
{
    void *weight, *kv, *untagged;

    CHECK(berth_tag_push(BERTH_TAG_WEIGHT) == 0);
    weight = malloc(3 * MIB + 5);
    CHECK(berth_tag_push(BERTH_TAG_KV) == 0);
    kv = calloc(1, MIB);
    CHECK(berth_tag_pop() == 0);
    CHECK(berth_tag_pop() == 0);
    untagged = aligned_alloc(4096, MIB);
    CHECK(tag_of(weight, 3 * MIB + 5) == BERTH_TAG_WEIGHT);
    CHECK(tag_of(kv, MIB) == BERTH_TAG_KV);
    CHECK(tag_of(untagged, MIB) == BERTH_TAG_UNTAGGED);
    free(weight);
    free(kv);
    free(untagged);
}

static void check_errors(void)
{
    struct berth_block_info info;
    void *p = malloc(MIB);
    void *volatile freed = p; /* the address, of which the compiler knows nothing */

    CHECK(berth_tag_pop() == -ENOENT);
    CHECK(berth_tag_push((enum berth_tag)99) == -EINVAL);
    for (int i = 0; i < BERTH_TAG_DEPTH_MAX; i++)
        CHECK(berth_tag_push(BERTH_TAG_WEIGHT) == 0);
    CHECK(berth_tag_push(BERTH_TAG_KV) == -ENOSPC);
    for (int i = 0; i < BERTH_TAG_DEPTH_MAX; i++)
        CHECK(berth_tag_pop() == 0);
    CHECK(berth_describe(p, &info, sizeof(info) - 1) == -EINVAL);
    CHECK(berth_describe(&info, &info, sizeof(info)) == -ENOENT);
    CHECK(berth_describe(NULL, &info, sizeof(info)) == -ENOENT);
    CHECK(berth_describe((char *)p + 64 * MIB * 1024, &info, sizeof(info)) == -ENOENT);
    free(p);
    CHECK(berth_describe(freed, &info, sizeof(info)) == -ENOENT);
}

static void check_present(void)
{
    pthread_t thread;

    CHECK(berth_active() == 1);
    CHECK(berth_step() == 0);
    check_tags();
    check_errors();
    if (pthread_create(&thread, NULL, other_thread, NULL) == 0)
        pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    CHECK(pushed_early == 0);
    errno = 4242;
    berth_tag_push(BERTH_TAG_WEIGHT);
    berth_tag_pop();
    berth_describe(&errno, &(struct berth_block_info){0}, sizeof(struct berth_block_info));
    CHECK(errno == 4242);
    if (strcmp(argv[1], "present") == 0)
        check_present();
    else
        check_absent();
    return failures ? 1 : 0;
}
