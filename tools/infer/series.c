/* SPDX-License-Identifier: Apache-2.0 */
#include "series.h"

#include <stdlib.h>

#define CAPACITY_MIN 256

void berth__series_add(struct berth_series *series, uint64_t value)
{
    series->sum += value;
    if (series->count == series->capacity) {
        size_t capacity = series->capacity ? series->capacity * 2 : CAPACITY_MIN;
        uint64_t *grown = realloc(series->values, capacity * sizeof(grown[0]));

        if (!grown)
            return;
        series->values = grown;
        series->capacity = capacity;
    }
    series->values[series->count++] = value;
}

static int value_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

uint64_t berth__series_median(struct berth_series *series)
{
    if (series->count == 0)
        return 0;
    qsort(series->values, series->count, sizeof(series->values[0]), value_compare);
    return series->values[series->count / 2];
}

void berth__series_done(struct berth_series *series)
{
    free(series->values);
    *series = (struct berth_series){0};
}
