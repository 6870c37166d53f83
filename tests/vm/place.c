/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where blocks lie, page by page: not what Berth says of them, but what the kernel, the file, the
 * device and the memory nodes show.
 */
#include "blocks.h"
#include "cases.h"
#include "mapping.h"

#include "alloc/berth.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define OS_PAGE ((size_t)4096)

static bool is_device(const struct mapping *mapping)
{
    return strncmp(mapping->path, "/dev/dax", 8) == 0;
}

/* Opens what a mapping maps once more. An unnamed file is reached by way of the mapping. */
static int open_mapped(const struct mapping *mapping)
{
    char path[PATH_MAX];

    if (is_device(mapping))
        return open(mapping->path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/self/map_files/%" PRIxPTR "-%" PRIxPTR, mapping->start,
             mapping->end);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/*
 * Whether a second mapping of the same file or device, at the offset that the kernel tells, has the
 * block's bytes. A device is mapped at multiples of its pages.
 */
static bool second_mapping_has(const struct block *block, const struct mapping *mapping,
                               size_t from, size_t size)
{
    uint64_t offset = mapping_offset(mapping, block->bytes + from);
    uint64_t alignment = is_device(mapping) ? 2 << 20 : OS_PAGE;
    uint64_t start = offset / alignment * alignment;
    uint64_t end = (offset + size + alignment - 1) / alignment * alignment;
    int fd = open_mapped(mapping);
    unsigned char *seen;
    bool same;

    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", mapping->path, strerror(errno));
        return false;
    }
    seen = mmap(NULL, end - start, PROT_READ, MAP_SHARED, fd, (off_t)start);
    close(fd);
    if (seen == MAP_FAILED) {
        fprintf(stderr, "%s at %" PRIu64 ": %s\n", mapping->path, start, strerror(errno));
        return false;
    }
    same = block_matches(block, from, seen + (offset - start), size);
    munmap(seen, end - start);
    return same;
}

/* A block may lie over several mappings: each is asked for its part. */
static bool block_is_mapped(const struct block *block, const char *path, const char *flag,
                            bool flagged, bool compare, struct mapping *ret_last)
{
    for (size_t at = 0; at < block->size;) {
        size_t rest = block->size - at;
        size_t part;

        if (mapping_find(block->bytes + at, ret_last) < 0)
            return false;
        part = ret_last->end - (uintptr_t)(block->bytes + at);
        if (part > rest)
            part = rest;
        if (strncmp(ret_last->path, path, strlen(path)) != 0 || !ret_last->shared ||
            mapping_has_flag(ret_last, flag) != flagged)
            return false;
        if (compare && !second_mapping_has(block, ret_last, at, part))
            return false;
        at += part;
    }
    return true;
}

static bool blocks_are_mapped(const struct blocks *blocks, const char *path, const char *flag,
                              bool flagged, bool compare)
{
    struct mapping last = {0};

    for (size_t i = 0; i < blocks->count; i++)
        if (!block_is_mapped(&blocks->items[i], path, flag, flagged, compare, &last)) {
            fprintf(stderr,
                    "block %zu of %zu bytes: mapping %" PRIxPTR "-%" PRIxPTR " of '%s'%s, flags%s",
                    i, blocks->items[i].size, last.start, last.end, last.path,
                    last.shared ? ", shared" : "", last.flags);
            return false;
        }
    return true;
}

static void tell_tier(const struct blocks *blocks, const char *tier)
{
    size_t there = blocks_in_tier(blocks, tier);

    tell_why("berth_describe_names_the_tier", there == blocks->count, "%zu of %zu blocks", there,
             blocks->count);
}

/* After blocks were freed, reallocated and allocated again, the same holds. */
static void churn(struct blocks *blocks, unsigned seed)
{
    struct blocks more;

    blocks_make(&more, seed + 1000);
    for (size_t i = 0; i < blocks->count; i += 2) {
        size_t size = blocks->items[i].size * 2 + 100;
        void *bytes = realloc(blocks->items[i].bytes, size);

        if (!bytes)
            exit(1);
        blocks->items[i].bytes = bytes;
        blocks->items[i].size = size;
    }
    tell("blocks_that_others_surround_hold_their_bytes", blocks_hold(&more, seed + 1000));
    blocks_free(&more);
    blocks_fill(blocks, seed);
}

