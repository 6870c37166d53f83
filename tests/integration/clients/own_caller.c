/* SPDX-License-Identifier: Apache-2.0 */
/* Fails unless its library's functions are called as they are, though they answer 0. */
#include "own_names.h"

int main(void)
{
    if (stat(1, 2, 3, 4, 5, 6, 7) != 28 || stat(5, -5, 0, 0, 0, 0, 0) != 0)
        return 1;
    if (fopen(3, 4, 5) != 17)
        return 2;
    if (clone("\3", 4) != 34)
        return 3;
    return fstatat(1.5, 4) != 6;
}
