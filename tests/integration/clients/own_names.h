/* SPDX-License-Identifier: Apache-2.0 */
/* A library's functions, which have the names of the C library's and other parameters. */
#ifndef BERTH_TESTS_OWN_NAMES_H
#define BERTH_TESTS_OWN_NAMES_H

int stat(int a, int b, int c, int d, int e, int f, int g);
int fopen(int a, int b, int c);
int clone(const char *a, int b);
double fstatat(double x, double y);

#endif
