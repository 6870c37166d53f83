/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/host_class.h"

#include "alloc/classifier.h"
#include "alloc/options.h"
#include "alloc/site_account.h"
#include "alloc/stats.h"
#include "alloc/thread.h"
#include "pmem/gate.h"
#include "pmem/host_reads.h"
#include "pmem/movable.h"
#include "pmem/table.h"
#include "pmem/window.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Copied when it starts: hooks ask on each call. */
static struct berth_classifier *classifier; /* NULL = off */

/*
 * Reads by the kernel: an address that another thread gives back meanwhile is an error there, and
 * would be a fault here. Whoever forbids the call (a sandbox) is not asked again.
 */
static bool look(uintptr_t address, const size_t offsets[BERTH_LOOK_WORDS],
                 uint64_t words[BERTH_LOOK_WORDS])
{
    static _Atomic bool is_forbidden;
    struct iovec from[BERTH_LOOK_WORDS];
    struct iovec to = {words, BERTH_LOOK_WORDS * sizeof(uint64_t)};
    ssize_t n;

    if (atomic_load_explicit(&is_forbidden, memory_order_relaxed))
        return false;
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        from[i] = (struct iovec){(void *)(address + offsets[i]), sizeof(uint64_t)};
    n = process_vm_readv(getpid(), &to, 1, from, BERTH_LOOK_WORDS, 0);
    if (n < 0 && (errno == ENOSYS || errno == EPERM))
        atomic_store_explicit(&is_forbidden, true, memory_order_relaxed);
    return n == (ssize_t)to.iov_len;
}

static uint64_t worked(void)
{
    struct timespec time;

    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) != 0)
        return 0;
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/*
 * The new tag's account first, so that an owner who frees the block in this moment takes it off
 * where it is counted; what turns out to be gone is taken back.
 */
static void retag_in(berth_tier_id tier, const void *p, size_t held, uint32_t number,
                     enum berth_tag tag)
{
    struct berth_record record;
    struct berth_site_block block;

    if (!berth__record_get(p, held, &record) || record.state != number || record.tag == tag)
        return;
    block = (struct berth_site_block){record.site,      tier, record.tag,
                                      record.requested, held, record.sample};
    if (record.site != 0 && !berth__site_account_move(&block, tier, tag))
        return;
    berth__stats_retag_in(tier, tag, record.requested, held);
    if (berth__record_retag(p, held, &record, tag, BERTH_TAGGED_CLASSIFIER)) {
        berth__stats_retag_out(tier, record.tag, record.requested, held);
        return;
    }
    berth__stats_retag_out(tier, tag, record.requested, held);
    block.tag = tag;
    if (record.site != 0)
        berth__site_account_move(&block, tier, record.tag);
}

static void retag(uintptr_t address, size_t held, uint32_t number, enum berth_tag tag)
{
    const void *p = (const void *)address;
    struct berth_record record;

    if (!berth__gate_owns(p) || !berth__record_get(p, held, &record))
        return;
    if (!berth__is_movable(p)) {
        retag_in(berth__window_tier(p), p, held, number, tag);
        return;
    }
    retag_in(berth__movable_hold(p), p, held, number, tag);
    berth__movable_let_go(p);
}

void berth__host_class_start(void)
{
    static const struct berth_classifier_ops ops = {
        .look = look,
        .watch = berth__host_reads_watch,
        .peek = berth__host_reads_peek,
        .watched = berth__host_reads_end,
        .retag = retag,
        .worked = worked,
    };

    if (berth__option(BERTH_OPTION_CLASSIFIER) == BERTH_CLASSIFIER_OFF)
        return;
    berth__classifier_start(BERTH_SIDE_HOST, &ops);
    if (berth__classifier_is_on(berth__classifier(BERTH_SIDE_HOST)))
        classifier = berth__classifier(BERTH_SIDE_HOST);
}

static bool is_blind(void)
{
    return classifier && berth__option(BERTH_OPTION_CLASSIFIER) == BERTH_CLASSIFIER_BLIND;
}

enum berth_tag berth__host_class_told(void)
{
    return BERTH_UNLIKELY(is_blind()) ? BERTH_TAG_UNTAGGED : berth__tag_current();
}

static bool follows(size_t size)
{
    return BERTH_UNLIKELY(classifier != NULL) && size >= BERTH_OS_PAGE &&
           size >= berth__option(BERTH_OPTION_RECORD_THRESHOLD);
}

void berth__host_class_guess(const struct berth_host_request *request, struct berth_request *ret)
{
    if (follows(request->size) && ret->tag == BERTH_TAG_UNTAGGED)
        ret->guess =
            berth__classifier_guess(classifier, request->size, request->caller, request->site);
}

void berth__host_class_born(const struct berth_host_request *request, const void *p, size_t held,
                            struct berth_record *record)
{
    if (!follows(request->size))
        return;
    record->state = berth__classifier_born(classifier, &(struct berth_class_birth){
                                                           .address = (uintptr_t)p,
                                                           .size = request->size,
                                                           .held = held,
                                                           .caller = request->caller,
                                                           .site = request->site,
                                                           .tag = record->tag,
                                                           .tagged_by = record->tagged_by,
                                                           .noted = berth__tag_current(),
                                                       });
}

void berth__host_class_died(const struct berth_record *record)
{
    if (BERTH_UNLIKELY(record->state != 0))
        berth__classifier_died(classifier, (uint32_t)record->state);
}

void berth__host_class_resized(const struct berth_record *record, size_t requested, size_t held)
{
    if (BERTH_UNLIKELY(record->state != 0))
        berth__classifier_resized(classifier, (uint32_t)record->state, requested, held);
}

void berth__host_class_tend(void)
{
    if (BERTH_UNLIKELY(classifier != NULL))
        berth__classifier_tend(classifier);
}
