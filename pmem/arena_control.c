/* SPDX-License-Identifier: Apache-2.0 */
#include "pmem/arena_control.h"

#include "alloc/types.h"
#include "pmem/extent.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A command by number, which spares jemalloc reading its name. */
struct command {
    size_t mib[3];
    size_t length; /* 0 = not known */
};

static struct command purge, decay;

static void name_command(struct command *command, const char *name)
{
    size_t length = 3;

    if (berth_je_mallctlnametomib(name, command->mib, &length) == 0)
        command->length = length;
}

/*
 * jemalloc's: from a free extent that is this power of two times as large, no block is cut, lest a
 * small one that lives for long divides it. By its usual 64 a block of 64 KiB would have new memory
 * beside 5 MiB that are free; and only large blocks lie in arenas of ours, so that their free
 * neighbours become one. Where the archive has no such name, it stays as it is.
 */
extern size_t berth_je_opt_fit __attribute__((weak, visibility("hidden")));

#define FIT_USUAL 6
#define FIT_SHIFT 10

/* jemalloc's arenas have numbers of 12 bits, of which it leaves one free. */
#define OWN_MAX 4094

/* Unless the program or its user (MALLOC_CONF) has chosen otherwise. */
static void widen_fit(void)
{
    if (&berth_je_opt_fit && berth_je_opt_fit == FIT_USUAL)
        berth_je_opt_fit = FIT_SHIFT;
}

/* Written before the first arena is made. */
static bool fills;
static unsigned own_count; /* of jemalloc's own arenas, which are its first */

/* An option that is not compiled in cannot be read, and is off. */
static bool find_fills(void)
{
    const char *junk = "false";
    bool zero = false;
    size_t junk_size = sizeof(junk), zero_size = sizeof(zero);

    berth_je_mallctl("opt.junk", &junk, &junk_size, NULL, 0);
    berth_je_mallctl("opt.zero", &zero, &zero_size, NULL, 0);
    return zero || strcmp(junk, "false") != 0;
}

/* Those among which it shares out the threads, and one for large blocks unless that is off. */
static unsigned count_own(void)
{
    unsigned shared = 0;
    size_t oversize = 0;
    size_t shared_size = sizeof(shared), oversize_size = sizeof(oversize);

    berth_je_mallctl("opt.narenas", &shared, &shared_size, NULL, 0);
    berth_je_mallctl("opt.oversize_threshold", &oversize, &oversize_size, NULL, 0);
    return (shared < OWN_MAX ? shared : OWN_MAX) + (oversize != 0);
}

bool berth__arena_control_fills(void)
{
    return fills;
}

void berth__arena_control_start(void)
{
    widen_fit();
    fills = find_fills();
    own_count = count_own();
    name_command(&purge, "arena.0.purge");
    name_command(&decay, "arena.0.decay");
}

int berth__arena_control_make(extent_hooks_t *hooks, unsigned *ret_arena)
{
    struct berth_je_arena_config config = {hooks, false};
    size_t size = sizeof(*ret_arena);

    return berth_je_mallctl("experimental.arenas_create_ext", ret_arena, &size, &config,
                            sizeof(config)) == 0
               ? 0
               : -ENOMEM;
}

static void call(unsigned arena, const char *what, void *value, size_t size)
{
    char name[64];

    snprintf(name, sizeof(name), "arena.%u.%s", arena, what);
    berth_je_mallctl(name, NULL, NULL, value, size);
}

static void give(const struct command *command, unsigned arena)
{
    size_t mib[3] = {command->mib[0], arena, command->mib[2]};

    if (command->length != 0)
        berth_je_mallctlbymib(mib, command->length, NULL, NULL, NULL, 0);
}

void berth__arena_control_purge(unsigned arena)
{
    give(&purge, arena);
}

void berth__arena_control_purge_own(void)
{
    for (unsigned arena = 0; arena < own_count; arena++)
        give(&purge, arena);
}

void berth__arena_control_decay(unsigned arena)
{
    give(&decay, arena);
}

void berth__arena_control_set_decay(unsigned arena, const char *which, int64_t decay_ms)
{
    ssize_t value = (ssize_t)decay_ms;

    call(arena, which, &value, sizeof(value));
}

void berth__arena_control_set(unsigned arena, const char *which, size_t value)
{
    call(arena, which, &value, sizeof(value));
}

uint64_t berth__arena_control_read(unsigned arena, const char *what)
{
    char name[80];
    size_t value = 0;
    size_t size = sizeof(value);

    snprintf(name, sizeof(name), "stats.arenas.%u.%s", arena, what);
    berth_je_mallctl(name, &value, &size, NULL, 0);
    return value;
}

void berth__arena_control_take_addresses(unsigned arena, size_t size)
{
    void *p;

    if (fills)
        return;
    /* So that the block's addresses are free again at once, and not "dirty". */
    berth__arena_control_set(arena, "oversize_threshold", size);
    berth__extent_begin();
    berth__extent_take_addresses(true);
    p = berth_je_mallocx(size, MALLOCX_ARENA(arena) | MALLOCX_TCACHE_NONE);
    if (p)
        berth_je_dallocx(p, MALLOCX_TCACHE_NONE);
    /* Where nothing decays (MALLOC_CONF), it would be kept as memory that is there. */
    berth__arena_control_purge(arena);
    berth__extent_take_addresses(false);
}
