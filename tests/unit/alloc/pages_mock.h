/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The driver of device_mock.h with virtual memory management: addresses, pages of 2 MiB, and the
 * access of two devices. A page that was not opened to the device cannot be touched; one that is
 * taken away loses what is in it.
 */
#ifndef BERTH_TEST_PAGES_MOCK_H
#define BERTH_TEST_PAGES_MOCK_H

#include "device_mock.h"

#define PAGE_MOCK_SHIFT 21

/* After mock_reset(): binds the functions. Everything of an earlier test is forgotten. */
void pages_mock_bind(void);

/* Pages that exist, and of those that `device` can use; handles that are mapped nowhere. */
uint64_t pages_mock_pages(void);
uint64_t pages_mock_open(int device);
uint64_t pages_mock_loose(void);

#endif
