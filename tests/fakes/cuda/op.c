/* SPDX-License-Identifier: Apache-2.0 */
#include "op.h"

#include "state.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct fence *fence_new(void)
{
    struct fence *fence = calloc(1, sizeof(*fence));

    if (fence)
        fence->refs = 1;
    return fence;
}

struct fence *fence_ref(struct fence *fence)
{
    fence->refs++;
    return fence;
}

void fence_unref(struct fence *fence)
{
    if (fence && --fence->refs == 0)
        free(fence);
}

void fence_finish(struct fence *fence)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    fence->done_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    fence->done = true;
    state_announce_progress();
}

void fence_wait(struct fence *fence)
{
    fence_ref(fence);
    while (!fence->done)
        state_wait_progress();
    fence_unref(fence);
}

struct op *op_new(CUgraphNodeType type, size_t payload_size, void (*run)(void *payload),
                  void (*drop)(void *payload))
{
    struct op *op = calloc(1, sizeof(*op) + payload_size);
    struct fence *fence = op ? fence_new() : NULL;

    if (!fence) {
        free(op);
        return NULL;
    }
    op->type = type;
    op->run = run;
    op->drop = drop;
    op->fence = fence;
    return op;
}

int op_need(struct op *op, struct fence *fence)
{
    if (!fence || fence->done)
        return 0;
    if (op->needs_count == op->needs_capacity) {
        size_t capacity = op->needs_capacity ? op->needs_capacity * 2 : 4;
        struct fence **grown = realloc(op->needs, capacity * sizeof(struct fence *));

        if (!grown)
            return -ENOMEM;
        op->needs = grown;
        op->needs_capacity = capacity;
    }
    op->needs[op->needs_count++] = fence_ref(fence);
    return 0;
}

struct op *op_share(struct op *op)
{
    op->shares++;
    return op;
}

void op_free(struct op *op)
{
    if (!op)
        return;
    if (op->shares > 0) {
        op->shares--;
        return;
    }
    if (op->drop)
        op->drop(op->payload);
    for (size_t i = 0; i < op->needs_count; i++)
        fence_unref(op->needs[i]);
    free(op->needs);
    fence_unref(op->fence);
    free(op);
}
