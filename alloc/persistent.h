/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the calls on persistent blocks go: to the malloc side, when that is preloaded; else nobody
 * serves them. Set once, by its constructor; whichever library a program's call binds to, the same
 * functions answer.
 */
#ifndef BERTH_ALLOC_PERSISTENT_H
#define BERTH_ALLOC_PERSISTENT_H

#include "alloc/types.h"

/* As the functions of berth.h of the same names. */
struct berth_persistent_calls {
    int (*open)(const char *name, size_t size, void **ret_p, unsigned *ret_state);
    int (*replace)(const char *name, size_t size, void **ret_p);
    int (*find)(const char *name, void **ret_p, size_t *ret_size);
    int (*commit)(void *p);
    int (*detach)(void *p);
    int (*remove)(const char *name);
};

/* NULL: -ENOSYS. */
extern BERTH_SHARED const struct berth_persistent_calls *berth__persistent_calls;

int berth__persistent_open(const char *name, size_t size, void **ret_p, unsigned *ret_state);
int berth__persistent_replace(const char *name, size_t size, void **ret_p);
int berth__persistent_find(const char *name, void **ret_p, size_t *ret_size);
int berth__persistent_commit(void *p);
int berth__persistent_detach(void *p);
int berth__persistent_remove(const char *name);

#endif
