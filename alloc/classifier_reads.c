/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How blocks are read that were there before the steps, are not written, and have numbers as large
 * as inputs have. Of weights each step reads all, or, of a table of which it takes rows, pages all
 * over it. Of inputs that are kept, a step reads one piece and leaves the rest alone.
 *
 * What is watched are 64 parts of one block, or 4 parts of each of 16 blocks of a size. It begins
 * at the end of one judgement and ends at the begin of a later one, and what is watched is not
 * looked at meanwhile: looks read, too.
 *
 * What is large is watched before steps are seen, too, so that the first ones tell: then only that
 * pieces were read, and nothing elsewhere, because whoever loads or fills it reads it all.
 */
#include "alloc/classifier_parts.h"

#include "alloc/log.h"

#include <unistd.h>

/* So often, each kind; what is not known by then will not be known. */
#define WATCHES_MAX 6
/* Blocks of one size that are such a part of what was there before the steps. */
#define SUSPECT_SHARE 16
/* Less than so many pages of a stretch, and rows of a table were taken, and no piece of inputs. */
#define PIECE_PAGES 16u
#define FINE_PAGES 8u
#define PART_BYTES ((uint64_t)(2 * PIECE_PAGES + FINE_PAGES) * BERTH_WATCH_PAGE)
/* Parts of fewer blocks or of fewer places tell nothing. */
#define BLOCKS_MAX 16u
#define FEWEST_PARTS 4u
/* So many equal blocks of which steps leave most alone, and they are no weights. */
#define IDLE_BLOCKS 4u
#define IDLE_SHARE 4 /* all but that part of them */
/* Of fewer, one that is read as a whole may be a layer: what is taken for a step is less than one
 * where layers are alike. */
#define LIST_BLOCKS 8u
/* Where all of them were watched, and of few something was read, or of none, it may have been less
 * than a step; in so many watches, each of which is twice as long as the last, it was not. */
#define IDLE_WATCHES 3u
/* Where nothing was read in a watch, less than a step went by, and the next is twice as long; but
 * not so long that what is never read is not judged for that. */
#define IDLE_MAX 4u
/* Parts that tell whether reads are all over it, and of how many nothing may be read, or how much
 * must be. */
#define ALL_OVER_PARTS 16u
#define ALL_OVER_SHARE 4u
/* The kind of all that is alone of its size, or nearly, and little: such inputs differ in length.
 */
#define MIXED 0
#define MIXED_BLOCKS 8u
/* Of what is watched before steps are seen, all but such a part is not read, and of that so many
 * pages at least. */
#define EARLY_SHARE 4
#define EARLY_PAGES 24
/* Where no steps come until there were so many times as many births, they will not be waited for.
 */
#define EARLY_PATIENCE 4
#define EARLY_PATIENCE_MIN 1024

static bool is_mixed(const struct berth_judgement *judgement, uint64_t size)
{
    uint32_t old = berth__class_size(judgement, size)->old;

    return old < IDLE_BLOCKS && old * size < judgement->old_bytes / SUSPECT_SHARE;
}

static struct berth_class_suspects *find_kind(struct berth_class_watch *watch, uint64_t size)
{
    for (uint32_t i = 0; i < watch->kind_count; i++)
        if (watch->kinds[i].size == size)
            return &watch->kinds[i];
    return NULL;
}

static struct berth_class_suspects *find_kind_of(const struct berth_judgement *judgement,
                                                 uint64_t size)
{
    struct berth_class_suspects *kind = find_kind(&judgement->classifier->watch, size);

    return kind || !is_mixed(judgement, size) ? kind
                                              : find_kind(&judgement->classifier->watch, MIXED);
}

static bool can_watch(const struct berth_judgement *judgement)
{
    const struct berth_classifier_ops *ops =
        atomic_load_explicit(&judgement->classifier->ops, memory_order_relaxed);

    return ops->watch && !judgement->classifier->watch.is_refused;
}

