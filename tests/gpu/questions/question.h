/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A question that only a GPU can answer: a small program for each, which prints the answer. Their
 * numbers are those of QUESTIONS.md; what the simulated driver answers is in answers.txt, and the
 * test cuda-questions holds it to that. Nothing that differs from run to run is printed, but what
 * depends on the device may be: sizes above all.
 */
#ifndef BERTH_GPU_QUESTION_H
#define BERTH_GPU_QUESTION_H

#include "../../conformance/cuda/check.h"

#define QUESTIONS(X)                                                                               \
    X(question_01_shared_pieces)                                                                   \
    X(question_02_free_of_null)                                                                    \
    X(question_03_async_free_of_null)                                                              \
    X(question_04_memory_info_without_place)                                                       \
    X(question_05_range_of_odd_sizes)                                                              \
    X(question_06_pitch)                                                                           \
    X(question_07_alloc_takes_from_pools)                                                          \
    X(question_08_reset_context_works)                                                             \
    X(question_09_released_context)                                                                \
    X(question_10_calls_in_callbacks)                                                              \
    X(question_11_driver_at_exit)                                                                  \
    X(question_12_unsafe_in_capture)                                                               \
    X(question_13_destroy_captured_stream)                                                         \
    X(question_14_free_outside_memory_in_capture)                                                  \
    X(question_15_graph_memory_backed)                                                             \
    X(question_16_map_over_a_mapping)                                                              \
    X(question_17_unmap_waits)                                                                     \
    X(question_18_access_to_a_part)                                                                \
    X(question_19_handle_of_interior)                                                              \
    X(question_20_open_own_handle)                                                                 \
    X(question_21_open_freed_handle)                                                               \
    X(question_22_first_resolver_missing_name)                                                     \
    X(question_23_empty_name)                                                                      \
    X(question_24_narrow_names)                                                                    \
    X(question_25_resolver_answers_exports)                                                        \
    X(question_26_free_waits_for)                                                                  \
    X(question_27_free_waits_in_capture)                                                           \
    X(question_28_error_of_no_memory)                                                              \
    X(question_29_handle_of_two_mib)                                                               \
    X(question_30_synchronous_copies_reach)                                                        \
    X(question_31_cost_of_odd_sizes)                                                               \
    X(question_32_give_back_in_capture)                                                            \
    X(question_33_async_free_beside_capture)                                                       \
    X(question_34_refused_then_made_again)                                                         \
    X(question_35_context_in_callback)                                                             \
    X(question_36_primary_handle_after_reset)                                                      \
    X(question_37_destroyed_stream_is_waited_for)                                                  \
    X(question_38_attributes_without_place)                                                        \
    X(question_39_wrong_free_in_capture)                                                           \
    X(question_40_copy_past_the_end)                                                               \
    X(question_41_memory_of_green_contexts)                                                        \
    X(question_42_context_event_waits_for)                                                         \
    X(question_47_pool_counts)                                                                     \
    X(question_50_memory_that_has_handles)

#define X(name) void name(void);
QUESTIONS(X)
#undef X

/* Work of `ms` milliseconds on a stream, and whether what ran since took about as long. */
void question_delay(CUstream stream, int ms);
void question_start_clock(void);
bool question_waited(int ms);

/* What a peer does for question 21 and 29: opens the handle that it reads and says what it sees. */
int question_peer(const char *mode);

#endif
