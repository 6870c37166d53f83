/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A weight image: a model's tensors as they lie in memory, kept in a persistent block of Berth's
 * (berth_persist(3)), so that the next start maps them and reads no weight file.
 *
 * The block begins with JSON that says which files the weights came from (name, size, times, inode)
 * and where each tensor is. An image whose files have changed since is not used, and is replaced.
 * What is in the block is checked like a file: nothing in it is used unread. Immutable once made.
 */
#ifndef BERTH_INFER_WEIGHT_IMAGE_H
#define BERTH_INFER_WEIGHT_IMAGE_H

#include "checkpoint.h"
#include "failure.h"

#include <jansson.h>
#include <stdbool.h>

struct berth_weight_image;

/* What is asked of an image. */
struct berth_weight_source {
    const char *dir;
    bool persist; /* false: there is no image, and none is made */
};

/*
 * Finds the folder's image. 0; -ENOENT where there is none, or one of other files: it can be made
 * then. Any other error: images are of no use now, and the failure says why.
 */
int berth__weight_image_find(const char *dir, struct berth_failure *failure,
                             struct berth_weight_image **ret_image);
void berth__weight_image_free(struct berth_weight_image *image);

/* The named tensor, if it is there in this shape; its data belongs to the image. */
int berth__weight_image_get(const struct berth_weight_image *image, const char *name, size_t rows,
                            size_t cols, size_t dim_count, struct berth_failure *failure,
                            struct berth_tensor *ret_tensor);

/* What the files are now: a new JSON array; NULL without memory or where one cannot be looked at.
 */
json_t *berth__weight_files_look(const char *dir, const struct berth_checkpoint *checkpoint);

/*
 * Makes an image of all that the checkpoint has loaded, and has the tensors lie in it. `files` is
 * what they were before the first byte was read: if they are others now, -ESTALE. On any error the
 * tensors are where they were.
 */
int berth__weight_image_make(const char *dir, struct berth_checkpoint *checkpoint,
                             const json_t *files, struct berth_failure *failure,
                             struct berth_weight_image **ret_image);

#endif
