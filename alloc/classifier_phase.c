/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The phase: where the steps begin, who makes what they use, and how many there were.
 */
#include "alloc/classifier_parts.h"

/* Of the blocks that stay, the main family's must have this share to be all the weights there are;
 * else the weights come from elsewhere. */
#define MAIN_SHARE 64

/* So many judgements that agree with the one before are believed, whatever repeats. */
#define SAME_PHASE_STABLE 3

/* Of the keys that are in use, the one at this place. */
static const struct berth_class_key *key_at(const struct berth_judgement *judgement, uint32_t at)
{
    struct berth_classifier *classifier = judgement->classifier;
    uint32_t place =
        atomic_load_explicit(&classifier->used_keys, memory_order_acquire)[at] % BERTH_CLASS_KEYS;
    const struct berth_class_key *key =
        &atomic_load_explicit(&classifier->keys, memory_order_acquire)[place];

    return key->id == 0 ? NULL : key;
}

/* A free one where nothing is known. */
struct berth_class_size *berth__class_size(const struct berth_judgement *judgement, uint64_t size)
{
    uint64_t at = berth__class_mix(size) & (judgement->sizes_room - 1);

    while (judgement->known_sizes[at].size != 0 && judgement->known_sizes[at].size != size)
        at = (at + 1) & (judgement->sizes_room - 1);
    return &judgement->known_sizes[at];
}

/* The lower one that is not 0. */
static void note_first(uint64_t *first, uint64_t birth)
{
    if (birth != 0 && (*first == 0 || birth < *first))
        *first = birth;
}

static void note_last(uint64_t *last, uint64_t birth)
{
    if (birth > *last)
        *last = birth;
}

static void count_alive(const struct berth_judgement *judgement)
{
    for (uint32_t i = 0; i < judgement->count; i++) {
        struct berth_class_size *known = berth__class_size(judgement, judgement->seen[i].size);
        const struct berth_class_block *block =
            berth__class_block(judgement->classifier, judgement->seen[i].number);

        known->size = judgement->seen[i].size;
        known->alive++;
        note_first(&known->known_at, block->known_at);
        note_first(&known->oldest, judgement->seen[i].birth);
    }
}

/*
 * Whether blocks of this kind still come: since the boundary was taken to be there, in the later
 * half of all births. What was made in order to be copied, while the program loaded, comes no more.
 */
static bool is_current(const struct berth_judgement *judgement, const struct berth_class_key *key,
                       uint64_t boundary)
{
    return key->last_birth > boundary + (judgement->births - boundary) / 2;
}

/*
 * Of each size, what is there of what the main family has made, and of that, before the two that
 * went, between them, and behind. Gradients come when all weights of their size are there.
 */
static void note_order(struct berth_judgement *judgement)
{
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];
        struct berth_class_size *known = berth__class_size(judgement, seen->size);

        if (seen->family != judgement->main)
            continue;
        known->alive_main++;
        note_last(&known->newest, seen->birth);
        if (known->dead[1] == 0)
            continue;
        known->behind += seen->birth > known->dead[1];
        known->before += seen->birth < known->dead[1];
        known->between += seen->birth > known->dead[0] && seen->birth < known->dead[1];
    }
}

/*
 * Whether what went was no gradient: it was made by turns with what is there, and most of that came
 * behind it. What is computed from weights comes behind the first of these, and goes in the first
 * step.
 */
static bool is_made_by_turns(const struct berth_class_size *known)
{
    uint32_t first = known->before - known->between;

    return first > 0 && known->between > 0 && known->behind > known->before;
}

/* The first birth of what the main family has made more than once, and of which nothing is there:
 * steps come and go, and what a program loads stays. 0: there is none. */
static void find_passing(struct berth_judgement *judgement)
{
    for (uint32_t i = 0; i < judgement->key_count; i++) {
        const struct berth_class_key *key = key_at(judgement, i);

        if (key && key->family == judgement->main && key->births >= 2 &&
            berth__class_size(judgement, key->size)->alive_main == 0)
            note_first(&judgement->first_passing, key->first_dead);
    }
}

