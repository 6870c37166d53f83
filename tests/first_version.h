/* SPDX-License-Identifier: Apache-2.0 */
/* The version that glibc gives to what it always had, which is that of its first release for a
 * machine. */
#ifndef BERTH_TESTS_FIRST_VERSION_H
#define BERTH_TESTS_FIRST_VERSION_H

#ifdef __aarch64__
#define FIRST_VERSION "GLIBC_2.17"
#else
#define FIRST_VERSION "GLIBC_2.2.5"
#endif

#endif