static int64_t blocks_of_file(const struct blocks *blocks)
{
    struct mapping mapping;
    struct stat st = {0};
    int fd = -1;

    if (mapping_find(blocks->items[0].bytes, &mapping) == 0)
        fd = open_mapped(&mapping);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -1;
    close(fd);
    return (int64_t)st.st_blocks * 512;
}

/* Files hold no space for what was freed, once it has decayed. The first block must live on. */
static void tell_space_comes_back(struct blocks *blocks)
{
    int64_t before = blocks_of_file(blocks), after;

    for (size_t i = 1; i < blocks->count; i++) {
        free(blocks->items[i].bytes);
        blocks->items[i].bytes = NULL;
    }
    after = blocks_of_file(blocks);
    tell_why("freed_blocks_give_their_space_back", before > 0 && after >= 0 && after < before / 4,
             "%" PRId64 " bytes before, %" PRId64 " after", before, after);
}

static void place_file(char **argument)
{
    const char *tier = argument[0], *directory = argument[1];
    bool sync = strcmp(argument[2], "sync") == 0;
    struct blocks blocks;

    blocks_make(&blocks, 1);
    tell_tier(&blocks, tier);
    tell(sync ? "every_page_is_mapped_with_MAP_SYNC" : "no_page_is_mapped_with_MAP_SYNC",
         blocks_are_mapped(&blocks, directory, "sf", sync, false));
    tell("a_second_mapping_of_the_file_has_the_bytes",
         blocks_are_mapped(&blocks, directory, "sf", sync, true));
    churn(&blocks, 2);
    tell_tier(&blocks, tier);
    tell("so_it_has_after_more_was_allocated_and_freed",
         blocks_are_mapped(&blocks, directory, "sf", sync, true));
    tell("the_blocks_hold_their_bytes", blocks_hold(&blocks, 2));
    tell_space_comes_back(&blocks);
}

/* From sysfs: a number of the device that is open as `fd`. */
static uint64_t device_number(const char *path, const char *name)
{
    char file[PATH_MAX];
    unsigned long long number = 0;
    struct stat st;
    FILE *f;

    if (stat(path, &st) < 0)
        return 0;
    snprintf(file, sizeof(file), "/sys/dev/char/%u:%u/%s", major(st.st_rdev), minor(st.st_rdev),
             name);
    f = fopen(file, "re");
    if (f && fscanf(f, "%llu", &number) != 1)
        number = 0;
    if (f)
        fclose(f);
    return number;
}

static bool lie_within(const struct blocks *blocks, uint64_t size)
{
    struct mapping mapping;

    for (size_t i = 0; i < blocks->count; i++) {
        const struct block *block = &blocks->items[i];

        if (mapping_find(block->bytes + block->size - 1, &mapping) < 0 ||
            mapping_offset(&mapping, block->bytes + block->size - 1) >= size)
            return false;
    }
    return true;
}

static void place_dax(char **argument)
{
    const char *tier = argument[0], *device = argument[1];
    uint64_t size = device_number(device, "size");
    struct blocks blocks;

    tell("the_device_has_a_size", size > 0);
    blocks_make(&blocks, 1);
    tell_tier(&blocks, tier);
    tell("a_second_mapping_of_the_device_has_the_bytes",
         blocks_are_mapped(&blocks, device, "sf", false, true));
    tell("nothing_lies_beyond_its_end", lie_within(&blocks, size));
    churn(&blocks, 2);
    tell_tier(&blocks, tier);
    tell("the_blocks_hold_their_bytes", blocks_hold(&blocks, 2));
    tell("nothing_lies_beyond_its_end_after_more_was_allocated", lie_within(&blocks, size));
    tell("so_it_has_after_more_was_allocated_and_freed",
         blocks_are_mapped(&blocks, device, "sf", false, true));
}

/* So many pages are asked about by one call: emulated, each costs as much as what it tells. */
#define PAGES_ASKED 256

/*
 * Which node each of these pages is on; a page that nobody touched is on none, and its status is
 * a negative errno. All are that where the call itself fails.
 */
