/* SPDX-License-Identifier: Apache-2.0 */
/* A library that calls itself, and whose variable whoever shares it may change. */
int late_value = 1;

int late_get(void);
int late_read(void);

int late_get(void)
{
    return late_value;
}

int late_read(void)
{
    return late_get();
}
