/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jansson inside a process under Berth: loaded by hand, never NEEDED.
 *
 * json.c defines hidden functions of jansson's own names that go to the loaded library, so that
 * code is written against <jansson.h> as usual. They may be called only after berth__json_load()
 * has succeeded, on the control thread. The tools link jansson directly and have no use for this.
 */
#ifndef BERTH_IPC_JSON_H
#define BERTH_IPC_JSON_H

#include <jansson.h>
#include <stddef.h>

/*
 * Loads the library, once; later calls repeat the first one's answer. 0, or -ENOENT with one
 * sentence in `why`.
 */
int berth__json_load(char *why, size_t why_size);

/*
 * Writes `text` as a JSON string, quotes included, without jansson. What is not printable ASCII
 * becomes "?". The result is cut to fit and always closed; `size` is at least 3.
 */
const char *berth__json_quote(const char *text, char *ret, size_t size);

/* A JSON string; bytes that are not UTF-8 make it all ASCII, with "?" for what is not. */
json_t *berth__json_text(const char *text);

#endif