static void nodes_of(unsigned char *first, size_t count, int *ret_nodes)
{
    void *pages[PAGES_ASKED];

    for (size_t i = 0; i < count; i++)
        pages[i] = first + i * OS_PAGE;
    if (syscall(SYS_move_pages, 0, (unsigned long)count, pages, NULL, ret_nodes, 0) < 0)
        for (size_t i = 0; i < count; i++)
            ret_nodes[i] = -errno;
}

static bool node_is_listed(long node, const char *list)
{
    char *end;

    for (; *list; list = *end ? end + 1 : end)
        if (strtol(list, &end, 10) == node)
            return true;
    return false;
}

static bool block_pages_are_on(const struct block *block, const char *nodes)
{
    uintptr_t start = (uintptr_t)block->bytes / OS_PAGE * OS_PAGE;
    size_t total = ((uintptr_t)block->bytes + block->size - start + OS_PAGE - 1) / OS_PAGE;
    int node[PAGES_ASKED];

    for (size_t at = 0; at < total; at += PAGES_ASKED) {
        size_t count = total - at < PAGES_ASKED ? total - at : PAGES_ASKED;

        nodes_of((unsigned char *)start + at * OS_PAGE, count, node);
        for (size_t i = 0; i < count; i++)
            if (!node_is_listed(node[i], nodes)) {
                fprintf(stderr, "a block of %zu bytes: page %zu of %zu is on node %d\n",
                        block->size, at + i, total, node[i]);
                return false;
            }
    }
    return true;
}

/* Every page of every block, one by one. */
static bool pages_are_on(const struct blocks *blocks, const char *nodes)
{
    for (size_t i = 0; i < blocks->count; i++)
        if (!block_pages_are_on(&blocks->items[i], nodes))
            return false;
    return true;
}

static void tell_policy(const struct blocks *blocks, const char *expected)
{
    char policy[64] = "";
    bool so = true;

    for (size_t i = 0; so && i < blocks->count; i++)
        so = mapping_policy(blocks->items[i].bytes, policy, sizeof(policy)) == 0 &&
             strcmp(policy, expected) == 0;
    tell_why("numa_maps_tells_the_policy", so, "it tells '%s', not '%s'", policy, expected);
}

static bool any_is_huge(const struct blocks *blocks)
{
    struct mapping mapping;

    for (size_t i = 0; i < blocks->count; i++)
        if (mapping_find(blocks->items[i].bytes, &mapping) == 0 && mapping.huge_kib > 0)
            return true;
    return false;
}

static void place_numa(char **argument)
{
    const char *tier = argument[0], *nodes = argument[1], *policy = argument[2];
    bool huge = argument[3] && strcmp(argument[3], "huge") == 0;
    struct blocks blocks;

    blocks_make(&blocks, 1);
    tell_tier(&blocks, tier);
    tell("every_page_is_on_the_nodes", pages_are_on(&blocks, nodes));
    tell_policy(&blocks, policy);
    tell(huge ? "some_of_it_is_huge_pages" : "none_of_it_is_huge_pages",
         any_is_huge(&blocks) == huge);
    churn(&blocks, 2);
    tell_tier(&blocks, tier);
    tell("every_page_is_after_more_was_allocated", pages_are_on(&blocks, nodes));
    tell("the_blocks_hold_their_bytes", blocks_hold(&blocks, 2));
}

/* More than the tier has room for: what does not fit goes to the next place, and nothing is lost.
 */
static void place_more(char **argument)
{
    const char *tier = argument[0], *next = argument[1];
    size_t bytes = strtoul(argument[2], NULL, 0) << 20;
    size_t size = 1 << 20, there, elsewhere;
    struct blocks blocks;

    blocks_make_equal(&blocks, bytes / size, size, 5);
    there = blocks_in_tier(&blocks, tier);
    elsewhere = blocks_in_tier(&blocks, next);
    tell_why("what_fits_is_in_the_tier", there > 0, "%zu of %zu blocks", there, blocks.count);
    tell_why("the_rest_is_in_the_next_place", elsewhere > 0 && there + elsewhere == blocks.count,
             "%zu blocks are in it, %zu in the tier, of %zu", elsewhere, there, blocks.count);
    tell("every_block_holds_its_bytes", blocks_hold(&blocks, 5));
    blocks_free(&blocks);
    blocks_make_equal(&blocks, there < 15 ? there * 2 / 3 : 10, size, 6);
    tell("freed_room_is_used_again", blocks_in_tier(&blocks, tier) == blocks.count);
    blocks_free(&blocks);
}

