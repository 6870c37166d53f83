/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/site_account.h"

#include "alloc/site.h"
#include "alloc/site_store.h"

#include <stdatomic.h>

/* Accounts by the site's number: a directory of pages that never move, as alloc/site.c has it. */
#define PAGE_SHIFT 10 /* 1024 accounts */
#define PAGE_ACCOUNTS ((uint32_t)1 << PAGE_SHIFT)
#define PAGE_COUNT (BERTH_SITE_MAX >> PAGE_SHIFT)
_Static_assert(BERTH_SITE_MAX % PAGE_ACCOUNTS == 0, "the last page of the directory is whole");

/*
 * `moved` is what came from other cells less what went to them, so that live blocks are allocs -
 * frees + moved; it wraps below 0, and so may the sums, which are right again when added up.
 */
struct cell {
    _Atomic(struct cell *) next; /* appended at the end, so that an index stays */
    berth_tier_id tier;
    uint8_t tag;
    bool is_estimate; /* of samples: `allocs`, `frees` and `moved` are in BERTH_SAMPLE_ONE */
    _Atomic uint64_t requested, held, allocs, frees, moved, lifetime_ns;
    _Atomic uint64_t samples, samples_freed; /* themselves, which `lifetime_ns` is of */
};

struct account {
    _Atomic(struct cell *) cells;
    _Atomic uint64_t held, peak_held; /* of all cells */
};

struct account_page {
    struct account account[PAGE_ACCOUNTS];
};

struct account_directory {
    _Atomic(struct account_page *) page[PAGE_COUNT];
};

/* Zero-initialised: it may be used before any constructor of Berth's has run. */
extern BERTH_SHARED struct account_directory berth__site_accounts;
struct account_directory berth__site_accounts;

static struct account *account_find(berth_site_id site)
{
    struct account_page *page;

    if (site == 0 || site >= BERTH_SITE_MAX)
        return NULL;
    page =
        atomic_load_explicit(&berth__site_accounts.page[site >> PAGE_SHIFT], memory_order_acquire);
    return page ? &page->account[site & (PAGE_ACCOUNTS - 1)] : NULL;
}

/* The same, its page made if need be; NULL when there is no memory. */
static struct account *account_make(berth_site_id site)
{
    struct account *account = account_find(site);
    struct account_page *fresh, *none = NULL;

    if (account || site == 0 || site >= BERTH_SITE_MAX)
        return account;
    fresh = berth__site_store_alloc(sizeof(*fresh));
    if (!fresh)
        return NULL;
    /* Two threads may both get here: the first page stays, the other's memory is lost. */
    atomic_compare_exchange_strong_explicit(&berth__site_accounts.page[site >> PAGE_SHIFT], &none,
                                            fresh, memory_order_acq_rel, memory_order_acquire);
    return account_find(site);
}

/* Which cell a block is counted in. */
struct key {
    berth_tier_id tier;
    enum berth_tag tag;
    bool is_estimate;
};

static struct key key_of(const struct berth_site_block *block)
{
    return (struct key){block->tier, block->tag, block->sample != 0};
}

static bool cell_is(const struct cell *cell, const struct key *key)
{
    return cell->tier == key->tier && cell->tag == (uint8_t)key->tag &&
           cell->is_estimate == key->is_estimate;
}

static struct cell *cell_find(struct account *account, const struct key *key)
{
    struct cell *cell = atomic_load_explicit(&account->cells, memory_order_acquire);

    while (cell && !cell_is(cell, key))
        cell = atomic_load_explicit(&cell->next, memory_order_acquire);
    return cell;
}

/*
 * The same, made if need be; NULL when there is no memory. Frees make cells, too: of a block that
 * is getting another tag, its owner may see the new one before the account does.
 */
static struct cell *cell_make(struct account *account, const struct key *key)
{
    struct cell *cell = cell_find(account, key);
    _Atomic(struct cell *) *last = &account->cells;
    struct cell *fresh;

    if (BERTH_LIKELY(cell != NULL))
        return cell;
    fresh = berth__site_store_alloc(sizeof(*fresh));
    if (!fresh)
        return NULL;
    fresh->tier = key->tier;
    fresh->tag = (uint8_t)key->tag;
    fresh->is_estimate = key->is_estimate;
    for (;;) {
        cell = NULL;
        if (atomic_compare_exchange_strong_explicit(last, &cell, fresh, memory_order_acq_rel,
                                                    memory_order_acquire))
            return fresh;
        /* Another thread's: the same, or one to go behind. */
        if (cell_is(cell, key))
            return cell;
        last = &cell->next;
    }
}

static uint64_t add(_Atomic uint64_t *counter, uint64_t amount)
{
    return atomic_fetch_add_explicit(counter, amount, memory_order_relaxed) + amount;
}