bool berth__class_is_watching(const struct berth_judgement *judgement, uint64_t size)
{
    const struct berth_class_suspects *kind = find_kind_of(judgement, size);

    return can_watch(judgement) && kind && kind->reads == BERTH_READS_UNKNOWN &&
           kind->watches < WATCHES_MAX;
}

bool berth__class_may_watch(const struct berth_judgement *judgement, uint64_t size)
{
    if (find_kind_of(judgement, size))
        return berth__class_is_watching(judgement, size);
    return can_watch(judgement) && size >= PART_BYTES &&
           judgement->classifier->watch.kind_count < BERTH_CLASS_SUSPECTS;
}

/* What one watch has seen of a kind. */
struct reads {
    uint64_t bytes, all;          /* that were read, and that were watched */
    uint32_t known, none, pieces; /* parts; of which nothing was read, or a piece */
    uint32_t touched, filled;     /* fine stretches; of which most was read */
    uint32_t whole;               /* blocks of which most was read */
};

static void add_reads(struct reads *reads, const struct berth_watched *stretch, bool is_fine)
{
    if (stretch->read == BERTH_READ_UNKNOWN)
        return;
    reads->bytes += stretch->read;
    reads->all += stretch->to - stretch->from;
    if (is_fine) {
        reads->touched += stretch->read > 0;
        reads->filled += stretch->read >= FINE_PAGES / 2 * BERTH_WATCH_PAGE;
        return;
    }
    reads->known++;
    reads->none += stretch->read == 0;
    reads->pieces += stretch->read >= (uint64_t)PIECE_PAGES * BERTH_WATCH_PAGE;
}

/* Most of it, and it is what steps work with. */
static bool is_most(const struct reads *reads)
{
    return reads->known > 0 && reads->bytes > reads->all / 2;
}

/* So much of it, and nearly everywhere: rows of a table of which a step takes so many that they
 * touch whole stretches of pages. A batch of inputs is less of them. */
static bool is_all_over(const struct reads *reads)
{
    return reads->known >= ALL_OVER_PARTS && reads->none < reads->known / ALL_OVER_SHARE &&
           reads->bytes > reads->all / ALL_OVER_SHARE;
}

static void sum_reads(struct reads *to, const struct reads *reads)
{
    to->bytes += reads->bytes;
    to->all += reads->all;
    to->known += reads->known;
    to->none += reads->none;
    to->pieces += reads->pieces;
    to->touched += reads->touched;
    to->filled += reads->filled;
    to->whole += is_most(reads);
}

/* Of a few equal blocks, one that is read as a whole speaks for itself alone: a model's head is as
 * large as its embedding. False: all do. */
static bool count_reads(const struct berth_judgement *judgement, uint32_t kind, struct reads *ret)
{
    const struct berth_class_watch *watch = &judgement->classifier->watch;
    bool are_alike = watch->kinds[kind].blocks >= IDLE_BLOCKS;

    for (uint32_t i = 0, next; i < watch->probe_count; i = next) {
        struct reads reads = {0};

        for (next = i;
             next < watch->probe_count && watch->probes[next].number == watch->probes[i].number;
             next++)
            add_reads(&reads, &watch->stretches[next], watch->probes[next].is_fine);
        if (watch->probes[i].kind != kind)
            continue;
        if (!are_alike && is_most(&reads))
            berth__class_block(judgement->classifier, watch->probes[i].number)->reads =
                BERTH_READS_ALL;
        else
            sum_reads(ret, &reads);
    }
    return ret->known > 0;
}

/*
 * Whether most parts were not read, and of the others so much that it was no row here and there:
 * the words of a language are in few parts of a table, and some in many.
 */
static bool are_pieces(const struct reads *reads, unsigned pages)
{
    uint32_t read = reads->known - reads->none;

    return reads->none >= reads->known / 2 &&
           reads->bytes >= (uint64_t)read * pages * BERTH_WATCH_PAGE;
}

/*
 * Of equal blocks, most are left alone, as those of a list of inputs are. Bytes all over their
 * range may be weights of 8 bits, where one layer is read after the other: of these, some must be
 * read by pieces.
 */
