/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys of thread-specific data that leave the program's numbers alone.
 *
 * glibc hands out the lowest number that is free, from 0 on, and there are programs that ask for a
 * key that they never made: its number is 0, and without us they find nothing there. So ours are
 * the last of those for whose values glibc has room in each thread; for later ones
 * pthread_setspecific() calls malloc, which may be what a key is for.
 *
 * Values are destroyed in the order of their keys' numbers. So these are not for what has to be
 * done before the program's own are, as of contexts that the driver takes from a thread that ends
 * (alloc/device_context.h): a program that has a driver has its keys anyhow.
 *
 * Any thread may call these at any time. A key that the program makes meanwhile has a number that
 * is larger than it would be.
 */
#ifndef BERTH_ALLOC_THREAD_KEY_H
#define BERTH_ALLOC_THREAD_KEY_H

#include <pthread.h>
#include <stddef.h>

#define BERTH_KEYS_AT_HAND 32

/* Keys that are taken for a while. */
struct berth_low_keys {
    pthread_key_t key[BERTH_KEYS_AT_HAND];
    size_t count;
};

/* pthread_key_create(). */
int berth__thread_key_create(pthread_key_t *key, void (*destructor)(void *));

/* Takes the low keys but for the last ones, so that what a library makes meanwhile is among them.
 */
void berth__thread_keys_take(struct berth_low_keys *low);
/* Gives them back. */
void berth__thread_keys_give_back(struct berth_low_keys *low);

#endif