/* One block that the program writes to from end to end. Where the file lies in pieces of a huge
 * page, no more OS pages of it are asked for one by one than lie before the first such and behind
 * the last. */
static void place_whole(char **argument)
{
    size_t size = 32 << 20, huge_page = 2 << 20;
    long faults, most = 2 * (long)(huge_page / OS_PAGE);
    struct rusage usage;
    struct blocks blocks;

    blocks_make_equal(&blocks, 1, OS_PAGE, 9);
    getrusage(RUSAGE_SELF, &usage);
    faults = usage.ru_minflt + usage.ru_majflt;
    blocks_make_equal(&blocks, 1, size, 9);
    getrusage(RUSAGE_SELF, &usage);
    faults = usage.ru_minflt + usage.ru_majflt - faults;
    tell_tier(&blocks, argument[0]);
    tell_why("huge_pages_of_it_are_mapped", faults < most, "%ld faults", faults);
    tell("the_block_holds_its_bytes", blocks_hold(&blocks, 9));
}

/* A tier that is not to be had: everything is in the next place and works. */
static void place_next(char **argument)
{
    struct blocks blocks;

    blocks_make(&blocks, 7);
    tell_tier(&blocks, argument[0]);
    tell("the_blocks_hold_their_bytes", blocks_hold(&blocks, 7));
    blocks_free(&blocks);
}

static int open_pipe(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);

    if (fd < 0) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(1);
    }
    return fd;
}

/* Keeps blocks in the tier until it is told to end; both by named pipes. */
static void place_hold(char **argument)
{
    const char *tier = argument[0];
    struct blocks blocks;
    char byte = 'x';
    bool held;

    blocks_make(&blocks, 8);
    held = blocks_in_tier(&blocks, tier) == blocks.count;
    held = write(open_pipe(argument[1], O_WRONLY), &byte, 1) == 1 && held;
    held = read(open_pipe(argument[2], O_RDONLY), &byte, 1) == 1 && held;
    tell("the_first_user_has_it", held && blocks_in_tier(&blocks, tier) == blocks.count);
    tell("the_blocks_hold_their_bytes", blocks_hold(&blocks, 8));
}

/* Ordinary blocks that somebody moves to other nodes while they are alive. */
static void place_moved(char **argument)
{
    const char *from = argument[0], *to = argument[1];
    size_t count = strtoul(argument[2], NULL, 0);
    struct blocks blocks;
    char byte = 'x';

    blocks_make_equal(&blocks, count, 3 << 20, 9);
    tell("every_page_is_where_it_was_placed", pages_are_on(&blocks, from));
    if (write(open_pipe(argument[3], O_WRONLY), &byte, 1) != 1 ||
        read(open_pipe(argument[4], O_RDONLY), &byte, 1) != 1)
        exit(1);
    tell("every_page_is_where_it_was_moved_to", pages_are_on(&blocks, to));
    tell("the_blocks_hold_their_bytes", blocks_hold(&blocks, 9));
    blocks_free(&blocks);
    blocks_make_equal(&blocks, count, 3 << 20, 10);
    tell("so_are_later_blocks", pages_are_on(&blocks, to) && blocks_hold(&blocks, 10));
}

