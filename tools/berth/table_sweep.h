/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removes what table_file.h keeps and nobody needs any more: tables that were not asked for in a
 * week, and that no process of this user names in its environment. Children read the table when
 * they start, however long their parent has been running.
 */
#ifndef BERTH_TOOLS_TABLE_SWEEP_H
#define BERTH_TOOLS_TABLE_SWEEP_H

/* In the runtime directory. Says nothing, and removes nothing where it cannot know. */
void berth__table_sweep(const char *directory);

#endif
