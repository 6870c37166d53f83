/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pattern of call paths, as policies write it: `>`-joined frames, innermost first, spaces around
 * `>` ignored. A frame is `module!symbol` or `module`; `*` stands for any characters within either.
 * The frame `**` stands for any number of frames, none included. The pattern describes the path
 * from its innermost frame on; frames further out than the pattern's last are free, as if it ended
 * in `> **`. Names are the linker's (mangled), offsets are not written: `module!symbol` matches
 * wherever in the function the call is made. A frame without a known symbol is matched by `module`
 * only, never by `module!*`, which asks for a named function.
 */
#ifndef BERTH_ALLOC_SITE_PATTERN_H
#define BERTH_ALLOC_SITE_PATTERN_H

#include "alloc/site.h"

/*
 * Whether `pattern` is well formed: 0, or -EINVAL with one sentence in `why` ("what is wrong; what
 * was expected").
 */
int berth__site_pattern_check(const char *pattern, char *why, size_t why_size);

/*
 * Whether the site's path matches a pattern that was checked. Never calls malloc; the time is
 * frames of the pattern times frames of the path, however many `**` there are.
 */
bool berth__site_pattern_match(const char *pattern, berth_site_id site);

/*
 * Whether a path whose innermost frame is in this module may match: false only where none can. As
 * above.
 */
bool berth__site_pattern_may_begin(const char *pattern, const char *module);

#endif
