/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a block's content tells: 64 of its words, spread over it, and what became of them since the
 * last look. Of a word three things are kept: whether it is zero, its nine top bits (the sign and
 * the exponent of a number with a point), and six bits of a hash of all of it.
 */
#include "alloc/classifier_parts.h"

/* Of fewer words that change it is not known whether all do. */
#define REPLACED_WORDS_MIN 8
/* So many of the words of what was blank, and it was filled by its maker. */
#define MADE_WORDS (BERTH_LOOK_WORDS / 4)

#define NOT_ZERO 1u
#define TOP_SHIFT 7

static void look_offsets(size_t size, size_t offsets[BERTH_LOOK_WORDS])
{
    size_t stride = size / BERTH_LOOK_WORDS;

    /* A different place in each part, so that no row of a matrix is hit by all. */
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        size_t within = stride > 8 ? berth__class_mix(i + 1) % (stride - 7) : 0;

        offsets[i] = ((size_t)i * stride + within) & ~(size_t)7;
    }
}

static uint16_t fold(uint64_t word)
{
    if (word == 0)
        return 0;
    return (uint16_t)(word >> 55 << TOP_SHIFT | (berth__class_mix(word) >> 40 & 0x7e) | NOT_ZERO);
}

/*
 * Whether the words are numbers above zero, or zero, that differ: images, samples, counts, tokens.
 * Weights are of both signs, of any type: this is the sign of floats of 32 and 64 bits, of every
 * second one of 16 bits, and of every fourth byte.
 */
static bool are_positive(const uint64_t words[BERTH_LOOK_WORDS])
{
    const uint64_t signs = 0x8000000080000000u;
    bool differ = false;

    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        if (words[i] & signs)
            return false;
        differ = differ || (words[i] != 0 && words[i] != words[0]);
    }
    return differ;
}

/*
 * Whether words that are above zero are small integers of 32 or 64 bits: indices, labels, tokens.
 * As a number with a point each would be nearer to zero than any usual one is. Bytes and halves,
 * which weights may be, have bits up there.
 */
static bool are_integers(const uint64_t words[BERTH_LOOK_WORDS])
{
    const uint64_t exponents = 0x7f8000007f800000u;

    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        if (words[i] & exponents)
            return false;
    return true;
}

/* Zero, or one number of any type, that is: what was filled with it, and tells nothing. */
static bool are_equal(const uint64_t words[BERTH_LOOK_WORDS])
{
    for (unsigned i = 1; i < BERTH_LOOK_WORDS; i++)
        if (words[i] != words[0])
            return false;
    return true;
}

/* Whether each piece of so many bits is zero, or one number: of words that differ, both are there.
 */
static bool is_mask_of(const uint64_t words[BERTH_LOOK_WORDS], unsigned bits)
{
    uint64_t low = ((uint64_t)1 << bits) - 1, number = 0;

    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        for (unsigned at = 0; at < 64 && words[i] != 0; at += bits) {
            uint64_t piece = words[i] >> at & low;

            if (piece != 0 && number != 0 && piece != number)
                return false;
            number |= piece;
        }
    return true;
}

/* Of numbers of any size: what says where something else counts, and is no weight. */
static bool is_mask(const uint64_t words[BERTH_LOOK_WORDS])
{
    return is_mask_of(words, 32) || is_mask_of(words, 16) || is_mask_of(words, 8);
}

/*
 * Whether so many words have a zero half or quarter beside one that is not, that the words that are
 * all zero are so by the same chance: numbers were struck out one by one. Memory that nobody has
 * written yet has whole pages of zeros, and none of these.
 */
static bool is_thinned(const uint64_t words[BERTH_LOOK_WORDS])
{
    unsigned blank = 0, part = 0;

    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        blank += words[i] == 0;
        part += words[i] != 0 && ((uint32_t)words[i] == 0 || words[i] >> 32 == 0 ||
                                  (words[i] & 0xffff) == 0 || (words[i] >> 16 & 0xffff) == 0);
    }
    return blank > 0 && part >= blank / 4 + 1;
}