static void note_deaths(struct berth_judgement *judgement)
{
    for (uint32_t i = 0; i < judgement->key_count; i++) {
        const struct berth_class_key *key = key_at(judgement, i);
        struct berth_class_size *known;

        if (!key || key->family != judgement->main)
            continue;
        note_last(&judgement->last_made, key->last_birth);
        if (key->first_dead == 0)
            continue;
        known = berth__class_size(judgement, key->size);
        known->size = key->size;
        known->has_died = true;
        note_last(&known->newest, key->last_birth);
        if (!is_current(judgement, key, key->first_dead))
            continue;
        note_first(&known->dead[0], key->first_dead);
        note_first(&known->dead[1], key->second_dead);
    }
    note_order(judgement);
    find_passing(judgement);
}

#define ANY_FAMILY UINT32_MAX
#define NO_DEATH UINT32_MAX

/*
 * Whether another of its size came before it, and has gone. In training, what the first step makes
 * and keeps (an optimiser's state) is behind the gradients, and as large; weights were there before
 * them.
 */
static bool is_behind_death(const struct berth_judgement *judgement,
                            const struct berth_class_seen *seen, uint32_t death)
{
    const struct berth_class_size *known = berth__class_size(judgement, seen->size);
    uint64_t dead = death == NO_DEATH || is_made_by_turns(known) ? 0 : known->dead[death];

    return dead != 0 && dead < seen->birth;
}

/* Whether one of its size was known to be a weight before it was made: then it is none of what the
 * program loaded, but what steps keep beside it, though nothing of its size has gone. */
static bool is_behind_known(const struct berth_judgement *judgement,
                            const struct berth_class_seen *seen)
{
    uint64_t known_at = berth__class_size(judgement, seen->size)->known_at;

    return known_at != 0 && known_at < seen->birth;
}

/* For each weight there are a gradient, an optimiser's states, two or three, and what a step has in
 * hand. Where less is left than that, blocks that were read while the program loaded have gone, and
 * tell nothing. */
#define FIRSTS_SHARE 6

/* Behind which death those count less: the second, because the first may be that of a layer that
 * others were copied from; or none. */
static uint32_t choose_death(const struct berth_judgement *judgement, uint32_t family)
{
    const uint32_t second = 1;
    uint64_t firsts = 0, all = 0;

    for (uint32_t i = 0; i < judgement->count; i++) {
        if (judgement->seen[i].family != family)
            continue;
        all++;
        firsts += !is_behind_death(judgement, &judgement->seen[i], second);
    }
    return family != ANY_FAMILY && firsts >= all / FIRSTS_SHARE ? second : NO_DEATH;
}

/* Whether it is what its maker has made last of its size, and all that only comes and goes came
 * behind it: gradients, and what is kept beside them, would come again, and behind other things. */
static bool is_last_loaded(const struct berth_judgement *judgement,
                           const struct berth_class_seen *seen)
{
    return judgement->first_passing > seen->birth &&
           berth__class_size(judgement, seen->size)->newest == seen->birth;
}

/*
 * Births of blocks that stay are dense while a program loads, and sparse once it works. The
 * boundary is where the share of all survivors that were born so far is furthest above the share of
 * all births. False where nothing is ahead: then nothing but loading was seen.
 *
 * Among all families survivors count by their bytes, because a program keeps many small things of
 * its own; in the main family, whose survivors are weights, each counts the same.
 */
static uint64_t weight_of(const struct berth_judgement *judgement,
                          const struct berth_class_seen *seen, uint32_t family, uint32_t death)
{
    if (family == ANY_FAMILY)
        return seen->size >> 12;
    return seen->family == family &&
           (!is_behind_death(judgement, seen, death) || is_last_loaded(judgement, seen)) &&
           !is_behind_known(judgement, seen);
}

static bool find_boundary(const struct berth_judgement *judgement, uint32_t family, uint64_t all,
                          uint64_t *ret_boundary)
{
    uint32_t death = choose_death(judgement, family);
    uint64_t survivors = 0, so_far = 0;
    __int128 best = 0;

    for (uint32_t i = 0; i < judgement->count; i++)
        survivors += weight_of(judgement, &judgement->seen[i], family, death);
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];
        uint64_t births = family == ANY_FAMILY ? seen->birth : seen->family_birth;
        __int128 lead;

        if (family != ANY_FAMILY && seen->family != family)
            continue;
        so_far += weight_of(judgement, seen, family, death);
        lead = (__int128)so_far * all - (__int128)births * survivors;
        if (lead > best) {
            best = lead;
            *ret_boundary = seen->birth;
        }
    }
    return best > 0;
}

