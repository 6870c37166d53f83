/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Transparent huge pages for a tier's memory. The kernel is asked, and may say no at any page: it
 * is no error where it cannot.
 */
#ifndef BERTH_PMEM_HUGE_ADVICE_H
#define BERTH_PMEM_HUGE_ADVICE_H

#include <stddef.h>

/* The size of a huge page on every 64-bit x86 and, with 4 KiB pages, on ARM: 2 MiB. */
#define BERTH_HUGE_PAGE ((size_t)2 << 20)

/* Asks for huge pages in a mapping. Pieces that are no whole huge page stay as they are. */
void berth__huge_advise(void *address, size_t size);

/* What comes of it on this machine, for people. */
const char *berth__huge_advice_text(void);
/* The same for memory of tmpfs. */
const char *berth__huge_advice_shared_text(void);

#endif
