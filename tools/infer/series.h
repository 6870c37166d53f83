/* SPDX-License-Identifier: Apache-2.0 */
/* A series: what was measured again and again; the median counts. {0} is an empty one. */
#ifndef BERTH_INFER_SERIES_H
#define BERTH_INFER_SERIES_H

#include <stddef.h>
#include <stdint.h>

struct berth_series {
    uint64_t *values;
    size_t count;
    size_t capacity;
    uint64_t sum;
};

/* Without memory the value only goes into the sum. */
void berth__series_add(struct berth_series *series, uint64_t value);
/* 0 for an empty series. Sorts the values. */
uint64_t berth__series_median(struct berth_series *series);
void berth__series_done(struct berth_series *series);

#endif
