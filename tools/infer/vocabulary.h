/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vocabulary: token ids and the bytes that each stands for, both ways.
 * Immutable once the tokenizer is loaded.
 */
#ifndef BERTH_INFER_VOCABULARY_H
#define BERTH_INFER_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Ids at or above this are refused: tables are as long as the largest id. */
#define BERTH_VOCABULARY_IDS_MAX ((size_t)1 << 24)

#define BERTH_ID_NONE UINT32_MAX

struct berth_vocabulary_entry {
    unsigned char *bytes; /* owned; NULL for an id that no token has */
    size_t size;
};

struct berth_vocabulary {
    struct berth_vocabulary_entry *entries; /* by id */
    size_t id_count;                        /* the largest id + 1 */
    size_t id_room;                         /* entries allocated */
    uint32_t *slots;                        /* open hash of ids by bytes; BERTH_ID_NONE is free */
    size_t slot_count;                      /* a power of two, 0 before the first */
    size_t used;                            /* ids in the hash */
};

/*
 * Gives `id` its bytes (copied). With `findable`, berth__vocabulary_find() answers it.
 * -ENOMEM; -EEXIST when the id or (findable) the bytes are taken already; unchanged then.
 */
int berth__vocabulary_add(struct berth_vocabulary *vocabulary, uint32_t id,
                          const unsigned char *bytes, size_t size, bool findable);
uint32_t berth__vocabulary_find(const struct berth_vocabulary *vocabulary,
                                const unsigned char *bytes, size_t size);
/* NULL for an id without a token. */
const unsigned char *berth__vocabulary_bytes(const struct berth_vocabulary *vocabulary, uint32_t id,
                                             size_t *ret_size);
void berth__vocabulary_done(struct berth_vocabulary *vocabulary);

#endif
