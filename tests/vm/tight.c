/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Little memory: a kernel that counts whatever can be written (vm.overcommit_memory = 2) and has
 * little to give, and a control group that may have little. Natively all of it holds as well.
 */
#include "blocks.h"
#include "cases.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OS_PAGE ((size_t)4096)
#define MIB ((size_t)1 << 20)
/* What is used besides blocks: tables of jemalloc's for each place where it has some. */
#define ROUNDING (32 * MIB)

/* Blocks in a list, each with its size and its number in each of its OS pages. */
struct piece {
    struct piece *next;
    size_t size, number;
};

static const size_t sizes[] = {300000, MIB, 3 * MIB, 40000};
#define SIZE_COUNT (sizeof(sizes) / sizeof(sizes[0]))

static size_t *word_of(struct piece *piece, size_t page)
{
    return (size_t *)(void *)((char *)piece + page * OS_PAGE + sizeof(*piece));
}

static void write_piece(struct piece *piece, size_t seed)
{
    for (size_t page = 0; (page + 1) * OS_PAGE <= piece->size; page++)
        *word_of(piece, page) = piece->number * 1000003 + page + seed;
}

static void write_list(struct piece *list, size_t seed)
{
    for (; list; list = list->next)
        write_piece(list, seed);
}

static bool list_holds(struct piece *list, size_t seed)
{
    for (; list; list = list->next)
        for (size_t page = 0; (page + 1) * OS_PAGE <= list->size; page++)
            if (*word_of(list, page) != list->number * 1000003 + page + seed)
                return false;
    return true;
}

/* Adds blocks until there are so many bytes, or there is no block more; how many bytes there are
 * then. */
static size_t take(struct piece **list, size_t most, size_t seed)
{
    size_t bytes = 0;

    for (size_t i = 0; bytes < most; i++) {
        size_t size = sizes[i % SIZE_COUNT];
        struct piece *piece = i % 2 ? calloc(1, size) : malloc(size);

        if (!piece)
            break;
        *piece = (struct piece){*list, size, i};
        write_piece(piece, seed);
        *list = piece;
        bytes += size;
    }
    return bytes;
}

static void give_back(struct piece **list)
{
    for (struct piece *next; *list; *list = next) {
        next = (*list)->next;
        free(*list);
    }
    malloc_trim(0);
}

/* What the kernel has promised to all processes. */
static size_t committed(void)
{
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    size_t kib = 0;

    while (file && fgets(line, sizeof(line), file))
        if (sscanf(line, "Committed_AS: %zu", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib << 10;
}

/* Waits for the child: how it ended, or -1 where there is none. */
static int end_of(pid_t pid)
{
    int status = -1;

    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return status;
}

static int child_with(struct piece *list, size_t seed)
{
    pid_t pid = fork();

    if (pid == 0) {
        if (!list_holds(list, seed))
            _exit(1);
        write_list(list, seed + 1);
        _exit(list_holds(list, seed + 1) ? 0 : 2);
    }
    return end_of(pid);
}

/* The program has all that the kernel gives, and again after it was freed. What was seen is told
 * when there is memory to tell it. */
static void tight_commit(char **argument)
{
    size_t least = strtoul(argument[0], NULL, 0) * MIB;
    struct piece *list = NULL;
    size_t before, first, again, after;
    int error, r, fork_error;
    bool held;

    take(&list, MIB, 0);
    give_back(&list);
    before = committed();
    errno = 0;
    first = take(&list, SIZE_MAX, 1);
    error = errno;
    errno = 0;
    r = child_with(list, 1);
    fork_error = errno;
    held = list_holds(list, 1);
    give_back(&list);
    after = committed();
    tell_why("where_there_is_no_more_the_answer_is_ENOMEM", error == ENOMEM, "%s", strerror(error));
    tell_why("what_there_is_can_be_had", first >= least, "%zu MiB", first / MIB);
    tell_why("a_child_for_which_there_is_no_room_is_refused", r == -1 && fork_error == ENOMEM,
             "0x%x, %s", r, strerror(fork_error));
    tell("the_blocks_hold_their_bytes", held);
    tell_why("what_was_freed_is_promised_to_nobody", after <= before + ROUNDING,
             "%zu MiB before, %zu MiB after", before / MIB, after / MIB);
    again = take(&list, SIZE_MAX, 2);
    give_back(&list);
    tell_why("all_of_it_can_be_had_again", again + ROUNDING >= first, "%zu MiB, then %zu MiB",
             first / MIB, again / MIB);
    take(&list, least / 4, 3);
    r = child_with(list, 3);
    tell_why("a_child_has_memory_of_its_own", r == 0, "0x%x, %zu MiB before, %zu MiB now", r,
             before / MIB, committed() / MIB);
    tell("its_parent_does_not_see_what_it_wrote", list_holds(list, 3));
    give_back(&list);
}

/* The program has so many MiB, and other ones in their stead, and a child. */
static void tight_group(char **argument)
{
    size_t live = strtoul(argument[0], NULL, 0) * MIB;
    bool may_have = strcmp(argument[1], "refused") != 0;
    bool may_be_refused = strcmp(argument[1], "child") != 0;
    struct piece *list = NULL;
    bool held = true;
    int r = 0;

    for (size_t round = 0; round < 2; round++) {
        size_t bytes = take(&list, live, round);

        if (bytes < live || !list_holds(list, round))
            held = false;
        if (round < 1)
            give_back(&list);
    }
    tell("the_blocks_hold_their_bytes", held);
    errno = 0;
    r = child_with(list, 1);
    tell_why("a_child_has_memory_of_its_own_or_is_refused",
             (may_have && r == 0) || (may_be_refused && r == -1 && errno == ENOMEM), "0x%x, %s", r,
             strerror(errno));
    tell("its_parent_has_what_it_had", list_holds(list, 1));
    give_back(&list);
}

const struct subject tight_subjects[] = {
    {"commit", "MIB", tight_commit},
    {"group", "MIB child|refused|either", tight_group},
    {NULL, NULL, NULL},
};