static bool is_list(const struct berth_class_suspects *kind, const struct reads *reads)
{
    return kind->blocks >= IDLE_BLOCKS &&
           reads->none >= reads->known / IDLE_SHARE * (IDLE_SHARE - 1) &&
           ((kind->blocks >= LIST_BLOCKS && !kind->are_bytes &&
             (kind->blocks > BLOCKS_MAX || kind->watches >= IDLE_WATCHES)) ||
            (reads->bytes > 0 && reads->whole == 0));
}

/*
 * Pieces here, and nothing elsewhere: inputs. Something
 * everywhere: rows of a table, or, where each is of some pages, inputs in any order.
 */
static enum berth_class_reads judge_reads(const struct berth_class_suspects *kind,
                                          const struct reads *reads)
{
    if (is_most(reads))
        return BERTH_READS_ALL;
    if (is_all_over(reads))
        return BERTH_READS_ROWS;
    if (is_list(kind, reads))
        return BERTH_READS_PARTS;
    if (reads->none >= reads->known / 2)
        return kind->blocks < IDLE_BLOCKS && kind->pieces > 0 && are_pieces(reads, PIECE_PAGES)
                   ? BERTH_READS_PARTS
                   : BERTH_READS_UNKNOWN;
    if (kind->touched < FEWEST_PARTS)
        return BERTH_READS_UNKNOWN;
    return kind->filled >= kind->touched / 2 ? BERTH_READS_PARTS : BERTH_READS_ROWS;
}

/* Of a watch that began before the steps. */
static enum berth_class_reads judge_early(const struct reads *reads)
{
    return reads->pieces > 0 && reads->none >= reads->known / EARLY_SHARE * (EARLY_SHARE - 1) &&
                   are_pieces(reads, EARLY_PAGES)
               ? BERTH_READS_PARTS
               : BERTH_READS_UNKNOWN;
}

static void log_reads(const struct berth_class_suspects *kind, const struct reads *reads)
{
    if (berth__log_enabled(BERTH_LOG_DEBUG, BERTH_TOPIC_CLASSIFIER))
        berth__log(BERTH_LOG_DEBUG, BERTH_TOPIC_CLASSIFIER,
                   "%u blocks of %llu bytes: steps read %llu bytes of %llu that were watched, "
                   "nothing of %u parts of %u, most of %u stretches of %u",
                   kind->blocks, (unsigned long long)kind->size, (unsigned long long)reads->bytes,
                   (unsigned long long)reads->all, reads->none, reads->known, kind->filled,
                   kind->touched);
}

/* Whether of a list that may be layers so little was read that it may have been less than a step.
 */
static bool is_short(const struct berth_class_suspects *kind, const struct reads *reads)
{
    return kind->reads == BERTH_READS_UNKNOWN && kind->blocks >= LIST_BLOCKS &&
           kind->blocks <= BLOCKS_MAX && reads->none >= reads->known / 2;
}

/* False: steps read nothing of it, or too little to tell. */
static bool note_reads(const struct berth_judgement *judgement, uint32_t at)
{
    struct berth_class_watch *watch = &judgement->classifier->watch;
    struct berth_class_suspects *kind = &watch->kinds[at];
    struct reads reads = {0};
    bool is_idle = false;

    if (!count_reads(judgement, at, &reads) || reads.known < FEWEST_PARTS ||
        kind->reads != BERTH_READS_UNKNOWN)
        return true;
    if (watch->is_early) {
        kind->reads = (uint8_t)judge_early(&reads);
    } else {
        kind->watches++;
        kind->pieces += reads.pieces;
        kind->touched += reads.touched;
        kind->filled += reads.filled;
        kind->reads = (uint8_t)judge_reads(kind, &reads);
        is_idle = reads.bytes == 0 || is_short(kind, &reads);
    }
    log_reads(kind, &reads);
    return !is_idle;
}

