/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The generator: answers one prompt after another with one model. Each answer has a
 * session of its own. Used by the main thread.
 */
#ifndef BERTH_INFER_GENERATOR_H
#define BERTH_INFER_GENERATOR_H

#include "failure.h"
#include "options.h"

#include <stddef.h>
#include <stdint.h>

struct berth_generator;

/* Loads the model, and the tokenizer unless the options give and want ids only. */
int berth__generator_new(const struct berth_infer_options *options, struct berth_failure *failure,
                         struct berth_generator **ret_generator);
void berth__generator_free(struct berth_generator *generator);

/* Writes the answer to stdout as it is formed, and a newline. */
int berth__generator_answer_text(struct berth_generator *generator, const char *text, size_t size,
                                 struct berth_failure *failure);
int berth__generator_answer_ids(struct berth_generator *generator, const uint32_t *ids,
                                size_t count, struct berth_failure *failure);

void berth__generator_print_stats(struct berth_generator *generator);

#endif
