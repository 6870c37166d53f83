/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libunwind's question whether an address may be read, answered without file descriptors.
 *
 * Before it reads memory that no unwind table vouches for (the outermost frame of every trace is
 * such a case), libunwind writes a byte from there into a pipe of its own, which it opens at its
 * first trace and keeps. In a program that is not ours the numbers of descriptors are the
 * program's: after a shell's `exec 3>file`, or a daemon's closing of everything, libunwind would
 * write into that file, read from it, or close it. So its calls of pipe2(), read(), write() and
 * syscall() are bound to functions of Berth's, in its own table of imports only.
 *
 * It keeps the pages that could be read last, and does not ask for them again: code without tables
 * may have the address of one in its base pointer, for a purpose of its own, that was unmapped
 * meanwhile. So every word is asked for that it reads by other ways than a known frame's.
 */
#ifndef BERTH_HOOKS_UNWIND_PROBE_H
#define BERTH_HOOKS_UNWIND_PROBE_H

/*
 * Binds the calls of a library that dlopen() gave and that nobody has used yet. 0, or -ENOTSUP when
 * it makes a pipe in a way that cannot be bound: it must not be used then.
 */
int berth__unwind_probe_bind(void *library);

/* Has what it reads asked for first: `accessors` is the library's table of functions. */
void berth__unwind_probe_bind_reads(void **accessors);

#endif