/* By bytes, small survivors at the end of the loading are missed: they follow without a gap. */
static void extend_boundary(struct berth_judgement *judgement)
{
    for (uint32_t i = 0; i < judgement->count; i++)
        if (judgement->seen[i].birth > judgement->boundary) {
            if (judgement->seen[i].birth > judgement->boundary + 2)
                return;
            judgement->boundary = judgement->seen[i].birth;
        }
}

/* Whether blocks of this key come in steps, and go. */
static bool is_stepped(const struct berth_judgement *judgement, const struct berth_class_key *key)
{
    return key->deaths > 0 && key->last_birth > judgement->boundary;
}

/*
 * The birth with which half of the bytes that are alive were there. What came and went before it
 * (files that were read, modules that were imported) tells nothing of the steps, however much it
 * was: a server that answers one request at a time makes few large blocks in a step.
 */
static uint64_t find_half(const struct berth_judgement *judgement)
{
    uint64_t all = 0, so_far = 0;

    for (uint32_t i = 0; i < judgement->count; i++)
        all += judgement->seen[i].size;
    for (uint32_t i = 0; i < judgement->count; i++) {
        so_far += judgement->seen[i].size;
        if (so_far >= all / 2)
            return judgement->seen[i].birth;
    }
    return 0;
}

/* Bytes that came and went since most weights were there, and bytes that stayed, by family. */
struct flow {
    uint64_t turnover, kept, kept_blocks;
};

static void measure_flow(const struct berth_judgement *judgement, struct flow *flow)
{
    uint64_t half = find_half(judgement);

    for (uint32_t i = 0; i < judgement->key_count; i++) {
        const struct berth_class_key *key = key_at(judgement, i);

        if (key && key->deaths > 0 && key->last_birth > half)
            flow[key->family % BERTH_CLASS_FAMILIES].turnover += key->size * key->deaths;
    }
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];

        flow[seen->family].kept += seen->size;
        flow[seen->family].kept_blocks++;
    }
}

/* The product of two sums of bytes, coarse enough not to overflow. */
static uint64_t weigh(const struct flow *flow)
{
    return (flow->turnover >> 12) * ((flow->kept >> 12) + 1);
}

/* Of which most is there. */
static uint32_t find_largest(const struct flow *flow)
{
    uint32_t largest = 0;

    for (uint32_t i = 1; i < BERTH_CLASS_FAMILIES; i++)
        if (flow[i].kept > flow[largest].kept)
            largest = i;
    return largest;
}

/*
 * The family that has most both of what goes and of what stays; false: nothing goes. Weights come
 * from it alone, unless what stays of it is not worth mentioning.
 */
static bool find_main(struct berth_judgement *judgement)
{
    struct flow *flow = (struct flow *)(void *)judgement->numbers; /* zero, and not used yet */
    uint64_t most = 0, kept = 0;

    measure_flow(judgement, flow);
    for (uint32_t i = 0; i < BERTH_CLASS_FAMILIES; i++) {
        kept += flow[i].kept;
        if (weigh(&flow[i]) > most) {
            most = weigh(&flow[i]);
            judgement->main = i;
        }
    }
    judgement->largest = find_largest(flow);
    judgement->only_main = most > 0 && flow[judgement->main].kept_blocks >= 2 &&
                           flow[judgement->main].kept >= kept / MAIN_SHARE;
    return most > 0;
}

static void sort(uint64_t *numbers, uint32_t length)
{
    for (uint32_t gap = length / 2; gap > 0; gap /= 2)
        for (uint32_t i = gap; i < length; i++)
            for (uint32_t j = i; j >= gap && numbers[j - gap] > numbers[j]; j -= gap) {
                uint64_t swapped = numbers[j];

                numbers[j] = numbers[j - gap];
                numbers[j - gap] = swapped;
            }
}

/* Which number of a key is asked for: of its first block that died; the same, where nothing of its
 * size was there before the boundary; or how many there were. */
enum kinds { KINDS_FIRST, KINDS_FIRST_FREE, KINDS_BIRTHS };

