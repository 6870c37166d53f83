/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/site.h"

#include "alloc/log.h"
#include "alloc/module.h"
#include "alloc/site_store.h"
#include "alloc/site_trie.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* Sites by number: a directory of pages, made as numbers are given out, that never move. */
#define PAGE_SHIFT 10 /* 1024 sites */
#define PAGE_SITES ((uint32_t)1 << PAGE_SHIFT)
#define PAGE_COUNT (BERTH_SITE_MAX >> PAGE_SHIFT)
_Static_assert(BERTH_SITE_MAX % PAGE_SITES == 0, "the last page of the directory is whole");

/* One path. Immutable once in the trie, but for its atomics. */
struct site {
    struct berth_site_entry entry; /* first: the trie's view */
    berth_site_id id;
    uint32_t count;
    /* A module of the path was closed: the same addresses, met again, are another site. */
    _Atomic bool stale;
    _Atomic(const struct berth_module_frame *const *) names; /* NULL until they are asked for */
    const void *frames[]; /* and the numbers of their modules, as it was first met */
};

struct site_page {
    _Atomic(struct site *) site[PAGE_SITES];
};

/* Zero-initialised: it may be used before any constructor of Berth's has run. */
struct site_registry {
    struct berth_site_trie trie;
    _Atomic(struct site_page *) page[PAGE_COUNT];
    _Atomic uint32_t count; /* numbers given out; number 0 is never one of them */
    _Atomic uint64_t swept; /* berth__module_gone_count() at the last sweep */
    _Atomic int full_said;
};

extern BERTH_SHARED struct site_registry berth__site_registry;
struct site_registry berth__site_registry;
#define registry (&berth__site_registry)

static uint16_t *site_modules(const struct site *site)
{
    return (uint16_t *)(uintptr_t)(site->frames + site->count);
}

