/* SPDX-License-Identifier: Apache-2.0 */
/* What the accounts by tag and by site say of device blocks that a test has allocated at one site.
 */
#ifndef BERTH_TESTS_UNIT_ALLOC_CLASS_ACCOUNT_H
#define BERTH_TESTS_UNIT_ALLOC_CLASS_ACCOUNT_H

#include "alloc/site.h"
#include "alloc/site_account.h"
#include "alloc/stats.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static berth_site_id a_site(void)
{
    const void *frame = (const void *)a_site;

    return berth__site_intern(&frame, 1);
}

static uint64_t held_as(enum berth_tag tag)
{
    struct berth_cell_reading cell;

    berth__stats_read(BERTH_TIER_DEVICE, tag, &cell);
    return cell.held;
}

static uint64_t held_by_site_as(enum berth_tag tag)
{
    struct berth_site_reading cell;
    uint64_t held = 0;

    for (unsigned i = 0; berth__site_account_cell(a_site(), i, &cell); i++)
        held += cell.tag == tag ? cell.held : 0;
    return held;
}

static void assert_nothing_is_left(void)
{
    for (unsigned tag = 0; tag < BERTH_TAG_COUNT; tag++) {
        assert_int_equal(held_as((enum berth_tag)tag), 0);
        assert_int_equal(held_by_site_as((enum berth_tag)tag), 0);
    }
}

#endif