static bool is_listed(const struct berth_judgement *judgement, const struct berth_class_key *key,
                      enum kinds kinds)
{
    uint64_t oldest = berth__class_size(judgement, key->size)->oldest;

    return key->births >= 2 && is_stepped(judgement, key) &&
           is_current(judgement, key,
                      kinds == KINDS_BIRTHS ? judgement->boundary : key->first_dead) &&
           (!judgement->only_main || judgement->is_elsewhere || key->family == judgement->main) &&
           (kinds != KINDS_FIRST_FREE || oldest == 0 || oldest > judgement->boundary);
}

/* A number of each key that comes again in each step, sorted; how many. */
static uint32_t list_repeated(struct berth_judgement *judgement, enum kinds kinds)
{
    uint32_t length = 0;

    for (uint32_t i = 0; i < judgement->key_count; i++) {
        const struct berth_class_key *key = key_at(judgement, i);

        if (key && is_listed(judgement, key, kinds))
            judgement->numbers[length++] = kinds == KINDS_BIRTHS ? key->births : key->first_dead;
    }
    sort(judgement->numbers, length);
    return length;
}

/* What stays, of what was born behind `from`, up to `to`: of what goes, none was there so long. */
struct kept {
    uint64_t bytes, mirrored; /* of a size of which others went */
    uint64_t blocks;
};

static void add_kept(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                     struct kept *kept)
{
    kept->bytes += seen->size;
    kept->blocks++;
    kept->mirrored += berth__class_size(judgement, seen->size)->has_died ? seen->size : 0;
}

/* Whether it may go as others of its kind did, which were there as long. */
static bool may_go(const struct berth_judgement *judgement, const struct berth_class_seen *seen)
{
    const struct berth_class_key *key = berth__class_key(
        judgement->classifier, berth__class_block(judgement->classifier, seen->number)->key, false);

    return key && key->deaths > 0 && judgement->births - seen->birth <= 2 * key->longest;
}

/*
 * Where most of what was born is there, what went tells nothing of it: of a layer that others are
 * copied from, the copies stay.
 */
static struct kept sum_kept(const struct berth_judgement *judgement, uint64_t from, uint64_t to)
{
    /* Where another family has more, the weights may be its. */
    bool is_alone = judgement->only_main && judgement->main == judgement->largest;
    struct kept kept = {0}, alive = {0};

    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];

        if (seen->birth <= from || seen->birth > to ||
            (is_alone && seen->family != judgement->main))
            continue;
        add_kept(judgement, seen, &alive);
        if (!may_go(judgement, seen))
            add_kept(judgement, seen, &kept);
    }
    return alive.blocks > (to - from) / 2 ? alive : kept;
}

/* For each weight, a step of training keeps a gradient and two states, or three. */
#define KEPT_BY_TRAINING 4

/*
 * Whether one step may have kept what was made between these births and is there. Layers that are
 * loaded one like the other, with something that goes beside each, look like steps, too; but they
 * are more than what was there before, and no gradients of its sizes have gone.
 */
static bool is_of_a_step(const struct berth_judgement *judgement, uint64_t from, uint64_t to)
{
    struct kept before = sum_kept(judgement, 0, from), between = sum_kept(judgement, from, to);

    return between.bytes / (before.mirrored > before.bytes / 2 ? KEPT_BY_TRAINING : 1) <=
           before.bytes;
}

/* Kinds whose size no weight has tell more of the first step, where they are that part of all; and
 * it had begun where that part of them had their first. */
#define FREE_SHARE 4

/*
 * In training, what the first step makes and keeps (an optimiser's state, gradients) looks as if
 * the loading ended behind it. But blocks that come and go in each step were there before: where
 * most kinds of them had their first, the steps had begun. Of those that have the size of what was
 * there before, gradients come when all else of the first step is computed, and what layers were
 * copied from comes while they are loaded: others are asked first. Where batches differ, some of
 * these come in the second step only, and there are more gradients than those of the first one.
 */
static void pull_boundary(struct berth_judgement *judgement)
{
    uint32_t all = list_repeated(judgement, KINDS_FIRST);
    uint32_t length = list_repeated(judgement, KINDS_FIRST_FREE), at = length / FREE_SHARE;

    if (length < all / FREE_SHARE + 1) {
        length = list_repeated(judgement, KINDS_FIRST);
        at = length / 2;
    }
    if (length > 0 && judgement->numbers[at] < judgement->boundary &&
        is_of_a_step(judgement, judgement->numbers[at], judgement->boundary))
        judgement->boundary = judgement->numbers[at];
}

