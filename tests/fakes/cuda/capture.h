/* SPDX-License-Identifier: Apache-2.0 */
/* A capture: one or more streams whose work goes into a graph instead of
 * being done. Synchronization: the state lock. */
#ifndef BERTH_FAKE_CAPTURE_H
#define BERTH_FAKE_CAPTURE_H

#include "op.h"

struct capture;
struct context;
struct graph_node;
struct stream;

/* Takes the lock itself. CUDA_SUCCESS unless the calling thread must not make
 * a potentially unsafe call now; the captures in its way are then invalid. */
CUresult capture_check_unsafe(void);
/* Refuses to wait for a context of which a stream is captured: that capture is then invalid. */
CUresult capture_check_wait(struct context *context);
/* Refuses work in the legacy stream while a blocking stream is captured. */
CUresult capture_check_implicit(struct context *context);

CUresult capture_record(struct stream *stream, struct op *op);
CUresult capture_join(struct capture *capture, struct stream *stream,
                      struct graph_node *const *nodes, size_t count);
void capture_invalidate(struct capture *capture);
void capture_forget_stream(struct stream *stream);
bool capture_is_active(const struct capture *capture);
uint64_t capture_id(const struct capture *capture);
struct capture *capture_find(uint64_t id);
/* A capture in which a stream of the context takes part, or NULL. */
struct capture *capture_in_context(const struct context *context);

#endif