/* What was watched early, and did not tell, makes room for what is there when steps are seen. */
static void drop_kinds(struct berth_class_watch *watch)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < watch->kind_count; i++)
        if (watch->kinds[i].reads != BERTH_READS_UNKNOWN || watch->kinds[i].watches > 0)
            watch->kinds[kept++] = watch->kinds[i];
    watch->kind_count = kept;
}

/* The blocks are what their kind is. */
static void tell_blocks(const struct berth_judgement *judgement)
{
    for (uint32_t i = 0; i < judgement->count; i++) {
        struct berth_class_block *block =
            berth__class_block(judgement->classifier, judgement->seen[i].number);
        const struct berth_class_suspects *kind =
            block->is_suspect ? find_kind_of(judgement, judgement->seen[i].size) : NULL;

        if (kind && block->reads == BERTH_READS_UNKNOWN)
            block->reads = kind->reads;
    }
}

/* Whether a step went by, or as much of it as can be waited for. */
static bool is_over(const struct berth_judgement *judgement)
{
    const struct berth_class_watch *watch = &judgement->classifier->watch;
    uint64_t births = judgement->births - watch->births, needed;

    if (watch->is_early && !judgement->is_steady)
        return judgement->births > EARLY_PATIENCE * (watch->births + EARLY_PATIENCE_MIN);
    if (judgement->steps > 0)
        return judgement->steps > watch->steps;
    if (watch->is_early)
        births = judgement->births - judgement->boundary;
    needed = judgement->births_per_step / (judgement->is_asked ? 2 : 1);
    return births >= needed << watch->idle;
}

/* Of each stretch: where its block has died, what was read is of others; else it may be looked at
 * again, if that was all. */
static void leave_blocks(struct berth_judgement *judgement, bool is_end)
{
    struct berth_class_watch *watch = &judgement->classifier->watch;

    for (uint32_t i = 0; i < watch->probe_count; i++) {
        struct berth_class_block *block =
            berth__class_block(judgement->classifier, watch->probes[i].number);

        if (atomic_load_explicit(&block->address, memory_order_acquire) == 0 ||
            berth__class_load(&block->birth) != watch->probes[i].birth)
            watch->stretches[i].read = BERTH_READ_UNKNOWN;
        else if (is_end)
            block->is_watched = false;
    }
}

/* Whether so much was read by now that it is a weight, whatever else is read until the step ends.
 */
static void peek_reads(const struct berth_judgement *judgement, uint32_t at)
{
    struct berth_class_suspects *kind = &judgement->classifier->watch.kinds[at], so_far = *kind;
    struct reads reads = {0};
    enum berth_class_reads found;

    if (kind->reads != BERTH_READS_UNKNOWN || !count_reads(judgement, at, &reads) ||
        reads.known < FEWEST_PARTS)
        return;
    so_far.touched += reads.touched;
    so_far.filled += reads.filled;
    found = judge_reads(&so_far, &reads);
    if (found != BERTH_READS_ALL && found != BERTH_READS_ROWS)
        return;
    kind->reads = (uint8_t)found;
    log_reads(&so_far, &reads);
}

/*
 * Somebody asks, and the watch goes on for more than a step, or began in the midst of the last one:
 * what is known of it would be told by chance, by when the judgements fell. An early watch tells
 * only of what is not read.
 */
static void peek(struct berth_judgement *judgement)
{
    const struct berth_classifier_ops *ops =
        atomic_load_explicit(&judgement->classifier->ops, memory_order_relaxed);
    struct berth_class_watch *watch = &judgement->classifier->watch;

    if (!judgement->is_asked || watch->is_early || !ops->peek)
        return;
    ops->peek(watch->stretches, watch->probe_count);
    leave_blocks(judgement, false);
    for (uint32_t i = 0; i < watch->kind_count; i++)
        peek_reads(judgement, i);
    tell_blocks(judgement);
}

