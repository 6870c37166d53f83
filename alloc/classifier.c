/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/classifier.h"

#include "alloc/classifier_parts.h"
#include "alloc/log.h"
#include "alloc/sandbox.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

/* However many births there were, so many are enough for another look at the live blocks. */
#define JUDGEMENT_BIRTHS_MAX 4096

/* So large a part of what is alive, and at least so many bytes, may be inputs that are kept. */
#define LARGE_SHARE 8
#define LARGE_MIN ((uint64_t)4 << 20)

extern BERTH_SHARED struct berth_classifier berth__classifiers[2];
struct berth_classifier berth__classifiers[2];

struct berth_classifier *berth__classifier(enum berth_side side)
{
    return &berth__classifiers[side == BERTH_SIDE_DEVICE];
}

bool berth__classifier_is_on(const struct berth_classifier *classifier)
{
    return atomic_load_explicit(&classifier->ops, memory_order_relaxed) != NULL;
}

void berth__classifier_start(enum berth_side side, const struct berth_classifier_ops *ops)
{
    struct berth_classifier *classifier = berth__classifier(side);

    if (!berth__class_tables_make(classifier))
        return;
    atomic_store_explicit(&classifier->next_judgement, BERTH_CLASS_JUDGEMENT_BIRTHS,
                          memory_order_relaxed);
    atomic_store_explicit(&classifier->next_step, 1, memory_order_relaxed);
    atomic_store_explicit(&classifier->large_from, ops->watch ? LARGE_MIN : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&classifier->ops, ops, memory_order_release);
}