/* The two top bytes of a number with a point that is 1, of 15/16 and of 1/2, and how long it is;
 * and such a part of a table of sines or cosines is nearly 1. Of numbers that are evenly spread up
 * to 1 it is a 16th, of weights next to none; the fewer are looked at, the more it may be by
 * chance. */
struct unit {
    unsigned bits, one, near, half, share;
};
static const struct unit units[] = {
    {32, 0x3f80, 0x3f70, 0x3f00, 8}, /* and of two of 16 bits with such exponents, the upper one */
    {16, 0x3c00, 0x3b80, 0x3800, 8},
    {64, 0x3ff0, 0x3fee, 0x3fe0, 6},
};

/* So many have either sign, and of those that are nearly 1, so many are not 1 itself: what was cut
 * off at 1 is. */
#define ANGLES_SIGN 8
#define ANGLES_BELOW 16
/* And so many are less than 1/2. Weights below 1/128 that have the exponents of 32 bits in 16 are
 * nearly 1 as numbers of the other kind of 16 bits, and next to none of them is less than 1/2. */
#define ANGLES_SMALL 16

static bool are_angles_of(const uint64_t words[BERTH_LOOK_WORDS], const struct unit *unit)
{
    unsigned count = 0, near = 0, one = 0, small = 0, negative = 0;

    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        for (unsigned at = unit->bits; at <= 64; at += unit->bits) {
            unsigned top = words[i] >> (at - 16) & 0xffff, size = top & 0x7fff;

            if (size > unit->one)
                return false;
            count += size != 0;
            near += size >= unit->near;
            one += size == unit->one;
            small += size != 0 && size < unit->half;
            negative += top != size && size != 0;
        }
    return count >= BERTH_LOOK_WORDS / 2 && near >= count / unit->share &&
           near - one >= count / ANGLES_BELOW && small >= count / ANGLES_SMALL &&
           negative >= count / ANGLES_SIGN && count - negative >= count / ANGLES_SIGN;
}

/*
 * Whether none of the numbers, of both signs, is beyond 1, and many are nearly 1: sines and cosines
 * of many angles, by which places in a text or times in a wave are told.
 */
static bool are_angles(const uint64_t words[BERTH_LOOK_WORDS])
{
    for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (are_angles_of(words, &units[i]))
            return true;
    return false;
}

/* User space has addresses below this, and few below the other. */
#define ADDRESS_END ((uint64_t)1 << 47)
#define ADDRESS_BEGIN ((uint64_t)1 << 32)
/* Fewer words that are not zero tell nothing. */
#define ADDRESSES_MIN (BERTH_LOOK_WORDS / 4)

/* Whether half of the words or more are addresses, as in tables and lists of an interpreter. */
static bool are_pointers(const uint64_t words[BERTH_LOOK_WORDS])
{
    unsigned count = 0, addresses = 0;

    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        count += words[i] != 0;
        addresses += words[i] >= ADDRESS_BEGIN && words[i] < ADDRESS_END;
    }
    return count >= ADDRESSES_MIN && addresses >= count - count / 2;
}

/* Where a number with a point has its exponent in a word, and which one it has from 1 to 2. */
struct format {
    unsigned shift, bits, one;
};
static const struct format single = {55, 8, 127};       /* also where 16 bits have such exponents */
static const struct format single_below = {23, 8, 127}; /* the other one of the word */
static const struct format half = {58, 5, 15};
static const struct format twice = {52, 11, 1023};

/* The exponents of the words that are not zero: the typical one, and which a tenth reach. */
struct exponents {
    int typical, high; /* to that from 1 to 2 */
};