static uint64_t hash_frames(const void *const *frames, unsigned count)
{
    uint64_t hash = count;

    for (unsigned i = 0; i < count; i++) {
        hash = (hash ^ (uint64_t)(uintptr_t)frames[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 29;
    }
    return hash ^ hash >> 32;
}

static bool site_has(const struct site *site, const void *const *frames, unsigned count)
{
    return site->count == count && memcmp(site->frames, frames, count * sizeof(*frames)) == 0;
}

static bool site_is_stale(const struct site *site)
{
    return atomic_load_explicit(&site->stale, memory_order_relaxed);
}

static bool site_is_same(const struct berth_site_entry *in_trie,
                         const struct berth_site_entry *fresh)
{
    const struct site *old = (const struct site *)in_trie;
    const struct site *site = (const struct site *)fresh;

    return site_has(old, site->frames, site->count) && !site_is_stale(old);
}

/* The path's site, or NULL; *ret_stale tells whether there was one of a module that was closed. */
static struct site *site_find(uint64_t hash, const void *const *frames, unsigned count,
                              bool *ret_stale)
{
    struct berth_site_entry *e = berth__site_trie_find(&registry->trie, hash);

    *ret_stale = false;
    for (; e; e = atomic_load_explicit(&e->next, memory_order_acquire)) {
        struct site *site = (struct site *)e;

        if (!site_has(site, frames, count))
            continue;
        if (!site_is_stale(site))
            return site;
        *ret_stale = true;
    }
    return NULL;
}

/* The page of a number, made if need be; NULL when there is no memory. */
static struct site_page *page_make(berth_site_id id)
{
    _Atomic(struct site_page *) *slot = &registry->page[id >> PAGE_SHIFT];
    struct site_page *page = atomic_load_explicit(slot, memory_order_acquire);
    struct site_page *fresh;

    if (page)
        return page;
    fresh = berth__site_store_alloc(sizeof(*fresh));
    if (!fresh)
        return NULL;
    return atomic_compare_exchange_strong_explicit(slot, &page, fresh, memory_order_acq_rel,
                                                   memory_order_acquire)
               ? fresh
               : page;
}

static struct site *site_by_id(berth_site_id id)
{
    struct site_page *page;

    if (id == 0 || id >= BERTH_SITE_MAX)
        return NULL;
    page = atomic_load_explicit(&registry->page[id >> PAGE_SHIFT], memory_order_acquire);
    return page ? atomic_load_explicit(&page->site[id & (PAGE_SITES - 1)], memory_order_acquire)
                : NULL;
}

/* A number that no site has yet, or 0 after all have been given out. */
static berth_site_id id_take(void)
{
    uint32_t count = atomic_load_explicit(&registry->count, memory_order_relaxed);

    do {
        if (count >= BERTH_SITE_MAX - 1) {
            berth__log_once(&registry->full_said, BERTH_LOG_WARNING, BERTH_TOPIC_SITE,
                            "there are %u call sites, the most there can be; further ones are not "
                            "told apart",
                            count);
            return 0;
        }
    } while (!atomic_compare_exchange_weak_explicit(&registry->count, &count, count + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return count + 1;
}

/* Gives the latest number back; one that others have followed stays unused. */
static void id_give_back(berth_site_id id)
{
    uint32_t count = id;

    atomic_compare_exchange_strong_explicit(&registry->count, &count, id - 1, memory_order_relaxed,
                                            memory_order_relaxed);
}

static struct site *site_new(uint64_t hash, const void *const *frames, unsigned count)
{
    struct site *site =
        berth__site_store_alloc(sizeof(*site) + count * (sizeof(*frames) + sizeof(uint16_t)));

    if (!site)
        return NULL;
    site->entry.hash = hash;
    site->count = count;
    /* Which modules these addresses mean, before another may be loaded there. */
    berth__module_note(frames, count, site_modules(site));
    memcpy(site->frames, frames, count * sizeof(*frames));
    return site;
}

/*
 * A number must be known to site_by_id() before anybody can get it from the trie; so it is
 * entered first, and taken out again when another thread was the first to add the same path.
 */
static berth_site_id site_add(uint64_t hash, const void *const *frames, unsigned count)
{
    berth_site_id id = id_take();
    struct site_page *page = id ? page_make(id) : NULL;
    struct site *site = page ? site_new(hash, frames, count) : NULL;
    struct berth_site_entry *kept = NULL;

    if (site) {
        site->id = id;
        atomic_store_explicit(&page->site[id & (PAGE_SITES - 1)], site, memory_order_release);
        kept = berth__site_trie_add(&registry->trie, &site->entry, site_is_same);
        if (kept == &site->entry)
            return id;
        atomic_store_explicit(&page->site[id & (PAGE_SITES - 1)], NULL, memory_order_release);
    }
    if (id)
        id_give_back(id);
    return kept ? ((struct site *)kept)->id : 0;
}

/* Whether a module of this path is gone. */
static bool site_has_gone(const struct site *site)
{
    const uint16_t *modules = site_modules(site);

    for (uint32_t i = 0; i < site->count; i++)
        if (berth__module_is_gone(modules[i]))
            return true;
    return false;
}

/*
 * Retires the sites of modules that were closed, once per closing. Any thread; doing it twice does
 * no harm.
 */
static void sites_sweep(void)
{
    uint64_t gone = berth__module_gone_count();
    berth_site_id count = berth__site_count();

    if (atomic_exchange_explicit(&registry->swept, gone, memory_order_acq_rel) == gone)
        return;
    for (berth_site_id id = 1; id < count; id++) {
        struct site *site = site_by_id(id);

        if (site && site_has_gone(site))
            atomic_store_explicit(&site->stale, true, memory_order_relaxed);
    }
}

void berth__site_refresh(void)
{
    int saved_errno = errno;

    berth__module_refresh();
    sites_sweep();
    errno = saved_errno;
}

/*
 * A stale site whose modules are all back: a program that opens and closes a plug-in again and
 * again must not have a new site each time.
 */
static struct site *site_revive(uint64_t hash, const void *const *frames, unsigned count)
{
    struct berth_site_entry *e = berth__site_trie_find(&registry->trie, hash);

    berth__module_refresh();
    sites_sweep();
    for (; e; e = atomic_load_explicit(&e->next, memory_order_acquire)) {
        struct site *site = (struct site *)e;

        if (!site_has(site, frames, count) || site_has_gone(site))
            continue;
        atomic_store_explicit(&site->stale, false, memory_order_relaxed);
        return site;
    }
    return NULL;
}

/* A line per frame, because a path of C++ names does not fit in one. */
static void site_print(berth_site_id id)
{
    struct berth_site_frame f;

    for (unsigned i = 0; berth__site_frame(id, i, &f) == 0; i++)
        berth__log(BERTH_LOG_DEBUG, BERTH_TOPIC_SITE, "site %u #%u %s%s%s+0x%llx", id, i, f.module,
                   f.symbol ? "!" : "", f.symbol ? f.symbol : "", (unsigned long long)f.offset);
}

berth_site_id berth__site_find(const void *const *frames, unsigned count)
{
    const struct site *site;
    bool stale;

    if (count == 0 || count > BERTH_SITE_FRAMES_MAX)
        return 0;
    site = site_find(hash_frames(frames, count), frames, count, &stale);
    return site ? site->id : 0;
}

berth_site_id berth__site_intern(const void *const *frames, unsigned count)
{
    int saved_errno = errno;
    const struct site *site;
    berth_site_id id;
    uint64_t hash;
    bool stale;

    if (count == 0)
        return 0;
    if (count > BERTH_SITE_FRAMES_MAX)
        count = BERTH_SITE_FRAMES_MAX;
    hash = hash_frames(frames, count);
    site = site_find(hash, frames, count, &stale);
    if (BERTH_UNLIKELY(stale) && !site)
        site = site_revive(hash, frames, count);
    if (BERTH_LIKELY(site != NULL))
        return site->id;
    id = site_add(hash, frames, count);
    if (BERTH_UNLIKELY(berth__log_enabled(BERTH_LOG_DEBUG, BERTH_TOPIC_SITE)))
        site_print(id);
    errno = saved_errno;
    return id;
}

/* Where a module was closed before anybody asked for names, what is loaded there now is not it. */
static void name_gone(const struct site *site, const struct berth_module_frame **names)
{
    const uint16_t *modules = site_modules(site);

    for (uint32_t i = 0; i < site->count; i++) {
        const struct berth_module_frame *name = NULL;

        if (!berth__module_has_named(modules[i], names[i]))
            name = berth__module_name_in(modules[i], site->frames[i]);
        if (name)
            names[i] = name;
    }
}

/* The names of a site, found now if they were not; NULL when there is no memory for them. */
static const struct berth_module_frame *const *site_names(struct site *site)
{
    const struct berth_module_frame *const *names =
        atomic_load_explicit(&site->names, memory_order_acquire);
    const struct berth_module_frame **fresh;

    if (BERTH_LIKELY(names != NULL))
        return names;
    fresh = berth__site_store_alloc(site->count * sizeof(const struct berth_module_frame *));
    if (!fresh || berth__module_name(site->frames, site->count, fresh) < 0)
        return NULL;
    name_gone(site, fresh);
    /* Two threads may both get here: the first array stays, the other's memory is lost. */
    if (atomic_compare_exchange_strong_explicit(&site->names, &names, fresh, memory_order_acq_rel,
                                                memory_order_acquire))
        names = fresh;
    sites_sweep();
    return names;
}

unsigned berth__site_depth(berth_site_id site)
{
    const struct site *s = site_by_id(site);

    return s ? s->count : 0;
}

const char *berth__site_frame_module(berth_site_id site, unsigned index)
{
    const struct site *s = site_by_id(site);
    const struct berth_module_frame *const *names;

    if (!s || index >= s->count)
        return NULL;
    names = atomic_load_explicit(&s->names, memory_order_acquire);
    return names ? names[index]->name.module : berth__module_name_of(site_modules(s)[index]);
}

bool berth__site_frame_may_be(berth_site_id site, unsigned index, const char *symbol, size_t length)
{
    const struct site *s = site_by_id(site);

    if (!s || index >= s->count || atomic_load_explicit(&s->names, memory_order_relaxed))
        return true;
    return berth__module_may_have(site_modules(s)[index], symbol, length);
}

int berth__site_frame(berth_site_id site, unsigned index, struct berth_site_frame *ret)
{
    struct site *s = site_by_id(site);
    const struct berth_module_frame *const *names;

    if (!s || index >= s->count)
        return -ENOENT;
    names = site_names(s);
    if (!names)
        return -ENOMEM;
    *ret = names[index]->name;
    return 0;
}

/* Writes one frame as text; the length of the whole, as snprintf(). */
static size_t frame_text(const struct berth_site_frame *frame, char *text, size_t text_size)
{
    int n = snprintf(text, text_size, "%s%s%s+0x%llx", frame->module, frame->symbol ? "!" : "",
                     frame->symbol ? frame->symbol : "", (unsigned long long)frame->offset);

    return n > 0 ? (size_t)n : 0;
}

size_t berth__site_text(berth_site_id site, char *text, size_t text_size)
{
    struct berth_site_frame frame;
    size_t whole = 0;
    size_t kept = 0;
    bool fits = true;

    if (text_size > 0)
        text[0] = '\0';
    for (unsigned i = 0; berth__site_frame(site, i, &frame) == 0; i++) {
        size_t bar = i > 0;
        size_t room = fits && text_size > kept + bar ? text_size - kept - bar : 0;
        size_t n = frame_text(&frame, room > 0 ? text + kept + bar : NULL, room);

        whole += bar + n;
        fits = n < room;
        if (fits) {
            if (bar)
                text[kept] = '>';
            kept = whole;
        } else if (text_size > 0) {
            text[kept] = '\0';
        }
    }
    return whole;
}

berth_site_id berth__site_count(void)
{
    return atomic_load_explicit(&registry->count, memory_order_acquire) + 1;
}
