/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A safetensors file: eight bytes of header length, a JSON header that names each
 * tensor's dtype, shape and byte range, then the bytes.
 *
 * The file may come from a stranger: every number of the header is checked against
 * the file's size before it is used, ranges may neither overlap nor leave gaps, and
 * nothing is mapped, so a file that shrinks later gives an error and never a SIGBUS.
 * Immutable after open.
 */
#ifndef BERTH_INFER_SAFETENSORS_H
#define BERTH_INFER_SAFETENSORS_H

#include "failure.h"

#include <stddef.h>
#include <stdint.h>

/* The format's own limit of the header. */
#define BERTH_SAFETENSORS_HEADER_MAX ((uint64_t)100000000)
/* Llama's tensors have one or two dimensions; others are only passed over. */
#define BERTH_SAFETENSORS_DIMS_MAX 16

struct berth_safetensors_entry {
    const char *name;  /* owned by the header */
    const char *dtype; /* as the file spells it; owned by the header */
    uint64_t dims[BERTH_SAFETENSORS_DIMS_MAX];
    size_t dim_count;
    uint64_t offset; /* from the start of the file */
    uint64_t size_bytes;
};

struct berth_safetensors;

int berth__safetensors_open(const char *path, struct berth_failure *failure,
                            struct berth_safetensors **ret_file);
void berth__safetensors_close(struct berth_safetensors *file);

/* NULL where the file has no such tensor; the entry belongs to the file. */
const struct berth_safetensors_entry *berth__safetensors_find(const struct berth_safetensors *file,
                                                              const char *name);
const char *berth__safetensors_path(const struct berth_safetensors *file);

/* Fills `data` with the entry's size_bytes bytes. */
int berth__safetensors_read(const struct berth_safetensors *file,
                            const struct berth_safetensors_entry *entry,
                            struct berth_failure *failure, void *data);

#endif