static uint32_t count(_Atomic uint32_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

enum berth_tag berth__classifier_guess(struct berth_classifier *classifier, size_t size,
                                       const void *caller, berth_site_id site)
{
    uint32_t family = berth__class_family(classifier, caller);
    struct berth_class_key *key =
        berth__class_key(classifier, berth__class_key_id(family, size, site), false);
    unsigned growths;
    uint32_t births, deaths;

    if (berth__class_grows(classifier, family, size, &growths) && growths >= 2)
        return BERTH_TAG_KV;
    if (!key)
        return BERTH_TAG_UNTAGGED;
    births = count(&key->births);
    deaths = count(&key->deaths);
    /* Of a path whose blocks were all found to be the same, the next one is that, too. */
    for (unsigned tag = BERTH_TAG_WEIGHT; tag < BERTH_TAG_COUNT && site != 0; tag++)
        if (count(&key->finals[tag]) > 0 && count(&key->finals[tag]) + deaths >= births &&
            deaths <= count(&key->finals[tag]))
            return (enum berth_tag)tag;
    /* Two that went, and most of all: what comes now will go as well. */
    if (deaths >= 2 && deaths * 2 >= births)
        return count(&key->instant) * 2 > deaths ? BERTH_TAG_WORKSPACE : BERTH_TAG_ACTIVATION;
    return BERTH_TAG_UNTAGGED;
}

static void block_fill(struct berth_class_block *block, const struct berth_class_birth *birth,
                       bool tells_fills)
{
    bool is_guess = birth->tagged_by == BERTH_TAGGED_CLASSIFIER;

    enum berth_class_reason reason = !is_guess                           ? BERTH_REASON_NONE
                                     : birth->tag == BERTH_TAG_KV        ? BERTH_REASON_GROWING
                                     : birth->tag == BERTH_TAG_WORKSPACE ? BERTH_REASON_IN_OPERATOR
                                     : birth->tag == BERTH_TAG_WEIGHT    ? BERTH_REASON_REPEATED
                                                                         : BERTH_REASON_IN_STEP;

    berth__class_set(&block->tag, (uint8_t)birth->tag);
    berth__class_set(&block->told, is_guess ? BERTH_TAG_UNTAGGED : (uint8_t)birth->tag);
    berth__class_set(&block->noted, (uint8_t)birth->noted);
    berth__class_set(&block->level, is_guess ? BERTH_CLASS_GUESSED : BERTH_CLASS_UNKNOWN);
    berth__class_set(&block->reason, (uint8_t)reason);
    berth__class_set(&block->changes, 0);
    berth__class_set(&block->filled_at, 0);
    berth__class_set(&block->filled_step, 0);
    berth__class_set(&block->loaded_at, 0);
    berth__class_set(&block->loaded_step, 0);
    for (unsigned i = 0; i < BERTH_FILL_PARTS && tells_fills; i++)
        berth__class_set(&block->fills[i], 0);
    berth__class_set(&block->size, birth->size);
    berth__class_set(&block->held, birth->held);
    block->had = is_guess ? berth__class_bit(birth->tag) : 0;
    block->looks = block->compared = block->reads = 0;
    block->silent_rewrites = block->replacements = 0;
    block->found_old = block->found_young = 0;
    block->is_young = false;
    block->known_at = 0;
    block->is_suspect = block->is_watched = block->is_pieced = false;
    block->is_last = block->is_listed = block->is_derived = block->was_matched = false;
    block->was_filled = block->is_slow = false;
    block->replaced_words = block->turned_words = 0;
    block->set_words = block->negative_words = 0;
    block->looked_at = block->looked_size = block->changed = block->rewritten = 0;
}

/* The next births come when what is large now is filled, and before much of it is read. */
#define BIRTHS_TO_FILL 2

static void judge_soon(struct berth_classifier *classifier, uint64_t size, uint64_t number)
{
    uint64_t large = berth__class_load(&classifier->large_from);

    if (BERTH_UNLIKELY(large != 0 && size >= large) &&
        berth__class_load(&classifier->next_judgement) > number + BIRTHS_TO_FILL)
        berth__class_set(&classifier->next_judgement, number + BIRTHS_TO_FILL);
}

uint32_t berth__classifier_born(struct berth_classifier *classifier,
                                const struct berth_class_birth *birth)
{
    uint32_t family = berth__class_family(classifier, birth->caller);
    struct berth_class_family *families =
        atomic_load_explicit(&classifier->families, memory_order_acquire);
    uint64_t id = berth__class_key_id(family, birth->size, birth->site);
    struct berth_class_key *key = berth__class_key(classifier, id, true);
    /* Before the birth is counted: a record's blocks have ever later births, and one that the
     * judge passes by for that will not become one that it works with. */
    uint32_t block_number = berth__class_block_take(classifier);
    uint64_t number = atomic_fetch_add_explicit(&classifier->births, 1, memory_order_relaxed) + 1;
    uint64_t family_birth =
        atomic_fetch_add_explicit(&families[family].births, 1, memory_order_relaxed) + 1;
    struct berth_class_block *block;

    berth__class_set(&key->size, birth->size);
    berth__class_set(&key->family, family);
    berth__class_set(&key->last_birth, number);
    atomic_fetch_add_explicit(&key->births, 1, memory_order_relaxed);
    judge_soon(classifier, birth->size, number);
    if (!block_number)
        return 0;
    block = berth__class_block(classifier, block_number);
    block_fill(block, birth,
               atomic_load_explicit(&classifier->ops, memory_order_relaxed)->tells_fills);
    berth__class_set(&block->birth, number);
    berth__class_set(&block->family_birth, family_birth);
    berth__class_set(&block->step, berth__class_load(&classifier->steps));
    berth__class_set(&block->key, id);
    berth__class_set(&block->key_at, (uint32_t)(key - atomic_load_explicit(&classifier->keys,
                                                                           memory_order_relaxed)));
    berth__class_set(&block->family, family);
    atomic_store_explicit(&block->address, birth->address, memory_order_release);
    return block_number;
}

/* Keeps the lower of two births, of which 0 is none; the other one. */
static uint64_t keep_lower(_Atomic uint64_t *at, uint64_t birth)
{
    uint64_t was = berth__class_load(at);

    while (was == 0 || birth < was)
        if (atomic_compare_exchange_weak_explicit(at, &was, birth, memory_order_relaxed,
                                                  memory_order_relaxed))
            return was;
    return birth;
}

/* Whether it was found for good to be a weight that was there before the steps. */
static bool is_known(const struct berth_class_block *block)
{
    uint8_t reason = atomic_load_explicit(&block->reason, memory_order_relaxed);

    return atomic_load_explicit(&block->level, memory_order_relaxed) == BERTH_CLASS_FINAL &&
           atomic_load_explicit(&block->tag, memory_order_relaxed) == BERTH_TAG_WEIGHT &&
           (reason == BERTH_REASON_READ_ONLY || reason == BERTH_REASON_TRAINED ||
            reason == BERTH_REASON_TOUCHED_UP);
}

/* What the block's key learns from its death: of a weight nothing, because a model that is deleted
 * is no sign that the next one's weights will go. */
static void key_died(struct berth_classifier *classifier, const struct berth_class_block *block)
{
    struct berth_class_key *key = &atomic_load_explicit(
        &classifier->keys, memory_order_relaxed)[block->key_at % BERTH_CLASS_KEYS];
    uint64_t lived, later;

    if (key->id != block->key || is_known(block))
        return;
    lived = berth__class_load(&classifier->births) - block->birth;
    if (lived > berth__class_load(&key->longest))
        atomic_store_explicit(&key->longest, lived, memory_order_relaxed);
    atomic_fetch_add_explicit(&key->deaths, 1, memory_order_relaxed);
    if (lived == 0)
        atomic_fetch_add_explicit(&key->instant, 1, memory_order_relaxed);
    later = keep_lower(&key->first_dead, block->birth);
    if (later != 0)
        keep_lower(&key->second_dead, later);
}

void berth__classifier_died(struct berth_classifier *classifier, uint32_t number)
{
    struct berth_class_block *block = berth__class_block(classifier, number);

    /* Either this death is seen by the judge when it lists the blocks, or the judge is seen here:
     * both write first, then read what the other has written, in one order for all. */
    if (!block ||
        atomic_exchange_explicit(&block->address, (uintptr_t)0, memory_order_seq_cst) == 0)
        return;
    key_died(classifier, block);
    berth__class_block_give(classifier, number,
                            berth__class_load(&block->birth) <=
                                atomic_load_explicit(&classifier->judged_to, memory_order_seq_cst));
}

void berth__classifier_resized(struct berth_classifier *classifier, uint32_t number, size_t size,
                               size_t held)
{
    struct berth_class_block *block = berth__class_block(classifier, number);

    if (!block)
        return;
    atomic_store_explicit(&block->held, held, memory_order_relaxed);
    atomic_store_explicit(&block->size, size, memory_order_relaxed);
}

/* Adds to a part's count what fits; what it was. */
static uint32_t add_fill(_Atomic uint32_t *fill, uint64_t units)
{
    uint32_t was = atomic_load_explicit(fill, memory_order_relaxed);

    while (!atomic_compare_exchange_weak_explicit(
        fill, &was, units > UINT32_MAX - was ? UINT32_MAX : was + (uint32_t)units,
        memory_order_relaxed, memory_order_relaxed))
        ;
    return was;
}

/* Counts the fill part by part; whether one of these is not filled again and again. */
static bool count_fill(struct berth_class_block *block, uint64_t whole, uint64_t at, uint64_t size)
{
    uint64_t part = berth__class_fill_part(whole), unit = berth__class_fill_unit(whole);
    uint64_t end = size > whole - at ? whole : at + size;
    bool is_loaded = false;

    while (at < end) {
        uint64_t index = at / part, next = (index + 1) * part < end ? (index + 1) * part : end;
        uint32_t was = add_fill(&block->fills[index], (next - at + unit - 1) / unit);

        is_loaded |= was < BERTH_FILLS_AGAIN * (part / unit);
        at = next;
    }
    return is_loaded;
}

void berth__classifier_filled(struct berth_classifier *classifier, uint32_t number, uint64_t offset,
                              uint64_t size)
{
    struct berth_class_block *block = berth__class_block(classifier, number);
    uint64_t births = berth__class_load(&classifier->births);
    uint64_t steps = berth__class_load(&classifier->steps);
    uint64_t whole = block ? berth__class_load(&block->size) : 0;

    if (offset >= whole || atomic_load_explicit(&block->address, memory_order_relaxed) == 0)
        return;
    berth__class_set(&block->filled_at, births);
    berth__class_set(&block->filled_step, steps);
    if (count_fill(block, whole, offset, size)) {
        berth__class_set(&block->loaded_at, births);
        berth__class_set(&block->loaded_step, steps);
    }
    atomic_fetch_add_explicit(&classifier->fills, 1, memory_order_relaxed);
}

static uint64_t large_from(const struct berth_judgement *judgement)
{
    const struct berth_classifier_ops *ops =
        atomic_load_explicit(&judgement->classifier->ops, memory_order_relaxed);
    uint64_t alive = 0;

    if (judgement->is_steady || judgement->steps > 0 || !ops->watch)
        return 0;
    for (uint32_t i = 0; i < judgement->count; i++)
        alive += judgement->seen[i].size;
    return alive / LARGE_SHARE > LARGE_MIN ? alive / LARGE_SHARE : LARGE_MIN;
}

/* How long until the next judgement: judging costs in proportion to the live blocks. */
static uint64_t births_until_next(const struct berth_judgement *judgement)
{
    uint64_t since = judgement->births - judgement->boundary;
    uint64_t births = since / 4 < JUDGEMENT_BIRTHS_MAX ? since / 4 : JUDGEMENT_BIRTHS_MAX;

    if (births < judgement->count / 4)
        births = judgement->count / 4;
    return births < BERTH_CLASS_JUDGEMENT_BIRTHS ? BERTH_CLASS_JUDGEMENT_BIRTHS : births;
}

static void sift_down(struct berth_class_seen *seen, uint32_t at, uint32_t end)
{
    for (uint32_t child = 2 * at + 1; child < end; at = child, child = 2 * at + 1) {
        struct berth_class_seen swapped = seen[at];

        if (child + 1 < end && seen[child].birth < seen[child + 1].birth)
            child++;
        if (seen[at].birth >= seen[child].birth)
            return;
        seen[at] = seen[child];
        seen[child] = swapped;
    }
}

/* A heap sort: the C library's may call malloc. */
static void sort_by_birth(struct berth_class_seen *seen, uint32_t length)
{
    for (uint32_t i = length / 2; i-- > 0;)
        sift_down(seen, i, length);
    for (uint32_t end = length; end > 1; end--) {
        struct berth_class_seen last = seen[0];

        seen[0] = seen[end - 1];
        seen[end - 1] = last;
        sift_down(seen, 0, end - 1);
    }
}

/* Lists the live blocks by birth, as far as their numbers are held back if they die. */
static void collect(struct berth_judgement *judgement, uint32_t blocks)
{
    for (uint32_t number = 1; number <= blocks; number++) {
        struct berth_class_block *block = berth__class_block(judgement->classifier, number);
        struct berth_class_seen *seen = &judgement->seen[judgement->count];

        if (!block || atomic_load_explicit(&block->address, memory_order_seq_cst) == 0 ||
            berth__class_load(&block->birth) > judgement->births)
            continue;
        *seen = (struct berth_class_seen){block->birth, block->family_birth, block->size, number,
                                          block->family};
        judgement->count++;
    }
    sort_by_birth(judgement->seen, judgement->count);
}

static void apply(struct berth_judgement *judgement, const struct berth_class_seen *seen,
                  struct berth_class_verdict *verdict)
{
    struct berth_classifier *classifier = judgement->classifier;
    const struct berth_classifier_ops *ops =
        atomic_load_explicit(&classifier->ops, memory_order_relaxed);
    struct berth_class_block *block = berth__class_block(classifier, seen->number);
    uintptr_t address = atomic_load_explicit(&block->address, memory_order_acquire);
    struct berth_class_key *key;
    enum berth_tag was;

    /* Dead, or another size than what was judged: the verdict is nobody's. */
    was = (enum berth_tag)block->tag;
    if (address == 0 || berth__class_load(&block->size) != seen->size ||
        !berth__class_heed(block, verdict))
        return;
    if (berth__log_enabled(BERTH_LOG_DEBUG, BERTH_TOPIC_CLASSIFIER))
        berth__class_log(block, seen->number);
    key = berth__class_key(classifier, block->key, false);
    if (is_known(block))
        block->known_at = judgement->births;
    if (key && verdict->level == BERTH_CLASS_FINAL)
        atomic_fetch_add_explicit(&key->finals[verdict->tag], 1, memory_order_relaxed);
    if (verdict->tag == was)
        return;
    berth__class_set(&block->changes, block->changes + 1);
    ops->retag(address, block->held, seen->number, verdict->tag);
}

/* What the next judgement knows of this one: whether the program trains. */
static void note_training(struct berth_judgement *judgement)
{
    struct berth_classifier *classifier = judgement->classifier;

    /* Where no steps are seen for a while, as between what a first one does once and the next ones,
     * nothing is known anew, and what was known holds. */
    if (!judgement->is_steady)
        return;
    classifier->knows_training = true;
    classifier->trained_bytes = classifier->idle_bytes = 0;
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];
        const struct berth_class_block *block = berth__class_block(classifier, seen->number);

        if (seen->birth > judgement->boundary)
            return;
        if (block->reason == BERTH_REASON_TRAINED || block->reason == BERTH_REASON_TOUCHED_UP)
            classifier->trained_bytes += seen->size;
        else if (block->is_suspect ||
                 ((block->is_positive || block->is_constant) && block->changed == 0))
            classifier->idle_bytes += seen->size;
    }
}