static struct exponents find_exponents(const uint64_t words[BERTH_LOOK_WORDS],
                                       const struct format *format)
{
    uint8_t counts[2048] = {0};
    unsigned mask = (1u << format->bits) - 1, count = 0, below = 0;
    struct exponents found = {0};

    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        counts[words[i] >> format->shift & mask] += words[i] != 0;
        count += words[i] != 0;
    }
    for (unsigned exponent = 0; exponent <= mask && below < count - count / 10; exponent++) {
        int relative = (int)exponent - (int)format->one;

        if (counts[exponent] == 0)
            continue;
        if (below <= count / 2)
            found.typical = relative;
        below += counts[exponent];
        found.high = relative;
    }
    return found;
}

/* The typical number of large layers' weights is below 1/16; of what is scaled to 1 it is not. */
#define EXPONENT_WIDE (-4)
/* And so near to 1 no layer's is that joins a few numbers or more. */
#define EXPONENT_SCALED (-2)
/* Of numbers that are as small as weights, the typical one is no smaller than that. */
#define EXPONENT_LEAST (-12)
/* Of numbers that are even up to a largest one, half are as large as that, or half of it; squares
 * of gradients, which an optimiser keeps, are further apart. */
#define EXPONENT_EVEN 1
/* What a tenth of the numbers of a usual distribution reach is not so much larger than half of it;
 * where it is, they are no numbers of this format. */
#define EXPONENT_SPREAD 4

static bool fits(struct exponents found)
{
    return found.high - found.typical <= EXPONENT_SPREAD;
}

/* Whether bytes are all over their range: weights of 8 bits are seldom far from zero. */
static bool are_flat_bytes(const uint64_t words[BERTH_LOOK_WORDS])
{
    unsigned far = 0;

    /* Far from zero are those whose two top bits differ. */
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        far += (unsigned)__builtin_popcountll((words[i] ^ words[i] << 1) & 0x8080808080808080u);
    return far >= BERTH_LOOK_WORDS * sizeof(uint64_t) / 3;
}

/* What kind of numbers these are. */
static void note_numbers(struct berth_class_block *block, const uint64_t words[BERTH_LOOK_WORDS])
{
    struct exponents found = find_exponents(words, &single);
    bool is_equal = are_equal(words);

    if (fits(found) && !fits(find_exponents(words, &single_below)))
        found = find_exponents(words, &twice);
    else if (!fits(found))
        found = find_exponents(words, &half);
    block->is_known = fits(found);
    block->typical = (int16_t)found.typical;
    block->is_bytes = !fits(found) && are_flat_bytes(words);
    /* Whether the typical number is as large as inputs are, and weights of large layers are not. */
    block->is_wide = block->is_bytes || (fits(found) && found.typical >= EXPONENT_WIDE);
    block->is_small = found.typical < EXPONENT_WIDE && found.typical >= EXPONENT_LEAST &&
                      found.high - found.typical <= EXPONENT_EVEN;
    block->is_scaled = fits(found) && found.typical >= EXPONENT_SCALED;
    block->is_positive = are_positive(words);
    block->is_integers = block->is_positive && are_integers(words);
    block->is_constant = is_equal && words[0] != 0;
    block->is_mask = !is_equal && is_mask(words);
    block->is_thinned = is_thinned(words);
    block->is_angles = !is_equal && are_angles(words);
    block->is_pointers = are_pointers(words);
}

/* What became of the words since the last look. */
struct changes {
    uint64_t changed, replaced; /* of which these were not zero before */
    unsigned filled;            /* words that were not zero before */
    unsigned turned;            /* of the replaced, have another sign or exponent */
};

static struct changes compare(struct berth_class_block *block,
                              const uint64_t words[BERTH_LOOK_WORDS])
{
    struct changes changes = {0};

    block->set_words = block->negative_words = 0;
    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++) {
        uint16_t was = block->words[i], is = fold(words[i]);

        block->words[i] = is;
        block->set_words |= (uint64_t)(is != 0) << i;
        block->negative_words |= (uint64_t)(is >> 15) << i;
        changes.filled += was != 0;
        if (is == was)
            continue;
        changes.changed |= (uint64_t)1 << i;
        if (was == 0)
            continue;
        changes.replaced |= (uint64_t)1 << i;
        changes.turned += is == 0 || (was ^ is) >> TOP_SHIFT != 0;
    }
    return changes;
}

