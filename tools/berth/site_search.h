/* SPDX-License-Identifier: Apache-2.0 */
/* A call site of a process, found by what is printed of its path, which is the same in every run.
 */
#ifndef BERTH_TOOLS_SITE_SEARCH_H
#define BERTH_TOOLS_SITE_SEARCH_H

#include "tools/berth/process.h"

#include <stdint.h>

/* Whether the text may be a path: it names a function, or has an offset in a module. */
int berth__site_search_is_path(const char *text);

/*
 * The one site whose path is as the text says: frames joined by '>', innermost first, as a policy's
 * patterns are, with an offset where one is to tell calls of one function apart. If no path begins
 * so, one that has these frames further out is meant. 0, or BERTH_EXIT_FAILURE after one line.
 */
int berth__site_search(struct berth_session *session, const char *text, uint64_t *ret);

#endif