/* Nothing that was read so far tells. */
static void drop_watch(struct berth_judgement *judgement)
{
    struct berth_class_watch *watch = &judgement->classifier->watch;

    if (!watch->is_open)
        return;
    if (watch->process == (int)getpid())
        atomic_load_explicit(&judgement->classifier->ops, memory_order_relaxed)
            ->watched(watch->stretches, watch->probe_count);
    leave_blocks(judgement, true);
    watch->is_open = false;
}

void berth__class_reads_end(struct berth_judgement *judgement)
{
    const struct berth_classifier_ops *ops =
        atomic_load_explicit(&judgement->classifier->ops, memory_order_relaxed);
    struct berth_class_watch *watch = &judgement->classifier->watch;
    bool is_ours = watch->process == (int)getpid();
    bool is_idle = false;

    if (!watch->is_open)
        return;
    /* Who asks again has looks tell what is written, instead of a watch that waits for steps. */
    if (judgement->is_again) {
        drop_watch(judgement);
        return;
    }
    if (is_ours && !is_over(judgement)) {
        peek(judgement);
        return;
    }
    watch->is_open = false;
    if (is_ours)
        ops->watched(watch->stretches, watch->probe_count);
    leave_blocks(judgement, true);
    for (uint32_t i = 0; i < watch->kind_count && is_ours; i++)
        is_idle |= !note_reads(judgement, i);
    watch->idle += is_idle && watch->idle < IDLE_MAX;
    if (watch->is_early)
        drop_kinds(watch);
    tell_blocks(judgement);
}

static void count_sizes(const struct berth_judgement *judgement)
{
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];

        if (seen->birth > judgement->boundary)
            return;
        berth__class_size(judgement, seen->size)->suspects +=
            berth__class_block(judgement->classifier, seen->number)->is_suspect;
    }
}

static bool is_of_kind(const struct berth_judgement *judgement, uint64_t kind,
                       const struct berth_class_seen *seen)
{
    return berth__class_block(judgement->classifier, seen->number)->is_suspect &&
           (kind == MIXED ? is_mixed(judgement, seen->size) : seen->size == kind);
}

/* How many of these there are, or 0 where they do not matter. */
static uint32_t count_mixed(const struct berth_judgement *judgement)
{
    uint32_t blocks = 0;
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < judgement->count; i++) {
        if (judgement->seen[i].birth > judgement->boundary)
            break;
        if (is_of_kind(judgement, MIXED, &judgement->seen[i])) {
            blocks++;
            bytes += judgement->seen[i].size;
        }
    }
    return blocks >= MIXED_BLOCKS && bytes >= judgement->old_bytes / SUSPECT_SHARE ? blocks : 0;
}

/* The suspects of this size: how many, or 0 where they do not matter, or others of it are none:
 * weights of the other kind are as large, an embedding beside the head of a model. */
static uint32_t suspects_of(const struct berth_judgement *judgement, uint64_t size)
{
    const struct berth_class_size *known = berth__class_size(judgement, size);

    if (size == MIXED)
        return count_mixed(judgement);
    return known->old == known->suspects &&
                   known->suspects * size >= judgement->old_bytes / SUSPECT_SHARE
               ? known->suspects
               : 0;
}

static void add_probe(struct berth_class_watch *watch, const struct berth_class_seen *seen,
                      uintptr_t from, uintptr_t to, uint32_t kind, bool is_fine)
{
    uint32_t at = watch->probe_count++;

    watch->probes[at] =
        (struct berth_class_probe){seen->birth, seen->number, (uint16_t)kind, is_fine};
    watch->stretches[at] =
        (struct berth_watched){.from = from, .to = to, .read = BERTH_READ_UNKNOWN};
}

