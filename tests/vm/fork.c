/* SPDX-License-Identifier: Apache-2.0 */
/* The fork rule of tiers that are mapped shared: a copy for the child, or the same bytes. */
#include "blocks.h"
#include "cases.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static bool child_ended_well(pid_t pid)
{
    int status = -1;

    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void write_and_exit(const struct blocks *blocks)
{
    if (!blocks_hold(blocks, 1))
        _exit(1);
    blocks_fill(blocks, 2);
    _exit(blocks_hold(blocks, 2) ? 0 : 2);
}

static void fork_copies(char **argument)
{
    const char *tier = argument[0];
    struct blocks blocks;
    pid_t pid;

    blocks_make(&blocks, 1);
    pid = fork();
    if (pid == 0)
        write_and_exit(&blocks);
    tell("a_child_finds_the_bytes_and_writes_its_own", child_ended_well(pid));
    tell("its_parent_does_not_see_them", blocks_hold(&blocks, 1));
    tell("the_blocks_are_in_the_tier", blocks_in_tier(&blocks, tier) == blocks.count);
    blocks_free(&blocks);
}

static void fork_shares(char **argument)
{
    const char *tier = argument[0];
    struct blocks blocks;
    pid_t pid;

    blocks_make(&blocks, 1);
    tell("the_blocks_are_in_the_tier", blocks_in_tier(&blocks, tier) == blocks.count);
    pid = fork();
    if (pid == 0)
        write_and_exit(&blocks);
    tell("a_child_finds_the_bytes", child_ended_well(pid));
    tell("its_parent_sees_what_it_wrote", blocks_hold(&blocks, 2));
    blocks_free(&blocks);
}

/* More than may be copied: no child, and nothing has changed. */
static void fork_is_refused(char **argument)
{
    const char *tier = argument[0];
    struct blocks blocks;
    pid_t pid;

    blocks_make(&blocks, 1);
    errno = 0;
    pid = fork();
    if (pid == 0)
        _exit(0);
    tell("fork_fails_with_ENOMEM", pid < 0 && errno == ENOMEM);
    tell("the_blocks_hold_their_bytes", blocks_hold(&blocks, 1));
    tell("the_blocks_are_in_the_tier", blocks_in_tier(&blocks, tier) == blocks.count);
    blocks_free(&blocks);
}

const struct subject fork_subjects[] = {
    {"fork-copies", "TIER", fork_copies},
    {"fork-shares", "TIER", fork_shares},
    {"fork-refused", "TIER", fork_is_refused},
    {NULL, NULL, NULL},
};