/*
 * So many blocks for each that is alive are looked at for the originals of others: each judgement
 * costs in proportion to the blocks, and what it leaves is for the next ones. Of a model of two
 * hundred tensors all are.
 */
#define PAIRS_PER_BLOCK 512

static void judge_all(struct berth_judgement *judgement, uint32_t blocks)
{
    collect(judgement, blocks);
    judgement->classifier->pairs_left = (uint64_t)judgement->count * PAIRS_PER_BLOCK;
    berth__class_phase(judgement);
    berth__class_log_phase(judgement);
    berth__class_reads_end(judgement);
    berth__class_growth_note(judgement);
    berth__class_inputs_find(judgement);
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_block *block =
            berth__class_block(judgement->classifier, judgement->seen[i].number);
        struct berth_class_verdict verdict = {BERTH_TAG_UNTAGGED, BERTH_CLASS_UNKNOWN,
                                              BERTH_REASON_NONE};

        if (block->level == BERTH_CLASS_FINAL || block->told != BERTH_TAG_UNTAGGED)
            continue;
        berth__class_verdict(judgement, &judgement->seen[i], &verdict);
        apply(judgement, &judgement->seen[i], &verdict);
    }
    note_training(judgement);
    atomic_store_explicit(&judgement->classifier->is_silent,
                          !judgement->is_steady || judgement->is_doubtful, memory_order_relaxed);
    berth__class_reads_begin(judgement);
    berth__class_set(&judgement->classifier->large_from, large_from(judgement));
    /* One that came between puts off none of those that are due by the number of births. */
    if (judgement->births >= judgement->classifier->due_judgement)
        judgement->classifier->due_judgement = judgement->births + births_until_next(judgement);
    berth__class_set(&judgement->classifier->next_judgement, judgement->classifier->due_judgement);
}