/* So many of the words that were not zero change at once, and what was there is written anew. */
static bool is_whole(const struct changes *changes)
{
    unsigned replaced = (unsigned)__builtin_popcountll(changes->replaced);

    return replaced >= REPLACED_WORDS_MIN && replaced >= changes->filled * 3 / 4;
}

static void note(struct berth_class_block *block, const struct changes *changes, bool is_silent)
{
    unsigned replaced = (unsigned)__builtin_popcountll(changes->replaced);

    if (changes->changed != 0)
        block->unchanged_to = block->looked_at;
    block->rewritten |= changes->changed & block->changed;
    /* What is appended to has words that nobody wrote before, or few that change. */
    if (is_whole(changes)) {
        block->rewritten |= changes->replaced;
        block->replacements += block->replacements < UINT8_MAX;
        block->silent_rewrites += is_silent && block->silent_rewrites < UINT8_MAX;
    } else if (changes->changed != 0) {
        block->is_pieced = true;
    }
    block->changed |= changes->changed;
    if (block->replaced_words < UINT16_MAX / 2) {
        block->replaced_words += (uint16_t)replaced;
        block->turned_words += (uint16_t)changes->turned;
    }
    block->compared += block->compared < UINT8_MAX;
}

/*
 * Whether what was just read was the block's own: what dies gets no other address, and its number
 * is not used again during this judgement.
 */
static bool is_unchanged(const struct berth_class_seen *seen, const struct berth_class_block *block)
{
    return atomic_load_explicit(&block->address, memory_order_acquire) != 0 &&
           berth__class_load(&block->size) == seen->size;
}

/* Files are read in pieces of so much or more, each of them a birth: what fills a block makes no
 * more of them than the block has room for. */
#define PIECE_LEAST ((uint64_t)64 << 10)

bool berth__class_is_filled(const struct berth_judgement *judgement,
                            const struct berth_class_seen *seen)
{
    const struct berth_class_family *families =
        atomic_load_explicit(&judgement->classifier->families, memory_order_acquire);

    return judgement->steps == 0 && !judgement->is_again &&
           berth__class_load(&families[seen->family].births) == seen->family_birth &&
           judgement->births - seen->birth <= seen->size / PIECE_LEAST &&
           !berth__class_block(judgement->classifier, seen->number)->is_slow;
}

/* Whether, since the last look, so many births filled not half of what pieces would have filled, as
 * far as the words tell: nobody reads it from a file, and who made it may make no other. */
static bool is_slow(const struct changes *changes, uint64_t births, uint64_t size)
{
    uint64_t words = (uint64_t)__builtin_popcountll(changes->changed);

    return words * 2 < births * BERTH_LOOK_WORDS / (size / PIECE_LEAST + 1);
}

bool berth__class_look(const struct berth_judgement *judgement, const struct berth_class_seen *seen,
                       struct berth_class_block *block)
{
    const struct berth_classifier_ops *ops =
        atomic_load_explicit(&judgement->classifier->ops, memory_order_relaxed);
    uint64_t now = berth__class_now(judgement->classifier);
    uint64_t words[BERTH_LOOK_WORDS];
    size_t offsets[BERTH_LOOK_WORDS];
    struct changes changes;
    uintptr_t address;

