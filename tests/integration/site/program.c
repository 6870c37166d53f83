/* SPDX-License-Identifier: Apache-2.0 */
/* Allocates by several paths, from two threads and a child, and prints what Berth says of each. */
#include "alloc/berth.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE ((size_t)1 << 20)

void *model_load(size_t size);
void *model_forward(size_t size);
void *buffer_new(size_t size);

static void tell(const char *what, void *p)
{
    static const char *const tags[] = {"untagged", "weight", "activation", "kv", "workspace"};
    struct berth_block_info info;

    if (berth_describe(p, &info, sizeof(info)) < 0)
        printf("%s: not described\n", what);
    else
        printf("%s: %s %s %s\n", what, tags[info.tag], info.tier, info.rule);
    fflush(stdout);
    free(p);
}

static void *in_thread(void *context)
{
    (void)context;
    tell("thread load", model_load(SIZE));
    tell("thread forward", model_forward(SIZE));
    return NULL;
}

/* The smallest stack that a thread can have, an eighth of it in use. */
static void *on_a_small_stack(void *context)
{
    volatile char used[2048];

    for (size_t i = 0; i < sizeof(used); i++)
        used[i] = (char)i;
    free(model_load(SIZE));
    return used[1] == 1 ? NULL : context;
}

static void run_on_a_small_stack(void)
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 16384);
    for (int i = 0; i < 2; i++)
        if (pthread_create(&thread, &attributes, on_a_small_stack, NULL) == 0)
            pthread_join(thread, NULL);
    pthread_attr_destroy(&attributes);
}

/* By a call that was met before: what Berth keeps of it must not outlive its meaning. */
static void load_small(void)
{
    for (int i = 0; i < 100; i++)
        free(model_load(i));
    tell("small load", model_load(1000));
    tell("tiny load", model_load(5));
    berth_tag_push(BERTH_TAG_KV);
    tell("small pushed load", model_load(1000));
    tell("tiny pushed load", model_load(5));
    berth_tag_pop();
    tell("small popped load", model_load(1000));
}

int main(void)
{
    pthread_t thread;

    for (int i = 0; i < 2; i++) {
        tell("load", model_load(SIZE));
        tell("forward", model_forward(SIZE));
    }
    tell("direct", malloc(SIZE));
    tell("wrapper", buffer_new(SIZE));
    load_small();
    berth_tag_push(BERTH_TAG_KV);
    tell("pushed load", model_load(SIZE));
    berth_tag_push(BERTH_TAG_UNTAGGED);
    tell("untagged load", model_load(SIZE));
    berth_tag_pop();
    berth_tag_pop();
    if (pthread_create(&thread, NULL, in_thread, NULL) == 0)
        pthread_join(thread, NULL);
    run_on_a_small_stack();
    if (fork() == 0) {
        tell("child load", model_load(SIZE));
        tell("child forward", model_forward(SIZE));
        _exit(0);
    }
    wait(NULL);
    return 0;
}
