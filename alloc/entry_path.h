/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry paths: by which way each allocation call of the program reached Berth.
 *
 * A program gets the driver's functions by linking or by asking one of several resolvers. Berth
 * gives each of them another entry to the same wrapper: a few instructions that add one to a
 * counter of the calling thread's and jump on. So the count is exact, per function, and costs no
 * atomic operation.
 *
 * A copy of the CUDA runtime, shared or static, and cudaGetDriverEntryPoint in all its forms ask
 * cuGetProcAddress_v2, and are counted as that: the driver is not told who asks for whom.
 */
#ifndef BERTH_ALLOC_ENTRY_PATH_H
#define BERTH_ALLOC_ENTRY_PATH_H

#include "alloc/entry_path_names.h"

#include <stdint.h>

/* The order is that of the entries in hooks/cuda_entry_*.S. */
enum berth_entry_path {
    BERTH_ENTRY_SYMBOL,    /* bound by the loader, or found by dlsym(RTLD_DEFAULT) */
    BERTH_ENTRY_DLSYM,     /* dlsym with a handle or RTLD_NEXT */
    BERTH_ENTRY_DLVSYM,    /* dlvsym */
    BERTH_ENTRY_PROC_V1,   /* cuGetProcAddress of CUDA 11.3 */
    BERTH_ENTRY_PROC_V2,   /* cuGetProcAddress_v2: CUDA runtimes, cudaGetDriverEntryPoint */
    BERTH_ENTRY_PROC_PTSZ, /* cuGetProcAddress_v2_ptsz */
    BERTH_ENTRY_PATHS
};

enum berth_entry_name {
#define X(name) BERTH_ENTRY_##name,
    BERTH_ENTRY_NAMES(X)
#undef X
        BERTH_ENTRY_NAME_COUNT
};

/* "symbol", "dlsym", "dlvsym", "cuGetProcAddress", ...; the driver's name of a function. */
const char *berth__entry_path_text(enum berth_entry_path path);
const char *berth__entry_name_text(enum berth_entry_name name);

/*
 * One thread's counts. Only the thread writes; anybody reads. Counts of a thread that ended stay,
 * and its record is the next new thread's, so that nothing is ever lost or unmapped.
 */
struct berth_entry_counts {
    uint64_t calls[BERTH_ENTRY_PATHS][BERTH_ENTRY_NAME_COUNT]; /* first: read by the assembler */
    struct berth_entry_counts *next; /* Synchronization: written before it is published */
    _Atomic int is_used;             /* by a thread that lives */
};

extern __thread struct berth_entry_counts *berth__entry_counts
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* The calling thread's record, from the first call on; never NULL. */
struct berth_entry_counts *berth__entry_counts_acquire(void);

/* Calls of all threads so far; exact whenever no call is in flight. Any thread. */
uint64_t berth__entry_calls(enum berth_entry_path path, enum berth_entry_name name);

#endif
