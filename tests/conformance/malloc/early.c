/* SPDX-License-Identifier: Apache-2.0 */
/* A library that allocates in its constructor, before those of the preload libraries have run. */
#include <stdlib.h>

void *early_block[4];
size_t early_size(int i);

size_t early_size(int i)
{
    static const size_t sizes[] = {24, 3000, 70000, 1 << 20};

    return sizes[i];
}

__attribute__((constructor)) static void allocate(void)
{
    for (unsigned k = 0; k < 4; k++) {
        unsigned char *bytes = malloc(early_size((int)k));

        early_block[k] = bytes;
        for (size_t i = 0; bytes && i < early_size((int)k); i++)
            bytes[i] = (unsigned char)(k * 31 + i * 7 + (i >> 12));
    }
}
