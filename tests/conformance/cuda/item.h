/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checklist of what a drop-in for the CUDA driver must keep: fifty items, a check for each that
 * a program can see, named after it. They lie in files by family. See check.h.
 *
 * Items 41 (access while memory is elsewhere) and 49 (checkpoints of processes) have no check;
 * libberth(7) says why, and the test cuda-checklist that no number is missing.
 */
#ifndef BERTH_TEST_CUDA_ITEM_H
#define BERTH_TEST_CUDA_ITEM_H

#include "check.h"

#define ITEMS(X)                                                                                   \
    X(item_01_zero_size)                                                                           \
    X(item_02_alignment)                                                                           \
    X(item_03_not_cleared)                                                                         \
    X(item_04_failure_leaves_state)                                                                \
    X(item_05_cache_before_failure)                                                                \
    X(item_06_other_kinds)                                                                         \
    X(item_07_free_takes_every_kind)                                                               \
    X(item_08_free_of_null)                                                                        \
    X(item_09_double_and_interior_free)                                                            \
    X(item_10_no_reuse_before_work)                                                                \
    X(item_11_free_waits)                                                                          \
    X(item_12_stream_ordered_reuse)                                                                \
    X(item_13_crossed_frees)                                                                       \
    X(item_14_free_from_anywhere)                                                                  \
    X(item_15_no_lock_while_waiting)                                                               \
    X(item_16_unknown_pointer)                                                                     \
    X(item_17_address_range)                                                                       \
    X(item_18_pointer_attributes)                                                                  \
    X(item_19_not_cuda_memory)                                                                     \
    X(item_20_free_memory)                                                                         \
    X(item_21_synchronous_copies)                                                                  \
    X(item_22_ipc_handle)                                                                          \
    X(item_23_ipc_shows_one_block)                                                                 \
    X(item_24_ipc_open_and_close)                                                                  \
    X(item_25_ipc_capable)                                                                         \
    X(item_26_ipc_importer_without_berth)                                                          \
    X(item_27_peer_access)                                                                         \
    X(item_28_context_end)                                                                         \
    X(item_29_contexts_own_memory)                                                                 \
    X(item_30_device_identity)                                                                     \
    X(item_31_allocation_in_capture)                                                               \
    X(item_32_replayed_memory_stays)                                                               \
    X(item_33_graph_memory)                                                                        \
    X(item_34_default_streams)                                                                     \
    X(item_35_stream_handles_again)                                                                \
    X(item_36_threads_and_callbacks)                                                               \
    X(item_37_exit)                                                                                \
    X(item_38_virtual_memory)                                                                      \
    X(item_39_memory_pools)                                                                        \
    X(item_40_address_and_contents_stay)                                                           \
    X(item_42_work_in_flight)                                                                      \
    X(item_43_shared_memory_stays)                                                                 \
    X(item_44_failure_changes_nothing)                                                             \
    X(item_45_fork)                                                                                \
    X(item_46_exec)                                                                                \
    X(item_47_peer_death)                                                                          \
    X(item_48_proc_address)                                                                        \
    X(item_50_host_memory)

#define X(name) void name(void);
ITEMS(X)
#undef X

/* What a process started by check_peer_start() does, by its mode; NULL for an unknown one. */
int item_ipc_peer(const char *mode, const char *argument);
int item_process_peer(const char *mode, const char *argument);

#endif
