/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/thread_key.h"

/* For a library, beside those of our own. */
#define LEFT_FOR_OTHERS 8

/* Takes free keys until `*key` is one from `first` on; what pthread_key_create() answers. */
static int take_up_to(struct berth_low_keys *low, pthread_key_t first, pthread_key_t *key,
                      void (*destructor)(void *))
{
    int r;

    low->count = 0;
    while ((r = pthread_key_create(key, destructor)) == 0 && *key < first &&
           low->count < BERTH_KEYS_AT_HAND)
        low->key[low->count++] = *key;
    return r;
}

void berth__thread_keys_take(struct berth_low_keys *low)
{
    pthread_key_t key;

    if (take_up_to(low, BERTH_KEYS_AT_HAND - LEFT_FOR_OTHERS, &key, NULL) == 0)
        pthread_key_delete(key);
}

void berth__thread_keys_give_back(struct berth_low_keys *low)
{
    while (low->count > 0)
        pthread_key_delete(low->key[--low->count]);
}

int berth__thread_key_create(pthread_key_t *key, void (*destructor)(void *))
{
    struct berth_low_keys low;
    int r = take_up_to(&low, BERTH_KEYS_AT_HAND - 1, key, destructor);

    if (low.count > 0 && (r != 0 || *key >= BERTH_KEYS_AT_HAND)) {
        if (r == 0)
            pthread_key_delete(*key);
        *key = low.key[--low.count];
        r = 0;
    }
    berth__thread_keys_give_back(&low);
    return r;
}
