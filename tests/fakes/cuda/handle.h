/* SPDX-License-Identifier: Apache-2.0 */
/* A handle: an object's address, given to the program as an opaque value.
 * The set of live ones lets a call refuse a stale or foreign handle instead
 * of following it. Synchronization: the state lock. */
#ifndef BERTH_FAKE_HANDLE_H
#define BERTH_FAKE_HANDLE_H

#include <stdbool.h>

enum handle_kind {
    HANDLE_CONTEXT = 1,
    HANDLE_STREAM,
    HANDLE_EVENT,
    HANDLE_POOL,
    HANDLE_BACKING,
    HANDLE_MODULE,
    HANDLE_LIBRARY,
    HANDLE_KERNEL,
    HANDLE_GRAPH,
    HANDLE_GRAPH_EXEC,
    HANDLE_ARRAY,
    HANDLE_MIPMAPPED,
    HANDLE_TEXTURE,
    HANDLE_EXTERNAL,
};

/* 0 or -ENOMEM. */
int handle_add(const void *object, enum handle_kind kind);
void handle_remove(const void *object);
bool handle_is(const void *object, enum handle_kind kind);

#endif