/* Parts the block; each part ends with a fine stretch. No parts: it is watched as a whole. */
static void add_probes(struct berth_class_watch *watch, const struct berth_class_seen *seen,
                       uintptr_t address, uint32_t kind, unsigned parts)
{
    const uintptr_t mask = ~(uintptr_t)(BERTH_WATCH_PAGE - 1);
    uintptr_t from = (address + BERTH_WATCH_PAGE - 1) & mask;

    if (parts == 0)
        add_probe(watch, seen, from, (address + (uintptr_t)seen->size) & mask, kind, false);
    for (unsigned part = 1; part <= parts; part++) {
        uintptr_t to = (address + (uintptr_t)(seen->size / parts * part)) & mask;
        uintptr_t fine = to - (uintptr_t)FINE_PAGES * BERTH_WATCH_PAGE;

        add_probe(watch, seen, from, fine, kind, false);
        add_probe(watch, seen, fine, to, kind, true);
        from = to;
    }
}

/* Some of the suspects of this size, evenly. */
static void watch_kind(const struct berth_judgement *judgement, uint32_t kind, uint32_t suspects)
{
    struct berth_class_watch *watch = &judgement->classifier->watch;
    uint64_t size = watch->kinds[kind].size;
    uint32_t most = size == MIXED ? BERTH_CLASS_WATCH_PARTS : BLOCKS_MAX;
    uint64_t taken = suspects < most ? suspects : most;
    uint64_t parts = BERTH_CLASS_WATCH_PARTS / taken;
    uint64_t at = 0;

    if (parts > size / PART_BYTES)
        parts = size / PART_BYTES;
    watch->kinds[kind].blocks = suspects;
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];
        struct berth_class_block *block = berth__class_block(judgement->classifier, seen->number);
        uintptr_t address;

        if (seen->birth > judgement->boundary)
            return;
        if (!is_of_kind(judgement, size, seen))
            continue;
        address = atomic_load_explicit(&block->address, memory_order_acquire);
        watch->kinds[kind].are_bytes = block->is_bytes;
        if (at * taken / suspects != (at + 1) * taken / suspects && address) {
            add_probes(watch, seen, address, kind, (unsigned)parts);
            block->is_watched = true;
        }
        at++;
    }
}

/* A heap's order, by address. */
static void sift_stretch(struct berth_class_watch *watch, uint32_t at, uint32_t end)
{
    for (uint32_t child = 2 * at + 1; child < end; at = child, child = 2 * at + 1) {
        struct berth_watched *stretches = watch->stretches, stretch;
        struct berth_class_probe probe;

        if (child + 1 < end && stretches[child].from < stretches[child + 1].from)
            child++;
        if (stretches[at].from >= stretches[child].from)
            return;
        stretch = stretches[at];
        stretches[at] = stretches[child];
        stretches[child] = stretch;
        probe = watch->probes[at];
        watch->probes[at] = watch->probes[child];
        watch->probes[child] = probe;
    }
}

static void sort_stretches(struct berth_class_watch *watch)
{
    for (uint32_t i = watch->probe_count / 2; i-- > 0;)
        sift_stretch(watch, i, watch->probe_count);
    for (uint32_t end = watch->probe_count; end > 1; end--) {
        struct berth_watched stretch = watch->stretches[0];
        struct berth_class_probe probe = watch->probes[0];

        watch->stretches[0] = watch->stretches[end - 1];
        watch->stretches[end - 1] = stretch;
        watch->probes[0] = watch->probes[end - 1];
        watch->probes[end - 1] = probe;
        sift_stretch(watch, 0, end - 1);
    }
}

/* Adds the kinds that were not seen before. */
static void list_kinds(const struct berth_judgement *judgement)
{
    struct berth_class_watch *watch = &judgement->classifier->watch;

    for (uint32_t i = 0; i < judgement->count && watch->kind_count < BERTH_CLASS_SUSPECTS; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];

        if (seen->birth > judgement->boundary)
            break;
        if (berth__class_block(judgement->classifier, seen->number)->is_suspect &&
            seen->size >= PART_BYTES && !find_kind(watch, seen->size) &&
            suspects_of(judgement, seen->size) > 0)
            watch->kinds[watch->kind_count++] = (struct berth_class_suspects){.size = seen->size};
    }
    if (watch->kind_count < BERTH_CLASS_SUSPECTS && !find_kind(watch, MIXED) &&
        count_mixed(judgement) > 0)
        watch->kinds[watch->kind_count++] = (struct berth_class_suspects){.size = MIXED};
}