    if (block->looks > 0 &&
        (block->is_watched ||
         (block->looked_at == now && block->looked_round == judgement->classifier->round)))
        return true;
    address = atomic_load_explicit(&block->address, memory_order_acquire);
    if (!ops->look || seen->size < BERTH_LOOK_WORDS * sizeof(uint64_t) || address == 0 ||
        !is_unchanged(seen, block))
        return false;
    look_offsets(seen->size, offsets);
    if (!ops->look(address, offsets, words) || !is_unchanged(seen, block))
        return false;
    changes = compare(block, words);
    /* What was blank, or is made last, was filled by its maker meanwhile: it is looked at as if for
     * the first time. */
    if (block->looks > 0 && block->looked_size == seen->size &&
        (!block->was_filled || judgement->is_again) &&
        !(changes.filled == 0 && __builtin_popcountll(changes.changed) >= MADE_WORDS))
        note(block, &changes, block->looked_at == now);
    /* What it was filled with last may be among these changes, so that only later ones count. */
    if (block->was_filled && block->looked_size == seen->size)
        block->is_slow |= is_slow(&changes, now - block->looked_at, seen->size);
    block->was_filled = berth__class_is_filled(judgement, seen);
    if (block->looks == 0 || changes.changed != 0)
        note_numbers(block, words);
    block->looks = 1;
    block->looked_at = now;
    block->looked_round = judgement->classifier->round;
    block->looked_size = seen->size;
    return true;
}

void berth__class_forget_changes(struct berth_class_block *block)
{
    block->changed = block->rewritten = 0;
    block->is_pieced = false;
    block->replaced_words = block->turned_words = 0;
    block->compared = block->silent_rewrites = block->replacements = 0;
}

unsigned berth__class_blank(const struct berth_class_block *block)
{
    unsigned blank = 0;

    for (unsigned i = 0; i < BERTH_LOOK_WORDS; i++)
        blank += block->words[i] == 0;
    return blank;
}

/* So many words that nobody has written, and a block is one that is being filled. */
#define BLANK_WORDS (BERTH_LOOK_WORDS / 4)

bool berth__class_has_room(const struct berth_class_block *block)
{
    return berth__class_blank(block) >= BLANK_WORDS && !block->is_thinned;
}

bool berth__class_is_steady(const struct berth_class_block *block)
{
    return block->replaced_words > 1 && block->turned_words < block->replaced_words / 2;
}

/* Fewer numbers, or fewer of either sign, agree by chance. */
#define SIGNS_MIN (BERTH_LOOK_WORDS / 2)
#define SIGNS_EITHER (BERTH_LOOK_WORDS / 8)
/* At most one of so many differs: a layer's factors may be below zero here and there. */
#define SIGNS_SHARE 8

/* What is zero in one alone differs: of a cache that is being filled, half of the signs are none.
 */
bool berth__class_has_signs_of(const struct berth_class_block *block,
                               const struct berth_class_block *other)
{
    uint64_t both = block->set_words & other->set_words;
    uint64_t unlike =
        (block->set_words ^ other->set_words) | (block->negative_words ^ other->negative_words);
    unsigned others = (unsigned)__builtin_popcountll(unlike), count, negative;

    /* Nearly every pair ends here. */
    if (others > BERTH_LOOK_WORDS / SIGNS_SHARE)
        return false;
    count = (unsigned)__builtin_popcountll(both);
    negative = (unsigned)__builtin_popcountll(both & block->negative_words);
    return count >= SIGNS_MIN && negative >= SIGNS_EITHER && count - negative >= SIGNS_EITHER &&
           others <= count / SIGNS_SHARE;
}

/* A model of the same kind has numbers as large at the same place, whatever they were trained to;
 * an exponent is the next one by chance. */
#define TYPICAL_APART 1

static bool has_both_signs(const struct berth_class_block *block)
{
    unsigned count = (unsigned)__builtin_popcountll(block->set_words);
    unsigned negative = (unsigned)__builtin_popcountll(block->negative_words);

    return count >= SIGNS_MIN && negative >= SIGNS_EITHER && count - negative >= SIGNS_EITHER;
}

bool berth__class_is_like(const struct berth_class_block *block,
                          const struct berth_class_block *other)
{
    int apart = block->typical - other->typical;

    return block->is_known && other->is_known && apart <= TYPICAL_APART &&
           apart >= -TYPICAL_APART && has_both_signs(block) && has_both_signs(other);
}