/* What a judgement works with, in one mapping. */
struct scratch {
    char *at;
    size_t size, numbers_size, seen_size;
    uint64_t room; /* of the sets of sizes */
};

/* False: there is no memory. */
static bool scratch_map(uint32_t blocks, uint32_t keys, struct scratch *ret)
{
    struct scratch scratch = {
        .room = 64,
        .seen_size = (size_t)blocks * sizeof(struct berth_class_seen),
        /* It serves the families, too. */
        .numbers_size = (keys + 4 * (size_t)BERTH_CLASS_FAMILIES) * sizeof(uint64_t),
    };

    while (scratch.room < 2 * ((uint64_t)blocks + keys))
        scratch.room *= 2;
    scratch.size = scratch.numbers_size +
                   scratch.room * (sizeof(uint64_t) + sizeof(struct berth_class_size)) +
                   scratch.seen_size;
    scratch.at = mmap(NULL, scratch.size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (scratch.at == MAP_FAILED)
        return false;
    *ret = scratch;
    return true;
}

/* How much the program has worked; 0 where the side cannot tell. */
static uint64_t worked(const struct berth_classifier *classifier)
{
    const struct berth_classifier_ops *ops =
        atomic_load_explicit(&classifier->ops, memory_order_relaxed);

    return ops->worked ? ops->worked() : 0;
}

static void note_answer(struct berth_classifier *classifier, uint64_t now, uint64_t began)
{
    uint64_t work = worked(classifier);

    berth__class_set(&classifier->judged_at, now);
    berth__class_set(&classifier->judged_cost, work - began);
    berth__class_set(&classifier->judged_work, work);
}

static void judge(struct berth_classifier *classifier, bool is_asked)
{
    uint64_t now = berth__class_now(classifier), began = is_asked ? worked(classifier) : 0;
    bool is_again = is_asked && berth__class_load(&classifier->judged_at) == now;
    uint64_t births = berth__class_load(&classifier->births);
    uint32_t blocks = count(&classifier->block_count);
    uint32_t keys = count(&classifier->used_key_count);
    struct scratch scratch;
    char *sizes;

    if (!scratch_map(blocks, keys, &scratch))
        return;
    sizes = scratch.at + scratch.numbers_size;
    classifier->round += is_again;
    atomic_store_explicit(&classifier->judged_to, births, memory_order_seq_cst);
    judge_all(
        &(struct berth_judgement){
            .classifier = classifier,
            .is_asked = is_asked,
            .is_again = is_again,
            .key_count = keys,
            .trained_bytes = classifier->trained_bytes,
            .idle_bytes = classifier->idle_bytes,
            .numbers = (uint64_t *)(void *)scratch.at,
            .sizes = (uint64_t *)(void *)sizes,
            .sizes_room = scratch.room,
            .known_sizes =
                (struct berth_class_size *)(void *)(sizes + scratch.room * sizeof(uint64_t)),
            .seen =
                (struct berth_class_seen *)(void *)(scratch.at + scratch.size - scratch.seen_size),
            .births = births,
            .steps = berth__class_load(&classifier->steps),
        },
        blocks);
    atomic_store_explicit(&classifier->judged_to, 0, memory_order_seq_cst);
    /* A death that has still seen the judgement may come behind this, and waits for the next. */
    berth__class_block_give_held(classifier);
    /* Who asks is told more than is settled: he waits for no other judgement. */
    if (is_asked)
        note_answer(classifier, now, began);
    munmap(scratch.at, scratch.size);
}

/* Who asks again is answered anew when the program has worked for so long, and for so many times as
 * long as the last answer took. */
#define WORK_MIN ((uint64_t)50 * 1000 * 1000)
#define WORK_TIMES 32

/* Whether steps that make nothing may have gone by since somebody asked; in a forked child, whose
 * work is counted anew, they may. */
static bool may_have_stepped(const struct berth_classifier *classifier)
{
    uint64_t most = WORK_TIMES * berth__class_load(&classifier->judged_cost);
    uint64_t before = berth__class_load(&classifier->judged_work), work;

    if (!atomic_load_explicit(&classifier->is_silent, memory_order_relaxed))
        return false;
    work = worked(classifier);
    return work != 0 && (work < before || work - before >= (most > WORK_MIN ? most : WORK_MIN));
}

static bool is_due(const struct berth_classifier *classifier)
{
    return berth__class_load(&classifier->judged_at) != berth__class_now(classifier) ||
           may_have_stepped(classifier);
}

/*
 * Blocks are read, and files of /proc. In a sandbox what was found out before stays; and a thread
 * that was cancelled there, as in malloc(), which is no cancellation point, would judge for ever.
 */
static void judge_alone(struct berth_classifier *classifier, bool is_asked)
{
    int saved_errno = errno;
    int own, there, cancel_state;

    if (berth__sandbox_is_on() || !berth__classifier_is_on(classifier))
        return;
    own = (int)getpid();
    there = atomic_load_explicit(&classifier->judge, memory_order_relaxed);
    /* A child may have been forked while its parent judged: that judge is not in this process. */
    if (there != own &&
        atomic_compare_exchange_strong_explicit(&classifier->judge, &there, own,
                                                memory_order_acquire, memory_order_relaxed)) {
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
        /* Who asked may have been answered while he came here. */
        if (!is_asked || is_due(classifier))
            judge(classifier, is_asked);
        atomic_store_explicit(&classifier->judge, 0, memory_order_release);
        pthread_setcancelstate(cancel_state, NULL);
    }
    errno = saved_errno;
}

void berth__classifier_tend(struct berth_classifier *classifier)
{
    if (BERTH_UNLIKELY(berth__class_load(&classifier->births) >=
                       berth__class_load(&classifier->next_judgement)))
        judge_alone(classifier, false);
}

static void refresh(struct berth_classifier *classifier)
{
    if (berth__classifier_is_on(classifier) && !berth__sandbox_is_on() && is_due(classifier))
        judge_alone(classifier, true);
}

void berth__classifier_refresh(void)
{
    refresh(berth__classifier(BERTH_SIDE_HOST));
    refresh(berth__classifier(BERTH_SIDE_DEVICE));
}

static void step(struct berth_classifier *classifier)
{
    uint64_t none = 0;
    uint64_t number;

    if (!berth__classifier_is_on(classifier))
        return;
    /* One more than the births, so that it is not 0: the boundary is before the first step. */
    atomic_compare_exchange_strong_explicit(&classifier->first_step_birth, &none,
                                            berth__class_load(&classifier->births) + 1,
                                            memory_order_relaxed, memory_order_relaxed);
    number = atomic_fetch_add_explicit(&classifier->steps, 1, memory_order_relaxed) + 1;
    if (number < berth__class_load(&classifier->next_step))
        return;
    /* Each of the first, then ever fewer: what is to be known is known after a few. */
    atomic_store_explicit(&classifier->next_step, number < 4 ? number + 1 : number + number / 4,
                          memory_order_relaxed);
    judge_alone(classifier, false);
}

void berth__classifier_step(void)
{
    step(berth__classifier(BERTH_SIDE_HOST));
    step(berth__classifier(BERTH_SIDE_DEVICE));
}