/*
 * Whether steps make nothing in the main family: since its last block others have come again and
 * again of kinds that never came before it. A layer of few bits is computed by a library that has
 * its own room, and all that the framework has was there before.
 */
static bool are_steps_elsewhere(const struct berth_judgement *judgement)
{
    uint64_t since = judgement->births - judgement->last_made, repeated = 0;

    if (judgement->first_passing != 0 || since < BERTH_CLASS_JUDGEMENT_BIRTHS)
        return false;
    for (uint32_t i = 0; i < judgement->key_count; i++) {
        const struct berth_class_key *key = key_at(judgement, i);

        if (key && key->births >= 2 && key->first_dead > judgement->last_made)
            repeated += key->deaths;
    }
    return repeated >= since / 2;
}

/* A key that comes k times in a step was born k times as often as there were steps. */
static void count_steps(struct berth_judgement *judgement)
{
    uint32_t length = list_repeated(judgement, KINDS_BIRTHS);
    uint64_t since = judgement->births - judgement->boundary;

    if (length == 0)
        return;
    judgement->steps_seen = judgement->numbers[length / 4];
    judgement->births_per_step = since / judgement->steps_seen;
}

bool berth__class_has_size(const struct berth_judgement *judgement, uint64_t size)
{
    uint64_t at = berth__class_mix(size) & (judgement->sizes_room - 1);

    while (judgement->sizes[at] != 0 && judgement->sizes[at] != size)
        at = (at + 1) & (judgement->sizes_room - 1);
    return judgement->sizes[at] == size;
}

static void add_size(struct berth_judgement *judgement, uint64_t size)
{
    uint64_t at = berth__class_mix(size) & (judgement->sizes_room - 1);

    while (judgement->sizes[at] != 0 && judgement->sizes[at] != size)
        at = (at + 1) & (judgement->sizes_room - 1);
    judgement->sizes[at] = size;
}

/* The sizes of what the steps make: among them are those of the gradients of what is trained. */
static void note_sizes(struct berth_judgement *judgement)
{
    for (uint32_t i = 0; i < judgement->key_count; i++) {
        const struct berth_class_key *key = key_at(judgement, i);

        if (!key || !is_stepped(judgement, key))
            continue;
        add_size(judgement, key->size);
        if (key->size > judgement->largest_made)
            judgement->largest_made = key->size;
    }
    for (uint32_t i = judgement->count; i-- > 0;)
        if (judgement->seen[i].birth > judgement->boundary)
            add_size(judgement, judgement->seen[i].size);
}

static void count_old(struct berth_judgement *judgement)
{
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];
        struct berth_class_size *known;

        if (seen->birth > judgement->boundary)
            return;
        known = berth__class_size(judgement, seen->size);
        known->size = seen->size;
        if (!judgement->only_main || seen->family == judgement->main) {
            bool is_mirrored = berth__class_has_size(judgement, seen->size);

            judgement->old_bytes += seen->size;
            judgement->mirrored_bytes += is_mirrored ? seen->size : 0;
            judgement->mirrored_sizes += is_mirrored && known->old == 0;
        }
        known->old++;
    }
}

/* Whether at least half of what was born since the boundary came again and again. */
static bool is_repeating(const struct berth_judgement *judgement)
{
    uint64_t repeated = 0;

    for (uint32_t i = 0; i < judgement->key_count; i++) {
        const struct berth_class_key *key = key_at(judgement, i);

        if (key && key->births >= 2 && is_stepped(judgement, key))
            repeated += key->births;
    }
    return judgement->births - judgement->boundary >= BERTH_CLASS_JUDGEMENT_BIRTHS &&
           repeated >= (judgement->births - judgement->boundary) / 2;
}

/*
 * What is read while a program starts comes and goes, too. Steps are believed where they repeat, or
 * where several judgements in a row have found the same phase, because shapes may differ from step
 * to step. Where their allocator has made nothing that stays, all of that must hold, and more must
 * have been born since than the loading took.
 */
