/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A checkpoint: the tensors of a Hugging Face folder, in one model.safetensors or in
 * the shards that model.safetensors.index.json lists. Loading copies a tensor into
 * memory of its own, tagged `weight`, so that Berth places each one.
 */
#ifndef BERTH_INFER_CHECKPOINT_H
#define BERTH_INFER_CHECKPOINT_H

#include "dtype.h"
#include "failure.h"

#include <stdbool.h>
#include <stddef.h>

/* A weight in memory. cols is 1 and dtype f32 for a vector. */
struct berth_tensor {
    void *data;
    enum berth_dtype dtype;
    size_t rows;
    size_t cols;
    size_t size_bytes; /* derived: rows * cols * size of the dtype */
    bool borrowed;     /* the memory is a weight image's */
};

struct berth_checkpoint;
struct berth_weight_image;

int berth__checkpoint_open(const char *dir, struct berth_failure *failure,
                           struct berth_checkpoint **ret_checkpoint);
/* The same of an image: no file is opened, and tensors are not copied. */
int berth__checkpoint_open_image(const struct berth_weight_image *image,
                                 struct berth_failure *failure,
                                 struct berth_checkpoint **ret_checkpoint);
void berth__checkpoint_close(struct berth_checkpoint *checkpoint);

/* The names of the files in the folder that were opened beside model.safetensors, which comes
 * first where it was; NULL after the last. */
const char *berth__checkpoint_file(const struct berth_checkpoint *checkpoint, size_t index);

/* What was loaded, in that order; NULL after the last. The tensor is where the caller put it. */
struct berth_checkpoint_loaded {
    char *name;
    struct berth_tensor *tensor;
    size_t dim_count;
};
const struct berth_checkpoint_loaded *
berth__checkpoint_loaded(const struct berth_checkpoint *checkpoint, size_t index);

/* The named tensor must have exactly this shape; it keeps the file's dtype. *ret_tensor stays where
 * it is as long as the checkpoint is open. */
int berth__checkpoint_load_matrix(struct berth_checkpoint *checkpoint, const char *name,
                                  size_t rows, size_t cols, struct berth_failure *failure,
                                  struct berth_tensor *ret_tensor);

/* The same for `count` numbers in one dimension, widened to float. */
int berth__checkpoint_load_vector(struct berth_checkpoint *checkpoint, const char *name,
                                  size_t count, struct berth_failure *failure,
                                  struct berth_tensor *ret_tensor);

void berth__tensor_done(struct berth_tensor *tensor);

#endif
