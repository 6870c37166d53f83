/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Persistent blocks, written until the process or the machine ends, and looked at afterwards.
 *
 * Round i makes the block "round-i", replaces the block "current" by one of its own, and removes
 * "round-(i - KEPT)". Then it is told that round i is done. Whatever happens later, all that was
 * done before must be found, and what was under way be there as a whole or not at all.
 */
#include "alloc/berth.h"
#include "cases.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KEPT 12
#define NAME_MAX_LENGTH 300

static const char *named(char *text, const char *tier, const char *what, long round)
{
    if (round < 0)
        snprintf(text, NAME_MAX_LENGTH, "%s:%s", tier, what);
    else
        snprintf(text, NAME_MAX_LENGTH, "%s:%s-%ld", tier, what, round);
    return text;
}

/* Up to 400 KiB, and seldom whole pages. */
static size_t size_of_round(long round)
{
    return 4096 * (size_t)(1 + round * 37 % 100) + (size_t)(round * 101 % 4096);
}

static uint64_t word_of_round(long round, size_t i)
{
    return ((uint64_t)round << 40 ^ i) * UINT64_C(0x9e3779b97f4a7c15);
}

static void fill(uint64_t *words, size_t size, long round)
{
    for (size_t i = 0; i < size / 8; i++)
        words[i] = word_of_round(round, i);
}

static bool holds(const uint64_t *words, size_t size, long round)
{
    if (size != size_of_round(round))
        return false;
    for (size_t i = 0; i < size / 8; i++)
        if (words[i] != word_of_round(round, i))
            return false;
    return true;
}

static void must(int r, const char *what, const char *name)
{
    if (r == 0)
        return;
    fprintf(stderr, "%s of %s: %s\n", what, name, strerror(-r));
    exit(1);
}

static void write_block(const char *name, long round)
{
    size_t size = size_of_round(round);
    void *p;

    must(berth_persist_replace(name, size, &p), "berth_persist_replace", name);
    fill(p, size, round);
    must(berth_persist_commit(p), "berth_persist_commit", name);
    must(berth_persist_detach(p), "berth_persist_detach", name);
}

static void write_round(const char *tier, long round)
{
    char name[NAME_MAX_LENGTH];
    int r;

    write_block(named(name, tier, "round", round), round);
    write_block(named(name, tier, "current", -1), round);
    if (round < KEPT)
        return;
    r = berth_persist_remove(named(name, tier, "round", round - KEPT));
    /* The writer before may have come that far. */
    must(r == -ENOENT ? 0 : r, "berth_persist_remove", name);
}

/* Until it is killed, or for so many rounds. */
static void persist_write(char **argument)
{
    const char *tier = argument[0], *value = argument[1];
    long first = atol(argument[2]), count = atol(argument[3]);

    for (long round = first; count == 0 || round < first + count; round++) {
        write_round(tier, round);
        dprintf(1, "value %s %ld\n", value, round);
    }
}

/* 1 if it is there and whole, 0 if it is not there, -1 if it is anything else. */
static int look(const char *name, long round)
{
    size_t size;
    void *p;
    int r = berth_persist_find(name, &p, &size);

    if (r == -ENOENT)
        return 0;
    if (r < 0) {
        fprintf(stderr, "%s: %s\n", name, strerror(-r));
        return -1;
    }
    r = holds(p, size, round) ? 1 : -1;
    if (r < 0)
        fprintf(stderr, "%s: not what was committed, %zu bytes\n", name, size);
    berth_persist_detach(p);
    return r;
}

static bool kept_are_there(const char *tier, long reached)
{
    char name[NAME_MAX_LENGTH];

    for (long round = reached; round >= 0 && round > reached - KEPT + 1; round--)
        if (look(named(name, tier, "round", round), round) != 1) {
            fprintf(stderr, "%s of %ld rounds is not whole\n", name, reached);
            return false;
        }
    return true;
}

static bool removed_are_gone(const char *tier, long reached)
{
    char name[NAME_MAX_LENGTH];

    for (long round = reached - KEPT; round >= 0; round--)
        if (look(named(name, tier, "round", round), round) != 0)
            return false;
    return true;
}

/* What the next round may have got to. */
static bool next_is_whole_or_not(const char *tier, long reached)
{
    char name[NAME_MAX_LENGTH];

    return look(named(name, tier, "round", reached + 1), reached + 1) >= 0 &&
           look(named(name, tier, "round", reached + 2), reached + 2) == 0;
}

static bool current_is_of_a_round(const char *tier, long reached)
{
    char name[NAME_MAX_LENGTH];

    named(name, tier, "current", -1);
    return look(name, reached) == 1 || look(name, reached + 1) == 1;
}

static void persist_verify(char **argument)
{
    const char *tier = argument[0];
    long reached = atol(argument[1]);

    tell_why("rounds_were_done", reached >= 0, "none");
    tell("what_was_committed_is_there", kept_are_there(tier, reached));
    tell("what_was_removed_is_not", removed_are_gone(tier, reached));
    tell("what_was_under_way_is_whole_or_not_there", next_is_whole_or_not(tier, reached));
    tell("what_was_replaced_is_old_or_new", current_is_of_a_round(tier, reached));
}

const struct subject persist_subjects[] = {
    {"persist-write", "TIER VALUE FIRST-ROUND ROUNDS", persist_write},
    {"persist-verify", "TIER LAST-ROUND", persist_verify},
    {NULL, NULL, NULL},
};
