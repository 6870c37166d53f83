/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/module_lock.h"

#include "alloc/types.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

extern BERTH_SHARED _Atomic(const pthread_mutex_t *) berth__module_lock;
_Atomic(const pthread_mutex_t *) berth__module_lock;

/* What a search goes over, and what it has found. */
struct search {
    const char *start;
    size_t size;
    const pthread_mutex_t *found;
    unsigned count;
};

/* Only these words are read, wherever they may lie: any memory may be taken for a mutex. */
static bool is_owned_here(const pthread_mutex_t *mutex)
{
    return mutex->__data.__kind == PTHREAD_MUTEX_RECURSIVE && mutex->__data.__lock == 1 &&
           mutex->__data.__count == 1 && mutex->__data.__owner == gettid();
}

/* dl_iterate_phdr()'s callback: the lock is held now. */
static int search_owned(struct dl_phdr_info *info, size_t size, void *context)
{
    struct search *search = context;

    (void)info;
    (void)size;
    for (size_t at = 0; at + sizeof(pthread_mutex_t) <= search->size;
         at += _Alignof(pthread_mutex_t)) {
        const pthread_mutex_t *mutex = (const void *)(search->start + at);

        if (is_owned_here(mutex)) {
            search->found = mutex;
            search->count++;
        }
    }
    return 1;
}

/* A library's constructor may run with the lock of dlopen() held, which could be mistaken for it.
 */
static unsigned count_owned(const struct search *search)
{
    struct search now = {search->start, search->size, NULL, 0};

    search_owned(NULL, 0, &now);
    return now.count;
}

/* The same mutex again: what was found was no accident. */
static int search_again(struct dl_phdr_info *info, size_t size, void *context)
{
    struct search *search = context;

    (void)info;
    (void)size;
    return is_owned_here(search->found);
}

void berth__module_lock_find(void)
{
    struct search search = {0};
    const ElfW(Sym) *symbol = NULL;
    Dl_info info;
    const char *state = dlsym(RTLD_DEFAULT, "_rtld_global");

    if (!state || dladdr1(state, &info, (void **)&symbol, RTLD_DL_SYMENT) == 0 || !symbol)
        return;
    search.start = state;
    search.size = symbol->st_size;
    if (count_owned(&search) != 0)
        return;
    dl_iterate_phdr(search_owned, &search);
    if (search.count == 1 && !is_owned_here(search.found) &&
        dl_iterate_phdr(search_again, &search) == 1)
        atomic_store_explicit(&berth__module_lock, search.found, memory_order_release);
}

bool berth__module_lock_is_held(void)
{
    const pthread_mutex_t *mutex = atomic_load_explicit(&berth__module_lock, memory_order_acquire);

    return mutex && __atomic_load_n(&mutex->__data.__lock, __ATOMIC_RELAXED) != 0;
}

bool berth__module_lock_is_mine(void)
{
    const pthread_mutex_t *mutex = atomic_load_explicit(&berth__module_lock, memory_order_acquire);

    /* What another thread writes to it meanwhile never makes it this one's. */
    return berth__module_lock_is_held() &&
           __atomic_load_n(&mutex->__data.__owner, __ATOMIC_RELAXED) == gettid();
}
