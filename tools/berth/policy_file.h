/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A policy in a file: as text that a person wrote, or as the table that it was compiled to. Which
 * of them it is shows in the first bytes.
 */
#ifndef BERTH_TOOLS_POLICY_FILE_H
#define BERTH_TOOLS_POLICY_FILE_H

#include "tools/berth/policy_complaint.h"

/* What berth__policy_load() found. */
struct berth_policy_file {
    void *bytes; /* the table; NULL when something is wrong */
    size_t size;
    bool was_compiled;
};

/*
 * Reads a policy or a table. 0 with ret->bytes when nothing is wrong (there may be warnings); else
 * -EINVAL with the mistakes in `complaints`. ret->bytes is the caller's to free().
 */
int berth__policy_load(const char *path, struct berth_complaints *complaints,
                       struct berth_policy_file *ret);

/* The same for a file's content. `bytes` must be aligned to 8, and stays the caller's. */
int berth__policy_load_bytes(const char *bytes, size_t size, struct berth_complaints *complaints,
                             struct berth_policy_file *ret);

/*
 * The same for who only wants the table: mistakes go to `errors` as "FILE:LINE: what is wrong; what
 * was expected", and warnings with them if there are mistakes. 0 or -EINVAL.
 */
int berth__policy_compile_file(const char *path, FILE *errors, void **ret_bytes, size_t *ret_size);

#endif
