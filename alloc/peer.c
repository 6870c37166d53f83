/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/peer.h"

#include "alloc/block_slab.h"
#include "alloc/pool.h"

#include <errno.h>
#include <pthread.h>

struct peer {
    berth_cu_context owner, user;
    int device;
    struct peer *next;
};

/* Taken with a pool's lock held; nothing is called under it. */
static pthread_mutex_t peer_lock = PTHREAD_MUTEX_INITIALIZER;
static struct peer *peers;
static struct berth_slab slab;

int berth__peer_add(berth_cu_context owner, berth_cu_context user, int device)
{
    struct peer *peer;

    if (device < 0 || device >= BERTH_PEER_DEVICES_MAX)
        return -ERANGE;
    if (berth__pool_is_off())
        return 0;
    pthread_mutex_lock(&peer_lock);
    peer = berth__slab_new(&slab, sizeof(*peer));
    if (peer) {
        *peer = (struct peer){owner, user, device, peers};
        peers = peer;
    }
    pthread_mutex_unlock(&peer_lock);
    return peer ? 0 : -ENOBUFS;
}

/* Removes those in which both are as said; NULL: any. */
static void remove_all(berth_cu_context owner, berth_cu_context user)
{
    struct peer **link = &peers;

    /* In a forked child the lock may be held by a thread that is not there. */
    if (berth__pool_is_off())
        return;
    pthread_mutex_lock(&peer_lock);
    while (*link) {
        struct peer *peer = *link;

        if ((owner && peer->owner != owner) || (user && peer->user != user)) {
            link = &peer->next;
            continue;
        }
        *link = peer->next;
        berth__slab_delete(&slab, peer);
    }
    pthread_mutex_unlock(&peer_lock);
}

void berth__peer_remove(berth_cu_context owner, berth_cu_context user)
{
    remove_all(owner, user);
}

void berth__peer_drop(berth_cu_context context)
{
    remove_all(context, NULL);
    remove_all(NULL, context);
}

uint64_t berth__peer_devices(berth_cu_context owner)
{
    uint64_t devices = 0;

    pthread_mutex_lock(&peer_lock);
    for (const struct peer *peer = peers; peer; peer = peer->next)
        if (peer->owner == owner)
            devices |= (uint64_t)1 << peer->device;
    pthread_mutex_unlock(&peer_lock);
    return devices;
}