static bool is_credible(const struct berth_judgement *judgement, bool repeats, bool is_stable)
{
    if (judgement->only_main)
        return repeats || is_stable;
    return repeats && is_stable &&
           judgement->births - judgement->boundary >= 2 * judgement->boundary;
}

/* Of what is born while a program loads, so much at least stays. */
#define LOADED_SHARE 4

/* Whether what is taken for steps may be loading: much stays of it... */
static bool is_filling(const struct berth_judgement *judgement)
{
    uint64_t since = judgement->births - judgement->boundary;

    return judgement->steps == 0 &&
           sum_kept(judgement, judgement->boundary, judgement->births).blocks >=
               since / LOADED_SHARE;
}

static void note_credit(struct berth_judgement *judgement)
{
    struct berth_classifier *classifier = judgement->classifier;
    bool is_same = judgement->is_steady && judgement->boundary == classifier->last_boundary &&
                   judgement->main == classifier->last_main;
    bool repeats = judgement->is_steady && is_repeating(judgement);
    bool is_stable;

    /* Where nothing was made since, that it is the same tells nothing. */
    if (!judgement->is_again)
        classifier->same_phase = is_same ? classifier->same_phase + 1 : 0;
    classifier->last_boundary = judgement->boundary;
    classifier->last_main = judgement->main;
    is_stable = classifier->same_phase >= SAME_PHASE_STABLE;
    if (judgement->steps > 0) {
        judgement->is_firm = judgement->steps >= 2;
        judgement->is_settled = judgement->steps >= 3;
        return;
    }
    judgement->is_steady = judgement->is_steady && is_credible(judgement, repeats, is_stable);
    judgement->is_filling = is_filling(judgement);
    /* ...and more than steps keep. */
    judgement->is_doubtful =
        judgement->is_filling && !is_of_a_step(judgement, judgement->boundary, judgement->births);
    judgement->is_firm = judgement->is_steady && is_same && !judgement->is_doubtful;
    judgement->is_settled = judgement->is_firm && repeats && is_stable &&
                            judgement->births - judgement->boundary >= judgement->count;
}

/* What an interpreter has in large blocks while it imports modules, and before it loads a model. */
#define LITTLE_BYTES ((uint64_t)16 << 20)

/*
 * Whether no more is alive than that, or most of what is there is not the main family's. Tables of
 * an interpreter outlive what it reads of files, so that imports look like steps, before the
 * weights come or after. What a program declares to be steps is none of that; nor is there an
 * interpreter on a device.
 */
static bool is_starting(const struct berth_judgement *judgement)
{
    const struct berth_classifier_ops *ops =
        atomic_load_explicit(&judgement->classifier->ops, memory_order_relaxed);
    uint64_t alive = 0;

    if (judgement->steps > 0 || ops->tells_fills)
        return false;
    for (uint32_t i = 0; i < judgement->count; i++)
        alive += judgement->seen[i].size;
    return alive < LITTLE_BYTES || (judgement->only_main && judgement->main != judgement->largest);
}

void berth__class_phase(struct berth_judgement *judgement)
{
    struct berth_classifier *classifier = judgement->classifier;
    struct berth_class_family *families =
        atomic_load_explicit(&classifier->families, memory_order_acquire);
    uint64_t declared = berth__class_load(&classifier->first_step_birth);
    bool has_boundary =
        find_boundary(judgement, ANY_FAMILY, judgement->births, &judgement->boundary);

    count_alive(judgement);
    if (declared)
        judgement->boundary = declared - 1;
    judgement->is_steady = find_main(judgement) && (declared || has_boundary);
    if (declared) {
        judgement->is_steady = true;
        judgement->steps_seen = judgement->steps;
    } else if (judgement->is_steady) {
        note_deaths(judgement);
        if (judgement->only_main)
            find_boundary(judgement, judgement->main, families[judgement->main].births,
                          &judgement->boundary);
        else
            extend_boundary(judgement);
        judgement->is_elsewhere = judgement->only_main && are_steps_elsewhere(judgement);
        if (judgement->is_elsewhere)
            judgement->boundary = judgement->last_made;
        else
            pull_boundary(judgement);
        count_steps(judgement);
    }
    note_credit(judgement);
    judgement->is_starting = is_starting(judgement);
    note_sizes(judgement);
    count_old(judgement);
}
