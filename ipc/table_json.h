/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table in force as JSON, and changes of it that come as JSON.
 *
 * A table can be longer than a frame, so its lists come in pages: a page begins at the index that
 * the client names and has at most BERTH_PAGE_ENTRIES_MAX entries and about BERTH_PAGE_TEXT_MAX
 * bytes of text. The client asks until it has as many as the counts say; versions that differ
 * between pages tell it to begin again.
 */
#ifndef BERTH_IPC_TABLE_JSON_H
#define BERTH_IPC_TABLE_JSON_H

#include "ipc/failure.h"

#include <jansson.h>
#include <stdint.h>

#define BERTH_PAGE_ENTRIES_MAX 256
#define BERTH_PAGE_BYTES_MAX ((size_t)384 << 10) /* 384 KiB; 512 KiB as base64 */
#define BERTH_PAGE_TEXT_MAX ((size_t)128 << 10)  /* 128 KiB */

/* Adds "table": the version (0: there is none) and the origin. 0 or -ENOMEM. */
int berth__table_json_identity(json_t *object);

/* Adds "rule_count" and "rules", a page of names and counters. 0 or -ENOMEM. */
int berth__table_json_counts(json_t *object, uint64_t first);

/*
 * Adds "options", "tiers", and the pages "sites" from `first_site` and "rules" from `first_rule`
 * with their counts. Without a table all are empty. 0 or -ENOMEM.
 */
int berth__table_json_show(json_t *object, uint64_t first_site, uint64_t first_rule);

/*
 * Adds "version", "size" (of the whole table), "first" and "data": up to BERTH_PAGE_BYTES_MAX bytes
 * of the table from `first` on, in base64. Version 0 and size 0: there is none. 0 or -ENOMEM.
 */
int berth__table_json_bytes(json_t *object, uint64_t first);

/*
 * Installs a table. `expected_version`: only over that one, or -1. 0, or -EINVAL after saying why;
 * the table in force stays then.
 */
int berth__table_json_apply(const void *bytes, size_t size, const char *origin,
                            int64_t expected_version, struct berth_failure *failure);

/*
 * A copy of the table in force, in memory that the caller frees. 0, -ENOENT where there is none, or
 * -ENOMEM.
 */
int berth__table_json_take(void **ret_bytes, size_t *ret_size, uint64_t *ret_version);

/* Installs the table in force with the array `changes` made in it. As above; or -ENOMEM. */
int berth__table_json_patch(const json_t *changes, const char *origin, int64_t expected_version,
                            struct berth_failure *failure);

#endif
