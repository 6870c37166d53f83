/* SPDX-License-Identifier: Apache-2.0 */
#include "own_names.h"

int stat(int a, int b, int c, int d, int e, int f, int g)
{
    return a + b + c + d + e + f + g;
}

int fopen(int a, int b, int c)
{
    return a * b + c;
}

int clone(const char *a, int b)
{
    return a[0] * 10 + b;
}

double fstatat(double x, double y)
{
    return x * y;
}
