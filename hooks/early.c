/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs in which what is preloaded could not even begin are started anew without it: those with
 * a sanitizer, and those that may have so little memory that jemalloc's start, which takes no
 * refusal, would end them.
 *
 * This happens while the loader relocates this library, in the resolver of a function that nobody
 * calls: constructors are too late, because the sanitizers' come first, and so do calls of malloc.
 */
#include "hooks/sanitizer.h"

#ifdef __x86_64__

#include "hooks/early_call.h"
#include "hooks/elf_table.h"

#include <link.h>

#ifdef BERTH_MALLOC_SIDE
#define LEAST BERTH_ANEW_WITHOUT_MALLOC
#else
#define LEAST BERTH_ANEW_WITHOUT_ALL
#endif

#ifdef BERTH_MALLOC_SIDE
/*
 * What must be there for a heap to begin: jemalloc 5.3 maps 2 MiB for its first arena, 4 MiB for a
 * table of addresses, 2 MiB for the first blocks, each aligned, by mapping up to twice as much for
 * a moment; the rest is for Berth's own tables and a small program. Whether the process may have
 * that (RLIMIT_AS, RLIMIT_DATA, a kernel that commits no more than it has) is found out by asking.
 */
#define HEAP_START ((size_t)32 << 20)
#define HEAP_START_TEXT "32 MiB"

/*
 * Whether the program has not begun yet. A library that it loads by itself comes behind the C
 * library in the loader's list, and one that it loads into a namespace of its own is not there.
 */
static bool is_preloaded(void)
{
    const struct link_map *map = berth__elf_first_map();

    for (; map; map = map->l_next) {
        if (map->l_addr == (ElfW(Addr))__ehdr_start)
            return true;
        if (map->l_name && berth__early_begins(berth__early_base(map->l_name), "libc.so"))
            return false;
    }
    return false;
}

static void evade_limits(void)
{
    struct berth_anew_start start;
    struct berth_anew_why why;
    void *p = berth__early_map(HEAP_START);

    if (p) {
        berth__early_call(SYS_munmap, (long)p, (long)HEAP_START, 0, 0, 0);
        return;
    }
    why.before = "the process may not have the ";
    why.name = HEAP_START_TEXT;
    why.behind = " that a heap begins with";
    /* There may be room, after all; a program that starts itself until it is preloaded has an end.
     */
    if (is_preloaded() && berth__anew_ask(&start) && !berth__anew_was_started(&start))
        berth__anew_start(&start, BERTH_ANEW_WITHOUT_MALLOC, &why);
}
#endif

static void do_nothing(void)
{
}

/* Only the name of the attribute below leads here, which clang does not count as a use. */
__attribute__((used)) static void (*look_early(void))(void)
{
    berth__sanitizer_evade(LEAST);
#ifdef BERTH_MALLOC_SIDE
    evade_limits();
#endif
    return do_nothing;
}

/*
 * Not static: clang gives such a function a name for all libraries, and the loader then has each
 * library complain of the other's.
 */
void resolved_early(void) __attribute__((ifunc("look_early"), visibility("hidden")));
__attribute__((used)) static void (*const relocated)(void) = resolved_early;

#endif
