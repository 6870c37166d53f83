/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of the malloc family, each run in a child of its own.
 *
 * The same program runs natively, where it shows that the expectations are the C library's, and
 * under libberth-malloc.so with its blocks in DRAM, in a file tier, or in both.
 */
#ifndef BERTH_TESTS_CONFORMANCE_CHECK_H
#define BERTH_TESTS_CONFORMANCE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct check {
    const char *name;
    void (*run)(void);
};

/* Written at once: a check may be about what exit() does to buffers. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            dprintf(2, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                     \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* The files that the checks load or start lie beside the program. */
const char *check_file(const char *name);

/* Waits for a child that must end with status 0. */
void check_child(int pid);

/* fork(), while the process may not make a file larger (RLIMIT_FSIZE). */
pid_t check_fork_without_files(void);

/* A few different bytes per block, so that a mix-up is seen. */
void check_fill(void *p, size_t size, unsigned seed);
bool check_filled(const void *p, size_t size, unsigned seed);

/* How often to repeat what takes long: less where CHECK_EMULATED says that the machine is emulated.
 */
int check_rounds(int rounds);

/* The compiler may not reason about the blocks that the checks ask for. */
void *check_hide(void *p);

/* The tier of the block, "" when it is counted in total only, NULL without Berth. */
const char *check_tier(const void *p);

/*
 * Whether the block is where it is to be: in `tier`, or where CHECK_RANDOM names a policy that was
 * drawn, in one of the places of the rule that it came by, and in ordinary memory where it has
 * none.
 */
bool check_is_placed(const void *p, const char *tier);

extern const struct check basic_checks[];
extern const struct check family_checks[];
extern const struct check align_checks[];
extern const struct check finding_checks[];
extern const struct check hostile_checks[];
extern const struct check process_checks[];
extern const struct check fork_checks[];
extern const struct check thread_checks[];
extern const struct check load_checks[];
extern const struct check je_checks[];
extern const struct check limit_checks[];

#endif
