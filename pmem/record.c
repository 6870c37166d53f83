/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/record.h"

#include "pmem/jemalloc.h"
#include "pmem/table.h"
#include "pmem/window.h"

#include <errno.h>

#define REQUESTED_BITS 48
#define TAG_SHIFT 48
#define TAGGED_SHIFT 52
#define TAGGED_MASK 7
#define OFFSET_SHIFT 55
#define OFFSET_UNIT_SHIFT 3 /* every address that jemalloc gives is a multiple of 8 */
#define RULE_SHIFT 32
#define VERSION_SHIFT 52
#define ADDRESS_MASK (((uint64_t)1 << 48) - 1)
#define CLASS_SHIFT 48
#define CLASS_UNIT_SHIFT 3 /* every small size class is a multiple of 8 */

static uint64_t load(_Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void store(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static size_t page_offset(const void *p)
{
    return (uintptr_t)p & (BERTH_OS_PAGE - 1);
}

/* What word 1 says besides the site. */
static uint64_t rule_bits(uint32_t rule, uint64_t version)
{
    return (uint64_t)rule << RULE_SHIFT | (version & BERTH_RECORD_VERSION_MASK) << VERSION_SHIFT;
}

static uint64_t first_word(const void *p, const struct berth_record *record)
{
    return ((record->requested + 1) & ADDRESS_MASK) | (uint64_t)record->tag << TAG_SHIFT |
           (uint64_t)record->tagged_by << TAGGED_SHIFT |
           (uint64_t)(page_offset(p) >> OFFSET_UNIT_SHIFT) << OFFSET_SHIFT;
}

/* Word 0 comes last: who sees it sees the block's state, too. */
static void encode(struct berth_page *entry, const void *p, const struct berth_record *record)
{
    uint32_t rule = record->rule < BERTH_RECORD_RULE_SAMPLE ? record->rule : BERTH_RECORD_RULE_NONE;

    if (BERTH_UNLIKELY(record->sample != 0))
        rule = BERTH_RECORD_RULE_SAMPLE;
    store(&entry->word[3], record->sample ? record->sample : record->state);
    store(&entry->word[2], record->birth);
    store(&entry->word[1], (uint64_t)record->site | rule_bits(rule, record->version));
    atomic_store_explicit(&entry->word[0], first_word(p, record), memory_order_release);
}

static bool decode_with(struct berth_page *entry, uint64_t word0, struct berth_record *ret)
{
    uint64_t word1 = load(&entry->word[1]);

    if (word0 == 0)
        return false;
    ret->requested = (size_t)(word0 & ADDRESS_MASK) - 1;
    ret->tag = (enum berth_tag)(word0 >> TAG_SHIFT & (BERTH_TAG_MAX - 1));
    ret->site = (berth_site_id)word1;
    ret->state = load(&entry->word[3]);
    ret->sample = 0;
    ret->rule = (uint32_t)(word1 >> RULE_SHIFT) & BERTH_RECORD_RULE_NONE;
    if (ret->rule == BERTH_RECORD_RULE_SAMPLE) {
        ret->sample = ret->state;
        ret->state = 0;
    }
    if (ret->rule >= BERTH_RECORD_RULE_SAMPLE)
        ret->rule = BERTH_RULE_NONE;
    ret->version = word1 >> VERSION_SHIFT;
    ret->tagged_by = (enum berth_tag_source)(word0 >> TAGGED_SHIFT & TAGGED_MASK);
    ret->birth = load(&entry->word[2]);
    return true;
}

static bool decode(struct berth_page *entry, struct berth_record *ret)
{
    return decode_with(entry, load(&entry->word[0]), ret);
}

static struct berth_page *array_of(uint64_t word1)
{
    return (struct berth_page *)(uintptr_t)(word1 & ADDRESS_MASK);
}

static size_t class_of(uint64_t word1)
{
    return (size_t)(word1 >> CLASS_SHIFT) << CLASS_UNIT_SHIFT;
}

/* The entry of a page that serves no block of a page or more may hold an array of an earlier use.
 */
static void drop_array(struct berth_page *page)
{
    uint64_t old;

    if (load(&page->word[0]) != 0)
        return;
    old = atomic_exchange_explicit(&page->word[1], 0, memory_order_acquire);
    if (old)
        berth_je_dallocx(array_of(old), 0);
}

static size_t array_length(size_t held)
{
    return (BERTH_OS_PAGE + held - 1) / held;
}

/* The array for blocks of `held` bytes in this page, made if there is none; NULL: no memory. */
static struct berth_page *make_array(struct berth_page *page, size_t held)
{
    uint64_t now = atomic_load_explicit(&page->word[1], memory_order_acquire);
    struct berth_page *array;
    uint64_t wanted;

    if (now && class_of(now) == held)
        return array_of(now);
    array = berth_je_mallocx(array_length(held) * sizeof(*array), MALLOCX_ZERO);
    if (!array)
        return NULL;
    wanted = (uint64_t)(uintptr_t)array | (uint64_t)(held >> CLASS_UNIT_SHIFT) << CLASS_SHIFT;
    /* Another thread may do the same for its block in this page; the class is then the same. */
    while (!atomic_compare_exchange_weak_explicit(&page->word[1], &now, wanted,
                                                  memory_order_acq_rel, memory_order_acquire)) {
        if (now && class_of(now) == held) {
            berth_je_dallocx(array, 0);
            return array_of(now);
        }
    }
    if (now)
        berth_je_dallocx(array_of(now), 0);
    return array;
}

/* The entry of an existing block, or NULL. */
static struct berth_page *find_entry(const void *p, size_t held)
{
    struct berth_page *page = berth__window_page(p);
    uint64_t word1;

    if (held >= BERTH_OS_PAGE)
        return page;
    if (load(&page->word[0]) != 0)
        return NULL;
    word1 = atomic_load_explicit(&page->word[1], memory_order_acquire);
    if (!word1 || class_of(word1) != held)
        return NULL;
    return &array_of(word1)[page_offset(p) / held];
}

int berth__record_set(const void *p, size_t held, const struct berth_record *record)
{
    struct berth_page *page = berth__window_page(p);
    struct berth_page *array;

    if (held >= BERTH_OS_PAGE) {
        drop_array(page);
        encode(page, p, record);
        return 0;
    }
    array = make_array(page, held);
    if (!array)
        return -ENOMEM;
    encode(&array[page_offset(p) / held], p, record);
    return 0;
}

bool berth__record_get(const void *p, size_t held, struct berth_record *ret)
{
    struct berth_page *entry = find_entry(p, held);

    return entry && decode(entry, ret);
}

bool berth__record_clear(const void *p, size_t held, struct berth_record *ret)
{
    struct berth_page *entry = find_entry(p, held);

    if (!entry || load(&entry->word[0]) == 0)
        return false;
    /* The tag that another thread gave it in this moment is the one that the block leaves with. */
    decode_with(entry, atomic_exchange_explicit(&entry->word[0], 0, memory_order_relaxed), ret);
    store(&entry->word[1], 0);
    return true;
}

bool berth__record_retag(const void *p, size_t held, const struct berth_record *was,
                         enum berth_tag to, enum berth_tag_source tagged_by)
{
    struct berth_page *page = berth__window_page(p);
    struct berth_record next = *was;
    uint64_t now = first_word(p, was), then;

    next.tag = to;
    next.tagged_by = tagged_by;
    then = first_word(p, &next);
    if (held < BERTH_OS_PAGE ||
        !atomic_compare_exchange_strong_explicit(&page->word[0], &now, then, memory_order_acquire,
                                                 memory_order_relaxed))
        return false;
    if (load(&page->word[3]) == was->state)
        return true;
    /* Handed out again meanwhile, and just as large. If that one is gone already, it was taken off
     * the account with the tag that it had here, and the caller counts on that. */
    return !atomic_compare_exchange_strong_explicit(&page->word[0], &then, first_word(p, was),
                                                    memory_order_relaxed, memory_order_relaxed);
}

void berth__record_set_rule(const void *p, uint32_t rule, uint64_t version)
{
    struct berth_page *page = berth__window_page(p);
    uint64_t site = load(&page->word[1]) & UINT32_MAX;

    store(&page->word[1],
          site |
              rule_bits(rule < BERTH_RECORD_RULE_SAMPLE ? rule : BERTH_RECORD_RULE_NONE, version));
}

static const void *block_base(const void *page_start, struct berth_page *entry)
{
    uint64_t offset = load(&entry->word[0]) >> OFFSET_SHIFT << OFFSET_UNIT_SHIFT;

    return (const char *)page_start + offset;
}

/* Looks among the small blocks that begin in one page for the last one not after `p`. */
static bool find_small(const void *p, const char *page_start, uint64_t word1, const void **ret_base,
                       struct berth_record *ret)
{
    size_t held = class_of(word1);
    struct berth_page *array = array_of(word1);
    size_t offset = (size_t)((const char *)p - page_start);
    size_t from = (offset < BERTH_OS_PAGE ? offset : BERTH_OS_PAGE - 1) / held;

    for (size_t i = from + 1; i-- > 0;) {
        const void *base = block_base(page_start, &array[i]);

        if (decode(&array[i], ret) && base <= p) {
            *ret_base = base;
            return (const char *)p < (const char *)base + held;
        }
    }
    return false;
}

bool berth__record_find(const void *p, const void **ret_base, struct berth_record *ret)
{
    const char *page_start = (const char *)p - page_offset(p);

    /* A page that was carved off follows another, down to the window's first. */
    for (; berth__window_carved(page_start); page_start -= BERTH_OS_PAGE) {
        struct berth_page *page = berth__window_page(page_start);
        uint64_t word1;

        if (decode(page, ret)) {
            const void *base = block_base(page_start, page);

            if (base > p)
                continue;
            *ret_base = base;
            return true;
        }
        word1 = atomic_load_explicit(&page->word[1], memory_order_acquire);
        if (word1 && find_small(p, page_start, word1, ret_base, ret))
            return true;
        if (berth__window_base(berth__window_home(page_start)) == (uintptr_t)page_start)
            break;
    }
    return false;
}