/*
 * Before steps are seen, what may be inputs is what has such numbers, and is alone of its size, or
 * nearly. The weights of layers are equal, and of these one is read after the other: that of which
 * half was read by now would look like inputs.
 */
static bool is_early_suspect(const struct berth_judgement *judgement,
                             const struct berth_class_seen *seen, struct berth_class_block *block)
{
    if (seen->family != judgement->largest || seen->size < PART_BYTES ||
        seen->size < judgement->old_bytes / SUSPECT_SHARE ||
        berth__class_size(judgement, seen->size)->old >= IDLE_BLOCKS ||
        block->level != BERTH_CLASS_UNKNOWN || block->told != BERTH_TAG_UNTAGGED)
        return false;
    if (block->is_watched)
        return true;
    if (!berth__class_look(judgement, seen, block))
        return false;
    /* It may not be full yet: what changes from this look to the next tells nothing. */
    block->looks = 0;
    return block->is_wide && !block->is_positive && berth__class_blank(block) == 0;
}

/* Marks these; whether one is not watched yet. */
static bool suspect_early(struct berth_judgement *judgement)
{
    bool is_new = false;

    judgement->old_bytes = 0;
    for (uint32_t i = 0; i < judgement->count; i++) {
        const struct berth_class_seen *seen = &judgement->seen[i];

        *berth__class_size(judgement, seen->size) = (struct berth_class_size){.size = seen->size};
        judgement->old_bytes += seen->family == judgement->largest ? seen->size : 0;
    }
    for (uint32_t i = 0; i < judgement->count; i++)
        berth__class_size(judgement, judgement->seen[i].size)->old++;
    for (uint32_t i = 0; i < judgement->count; i++) {
        struct berth_class_block *block =
            berth__class_block(judgement->classifier, judgement->seen[i].number);

        block->is_suspect = is_early_suspect(judgement, &judgement->seen[i], block);
        is_new |= block->is_suspect && !block->is_watched;
    }
    return is_new;
}

/* What was there is watched anew, with what has come since. */
static void restart_early(struct berth_judgement *judgement)
{
    drop_watch(judgement);
    drop_kinds(&judgement->classifier->watch);
    judgement->boundary = judgement->births;
}

/* Lists what is suspect, and parts it. */
static void choose_probes(struct berth_judgement *judgement)
{
    struct berth_class_watch *watch = &judgement->classifier->watch;

    count_sizes(judgement);
    list_kinds(judgement);
    watch->probe_count = 0;
    for (uint32_t i = 0; i < watch->kind_count; i++) {
        uint32_t suspects = berth__class_may_watch(judgement, watch->kinds[i].size)
                                ? suspects_of(judgement, watch->kinds[i].size)
                                : 0;

        if (suspects > 0)
            watch_kind(judgement, i, suspects);
    }
    sort_stretches(watch);
}

void berth__class_reads_begin(struct berth_judgement *judgement)
{
    const struct berth_classifier_ops *ops =
        atomic_load_explicit(&judgement->classifier->ops, memory_order_relaxed);
    struct berth_class_watch *watch = &judgement->classifier->watch;
    uint64_t boundary = judgement->boundary;

    if (!ops->watch || watch->is_refused || judgement->is_again ||
        (watch->is_open && (!watch->is_early || judgement->is_steady)))
        return;
    if (!judgement->is_steady) {
        if (!suspect_early(judgement))
            return;
        restart_early(judgement);
    }
    choose_probes(judgement);
    judgement->boundary = boundary;
    if (watch->probe_count == 0)
        return;
    watch->is_open = ops->watch(watch->stretches, watch->probe_count);
    watch->is_refused = !watch->is_open;
    watch->is_early = !judgement->is_steady;
    watch->process = (int)getpid();
    watch->births = judgement->births;
    watch->steps = judgement->steps;
    if (watch->is_refused)
        leave_blocks(judgement, true);
}