static uint64_t load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void account_add(struct account *account, uint64_t held)
{
    uint64_t sum = add(&account->held, held);
    uint64_t peak = load(&account->peak_held);

    while ((int64_t)sum > (int64_t)peak &&
           !atomic_compare_exchange_weak_explicit(&account->peak_held, &peak, sum,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

/* Of one block, all that it stands for; what was added is taken off to the byte. */
static uint64_t all_of(const struct berth_site_block *block, uint64_t size)
{
    return block->sample ? block->sample * size / BERTH_SAMPLE_ONE : size;
}

static uint64_t count_of(const struct berth_site_block *block)
{
    return block->sample ? block->sample : 1;
}

bool berth__site_account_alloc(const struct berth_site_block *block)
{
    struct account *account = account_make(block->site);
    const struct key key = key_of(block);
    struct cell *cell = account ? cell_make(account, &key) : NULL;

    if (!cell)
        return false;
    add(&cell->allocs, count_of(block));
    add(&cell->requested, all_of(block, block->requested));
    add(&cell->held, all_of(block, block->held));
    if (key.is_estimate)
        add(&cell->samples, 1);
    account_add(account, all_of(block, block->held));
    return true;
}

void berth__site_account_free(const struct berth_site_block *block, uint64_t lifetime_ns)
{
    struct account *account = account_find(block->site);
    const struct key key = key_of(block);
    struct cell *cell = account ? cell_make(account, &key) : NULL;

    if (!cell)
        return;
    add(&cell->frees, count_of(block));
    add(&cell->lifetime_ns, lifetime_ns);
    add(&cell->requested, -all_of(block, block->requested));
    add(&cell->held, -all_of(block, block->held));
    if (key.is_estimate)
        add(&cell->samples_freed, 1);
    add(&account->held, -all_of(block, block->held));
}

void berth__site_account_resize(const struct berth_site_block *block, uint64_t requested,
                                uint64_t held)
{
    struct account *account = account_find(block->site);
    const struct key key = key_of(block);
    struct cell *cell = account ? cell_make(account, &key) : NULL;

    if (!cell)
        return;
    add(&cell->requested, all_of(block, requested) - all_of(block, block->requested));
    add(&cell->held, all_of(block, held) - all_of(block, block->held));
    account_add(account, all_of(block, held) - all_of(block, block->held));
}

bool berth__site_account_move(const struct berth_site_block *block, berth_tier_id tier,
                              enum berth_tag tag)
{
    struct account *account = account_find(block->site);
    const struct key from_key = key_of(block), to_key = {tier, tag, block->sample != 0};
    struct cell *from = account ? cell_find(account, &from_key) : NULL;
    struct cell *to = from ? cell_make(account, &to_key) : NULL;

    if (!to)
        return false;
    add(&to->moved, count_of(block));
    add(&to->requested, all_of(block, block->requested));
    add(&to->held, all_of(block, block->held));
    add(&from->moved, -count_of(block));
    add(&from->requested, -all_of(block, block->requested));
    add(&from->held, -all_of(block, block->held));
    return true;
}

/* A difference that calls in flight may have taken below 0. */
static uint64_t at_least_zero(uint64_t value)
{
    return (int64_t)value < 0 ? 0 : value;
}

static uint64_t rounded(uint64_t count)
{
    return (count + BERTH_SAMPLE_ONE / 2) / BERTH_SAMPLE_ONE;
}

/* Counts what the samples stand for; their lifetimes together are then of so many blocks, too. */
static void cell_estimate(const struct cell *cell, struct berth_site_reading *ret)
{
    uint64_t freed = load(&cell->samples_freed);
    double lifetime_ns = 0;

    ret->allocs = rounded(ret->allocs);
    ret->frees = rounded(ret->frees);
    ret->blocks = rounded(ret->blocks);
    ret->samples = load(&cell->samples);
    if (freed > 0)
        lifetime_ns = (double)ret->lifetime_ns / (double)freed * (double)ret->frees;
    ret->lifetime_ns = lifetime_ns < (double)INT64_MAX ? (uint64_t)lifetime_ns : INT64_MAX;
}

static void cell_read(const struct cell *cell, struct berth_site_reading *ret)
{
    ret->tier = cell->tier;
    ret->tag = (enum berth_tag)cell->tag;
    ret->held = at_least_zero(load(&cell->held));
    ret->requested = at_least_zero(load(&cell->requested));
    /* The frees first: no block is seen freed that was not seen allocated. */
    ret->frees = load(&cell->frees);
    ret->allocs = load(&cell->allocs);
    ret->blocks = at_least_zero(ret->allocs - ret->frees + load(&cell->moved));
    ret->lifetime_ns = load(&cell->lifetime_ns);
    ret->samples = 0;
    if (cell->is_estimate)
        cell_estimate(cell, ret);
}

bool berth__site_account_cell(berth_site_id site, unsigned index, struct berth_site_reading *ret)
{
    struct account *account = account_find(site);
    struct cell *cell =
        account ? atomic_load_explicit(&account->cells, memory_order_acquire) : NULL;

    while (cell && index-- > 0)
        cell = atomic_load_explicit(&cell->next, memory_order_acquire);
    if (!cell)
        return false;
    cell_read(cell, ret);
    return true;
}

bool berth__site_account_total(berth_site_id site, struct berth_site_total *ret)
{
    struct account *account = account_find(site);
    struct berth_site_reading reading;

    if (!account || !atomic_load_explicit(&account->cells, memory_order_acquire))
        return false;
    *ret = (struct berth_site_total){.peak_held = load(&account->peak_held)};
    for (unsigned i = 0; berth__site_account_cell(site, i, &reading); i++) {
        ret->requested += reading.requested;
        ret->held += reading.held;
        ret->blocks += reading.blocks;
        ret->allocs += reading.allocs;
        ret->frees += reading.frees;
        ret->lifetime_ns += reading.lifetime_ns;
    }
    return true;
}
