/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session: one prompt and its answer. It owns the KV cache and the activations,
 * allocated anew for each prompt, so that a placement policy that changed between
 * prompts applies to them, while the model's weights stay. Used by one thread, which
 * shares the work with the pool.
 */
#ifndef BERTH_INFER_SESSION_H
#define BERTH_INFER_SESSION_H

#include "failure.h"
#include "kernels.h"
#include "model.h"
#include "thread_pool.h"

#include <stddef.h>
#include <stdint.h>

struct berth_session;

/* `positions` is how many tokens are expected; the cache grows past it when needed. */
int berth__session_new(const struct berth_model *model, const struct berth_kernels *kernels,
                       struct berth_thread_pool *pool, size_t positions,
                       struct berth_failure *failure, struct berth_session **ret_session);
void berth__session_free(struct berth_session *session);

/*
 * Appends tokens and computes the logits that follow the last of them. The tokens must be below
 * the vocabulary's size. -EINVAL with the failure set when one is not; -ENOSPC when the context
 * length would be exceeded. Nothing is appended then.
 */
int berth__session_feed(struct berth_session *session, const uint32_t *tokens, size_t count,
                        struct berth_failure *failure);

/* The vocabulary's logits after the last token fed; valid until the next call. */
const float *berth__session_logits(const struct berth_session *session);

size_t berth__session_position(const struct berth_session *session);

/* What decoding one token reads of keys and values at the present position. */
uint64_t berth__session_kv_bytes_per_token(const struct berth_session *session);

#endif
