/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cuda_entry_*.S have in common, for the assembler: the entries in the order of enum
 * berth_entry_path and of BERTH_ENTRY_NAMES. Each machine's file has the macros ENTRY path, name
 * and EXPORTED name.
 */
#ifndef BERTH_HOOKS_CUDA_ENTRY_LIST_H
#define BERTH_HOOKS_CUDA_ENTRY_LIST_H

#include "alloc/entry_path_names.h"

#define PATHS 6

/* Leaves the number of names in .Lnames. */
#define COUNT_NAME(name) .set .Lnames, .Lnames + 1;
#define COUNT_NAMES .set .Lnames, 0; BERTH_ENTRY_NAMES(COUNT_NAME)

#define ENTRY_OF_0(name) ENTRY 0, name;
#define ENTRY_OF_1(name) ENTRY 1, name;
#define ENTRY_OF_2(name) ENTRY 2, name;
#define ENTRY_OF_3(name) ENTRY 3, name;
#define ENTRY_OF_4(name) ENTRY 4, name;
#define ENTRY_OF_5(name) ENTRY 5, name;
#define ENTRY_EXPORTED(name) EXPORTED name;

/* Defines all, numbered in .Lindex, and exports those of the first path under the driver's names. */
#define ALL_ENTRIES                                                                                \
    .set .Lindex, 0;                                                                               \
    BERTH_ENTRY_NAMES(ENTRY_OF_0)                                                                  \
    BERTH_ENTRY_NAMES(ENTRY_OF_1)                                                                  \
    BERTH_ENTRY_NAMES(ENTRY_OF_2)                                                                  \
    BERTH_ENTRY_NAMES(ENTRY_OF_3)                                                                  \
    BERTH_ENTRY_NAMES(ENTRY_OF_4)                                                                  \
    BERTH_ENTRY_NAMES(ENTRY_OF_5)                                                                  \
    BERTH_ENTRY_NAMES(ENTRY_EXPORTED)

#endif
