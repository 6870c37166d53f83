/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Call sites: who asked for a block, as a path of frames, innermost first.
 *
 * A path is interned: equal paths get the same number in this process, and are kept until it ends.
 * A frame is an address in a loaded module; its name (module!symbol+offset, or module+offset where
 * the module is stripped) is found once per site, from the module's own dynamic symbol table. No
 * lock of the loader's that is held while constructors run is ever taken (dladdr takes one; a
 * thread that allocates under a lock that a constructor wants would then hang).
 */
#ifndef BERTH_ALLOC_SITE_H
#define BERTH_ALLOC_SITE_H

#include "alloc/types.h"

#include <stdbool.h>

/* Most frames that a site has; the option site-depth cannot be set higher. */
#define BERTH_SITE_FRAMES_MAX 128

/* Most sites that a process tells apart. One takes half a KiB when it has 32 frames. */
#define BERTH_SITE_MAX ((uint32_t)1 << 20)

/*
 * The number of this path of return addresses; the same for the same path, unless a module of the
 * path was closed and another is at its addresses now, which is noticed by berth__site_refresh(),
 * and when the next new path is named. 0 for an empty path, when there is no memory left, or after
 * BERTH_SITE_MAX paths (said once). Frames beyond BERTH_SITE_FRAMES_MAX are left out. Lock-free for
 * a path that was seen before, and holds nothing that a fork could leave locked in the child; never
 * calls malloc; keeps errno. With BERTH_DEBUG=site:debug each new path is printed, a line per
 * frame.
 */
berth_site_id berth__site_intern(const void *const *frames, unsigned count);

/* The number of a path that has one already, else 0. As above, but nothing is ever added. */
berth_site_id berth__site_find(const void *const *frames, unsigned count);

/*
 * Looks whether modules were closed, so that their addresses, met again, are not taken for the same
 * sites. Takes the loader's list lock.
 */
void berth__site_refresh(void);

/* One frame's name. The strings live as long as the process. */
struct berth_site_frame {
    const char *module; /* base name of the file as it was loaded, or "?" */
    const char *symbol; /* mangled; NULL where none is known */
    uint64_t offset;    /* from the symbol, else from the module's start, else the address */
    /* Where that is in the file: for those who read more of it than the symbols. */
    const char *path; /* as the loader has it: "" for the program itself; NULL: in no module */
    uint64_t address; /* as the file counts addresses */
    uint64_t build;   /* berth__build_hash() of the module's build id; 0 = it has none */
};

/*
 * How many frames a site has (0 for an unknown site), and the name of each: 0, -ENOENT for a frame
 * that there is not, -ENOMEM. The first question for a site takes the loader's list lock, for as
 * long as it takes to read the symbols of modules not met before.
 */
unsigned berth__site_depth(berth_site_id site);
int berth__site_frame(berth_site_id site, unsigned index, struct berth_site_frame *ret);

/* The module of a frame, if it is known without naming anything; else NULL. */
const char *berth__site_frame_module(berth_site_id site, unsigned index);

/*
 * Whether a frame may be in a function of this name, the linker's: false only where it is not.
 * Nothing is named for it.
 */
bool berth__site_frame_may_be(berth_site_id site, unsigned index, const char *symbol,
                              size_t length);

/*
 * "module!symbol+0x1f>module+0x20>..." in `text`, cut at a frame's end; the length of the whole
 * without its terminator. `text` may be NULL when `text_size` is 0.
 */
size_t berth__site_text(berth_site_id site, char *text, size_t text_size);

/* One more than the highest number in use. */
berth_site_id berth__site_count(void);

#endif
