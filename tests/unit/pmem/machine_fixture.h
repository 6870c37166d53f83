/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another machine: a directory that stands in for /sys, and system calls that fail when told to.
 * The linker hands the calls of what is tested to this file (--wrap, meson.build).
 */
#ifndef BERTH_TESTS_PMEM_MACHINE_FIXTURE_H
#define BERTH_TESTS_PMEM_MACHINE_FIXTURE_H

#include <stddef.h>
#include <stdint.h>

/* Begins with an empty /sys, and gives the real one back. */
void machine_begin(void);
void machine_end(void);

/* Writes a file of /sys, with the directories above it. */
void machine_file(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));
void machine_link(const char *path, const char *target);
/* A node with memory, of which so much is free; in MiB. */
void machine_node(unsigned node, uint64_t total, uint64_t available);

enum machine_call {
    MACHINE_MBIND,
    MACHINE_MADVISE,
    MACHINE_MPROTECT,
    MACHINE_MMAP,
    MACHINE_OPEN,
    MACHINE_FLOCK,
    MACHINE_FALLOCATE,
    MACHINE_CALLS
};

/*
 * From the `nth` such call on (0 = the next), `times` calls fail with `error`. `argument` narrows
 * it down: the mode of mbind, the advice of madvise, any flag of mmap; 0 = whatever it is.
 */
void machine_fail(enum machine_call call, unsigned nth, unsigned times, int error, int argument);
/* How often the call failed because of that. */
unsigned machine_failures(enum machine_call call);
/* What mbind was called with last: its mode, and the first nodes. */
int machine_policy(unsigned long *ret_nodes);
/* The nodes that the process may use, as a mask; 0 = as it really is. */
void machine_allow_nodes(unsigned long nodes);

/* The node on which move_pages() finds every page; negative = where it really is. */
void machine_pages_on(int node);

#endif
