/* SPDX-License-Identifier: Apache-2.0 */
#include "handle.h"

#include "range.h"

/* A range map of one-byte ranges: the order makes lookups quick enough, and
 * the kind travels as the owner. */
static struct range_map handles;
static char kinds[16];

int handle_add(const void *object, enum handle_kind kind)
{
    return range_add(&handles, (uint64_t)object, 1, &kinds[kind]);
}

void handle_remove(const void *object)
{
    range_remove(&handles, (uint64_t)object);
}

bool handle_is(const void *object, enum handle_kind kind)
{
    const struct range *range = range_find(&handles, (uint64_t)object);

    return range && range->owner == &kinds[kind];
}
