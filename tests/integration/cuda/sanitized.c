/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that contains a sanitizer, which replaces functions of the C library's, that walks over
 * the loader's list of libraries among them, and looks for the originals before any library has
 * been initialised.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    char *copy = strdup(argv[argc - 1]);

    puts(copy && strcmp(copy, argv[argc - 1]) == 0 ? "the same" : "different");
    free(copy);
    return 0;
}