/* Blocks that lie side by side, in the same huge pages: the weights among them are moved. */
static void place_parted(char **argument)
{
    const char *from = argument[0], *to = argument[1];
    struct block items[2][6];
    struct blocks others = {items[0], 6}, weights = {items[1], 6};
    char byte = 'x';

    for (size_t i = 0; i < 12; i++) {
        items[i % 2][i / 2].size = 1100000;
        if (i % 2)
            berth_tag_push(BERTH_TAG_WEIGHT);
        items[i % 2][i / 2].bytes = malloc(1100000);
        if (i % 2)
            berth_tag_pop();
    }
    blocks_fill(&others, 16);
    blocks_fill(&weights, 17);
    tell("every_page_is_where_it_was_placed",
         pages_are_on(&others, from) && pages_are_on(&weights, from));
    tell("some_of_it_is_huge_pages", any_is_huge(&others));
    if (write(open_pipe(argument[2], O_WRONLY), &byte, 1) != 1 ||
        read(open_pipe(argument[3], O_RDONLY), &byte, 1) != 1)
        exit(1);
    tell("every_page_of_the_weights_has_moved", pages_are_on(&weights, to));
    tell("and_no_page_of_the_others", pages_are_on(&others, from));
    tell("the_blocks_hold_their_bytes", blocks_hold(&others, 16) && blocks_hold(&weights, 17));
}

/*
 * Blocks that somebody has asked to move from tier to tier while they are alive: those that could
 * not at once do when the program says that nobody writes.
 */
static void place_stepped(char **argument)
{
    const char *from = argument[0], *to = argument[1];
    long expected = strtol(argument[2], NULL, 0);
    struct blocks blocks;
    char byte = 'x';
    int moved;

    blocks_make_equal(&blocks, 5, 4 << 20, 11);
    tell_why("every_block_is_where_it_was_placed", blocks_in_tier(&blocks, from) == blocks.count,
             "it is in tier %s", block_tier(blocks.items[0].bytes));
    if (write(open_pipe(argument[3], O_WRONLY), &byte, 1) != 1 ||
        read(open_pipe(argument[4], O_RDONLY), &byte, 1) != 1)
        exit(1);
    moved = berth_step_quiescent();
    tell_why("the_step_moves_what_waited", moved == expected, "%d blocks", moved);
    tell_tier(&blocks, to);
    tell("the_blocks_hold_their_bytes", blocks_hold(&blocks, 11));
    blocks_fill(&blocks, 12);
    tell("and_take_others", blocks_hold(&blocks, 12));
    blocks_free(&blocks);
    blocks_make_equal(&blocks, 5, 4 << 20, 13);
    tell_tier(&blocks, to);
    tell("so_do_later_blocks", blocks_hold(&blocks, 13));
}

/* More than a node has room for: what fits is moved, and the rest stays. */
static void place_overfilled(char **argument)
{
    const char *from = argument[0], *to = argument[1];
    size_t there, here;
    struct blocks blocks;
    char byte = 'x';

    blocks_make_equal(&blocks, strtoul(argument[2], NULL, 0), 8 << 20, 14);
    if (write(open_pipe(argument[3], O_WRONLY), &byte, 1) != 1 ||
        read(open_pipe(argument[4], O_RDONLY), &byte, 1) != 1)
        exit(1);
    there = blocks_in_tier(&blocks, to);
    here = blocks_in_tier(&blocks, from);
    tell_why("some_fit_and_the_rest_stays", there > 0 && here > 0 && there + here == blocks.count,
             "%zu of %zu blocks", there, blocks.count);
    tell("the_blocks_hold_their_bytes", blocks_hold(&blocks, 14));
}

const struct subject place_subjects[] = {
    {"file", "TIER FOLDER sync|nosync", place_file},
    {"dax", "TIER DEVICE", place_dax},
    {"numa", "TIER NODE,NODE... POLICY [huge]", place_numa},
    {"more", "TIER NEXT-TIER MIB", place_more},
    {"whole", "TIER", place_whole},
    {"next", "NEXT-TIER", place_next},
    {"moved", "NODES NODES COUNT PIPE-TO-TELL PIPE-TO-WAIT", place_moved},
    {"parted", "NODES NODES PIPE-TO-TELL PIPE-TO-WAIT", place_parted},
    {"stepped", "TIER TIER COUNT PIPE-TO-TELL PIPE-TO-WAIT", place_stepped},
    {"overfilled", "TIER TIER COUNT PIPE-TO-TELL PIPE-TO-WAIT", place_overfilled},
    {"hold", "TIER PIPE-TO-TELL PIPE-TO-WAIT", place_hold},
    {NULL, NULL, NULL},
};
