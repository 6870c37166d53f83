/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which system calls moving a block makes, so that a test can let each of them fail in turn. In a
 * program this is one load and a branch before a system call.
 */
#ifndef BERTH_PMEM_MOVE_FAULT_H
#define BERTH_PMEM_MOVE_FAULT_H

enum berth_move_call {
    BERTH_CALL_UFFD_OPEN,
    BERTH_CALL_UFFD_OFFER, /* to take pages: without it, writers are held back page by page */
    BERTH_CALL_UFFD_REGISTER,
    BERTH_CALL_UFFD_PROTECT,
    BERTH_CALL_UFFD_UNPROTECT,
    BERTH_CALL_UFFD_READ,
    BERTH_CALL_UFFD_TAKE,
    BERTH_CALL_LOOK,    /* at how the range is mapped */
    BERTH_CALL_QUERY,   /* to look by one call: without it, all mappings are read as text */
    BERTH_CALL_READ,    /* the block's bytes */
    BERTH_CALL_SCRATCH, /* to map the new memory somewhere */
    BERTH_CALL_BIND,    /* mbind() */
    BERTH_CALL_SWAP,    /* to put it in the block's place */
    BERTH_CALL_COUNT
};

/* Set by tests, NULL otherwise: 0, or the negative errno that the call is to fail with. */
extern int (*berth__move_inject)(enum berth_move_call call);

static inline int berth__move_fault(enum berth_move_call call)
{
    return berth__move_inject ? berth__move_inject(call) : 0;
}

#endif
