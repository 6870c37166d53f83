/* SPDX-License-Identifier: Apache-2.0 */
/* Compares what we wrote down about the binary interface with the toolkit's
 * headers, where they are installed. */
#include "abi_table.h"

#include <stdio.h>

int main(void)
{
#ifdef HAVE_CUDA_HEADERS
    int wrong = abi_ours_count != abi_theirs_count;

    for (size_t i = 0; i < abi_ours_count; i++) {
        if (abi_ours[i].value == abi_theirs[i].value)
            continue;
        printf("%s: ours %lld, the toolkit's %lld\n", abi_ours[i].name, abi_ours[i].value,
               abi_theirs[i].value);
        wrong = 1;
    }
    printf("%zu facts compared\n", abi_ours_count);
    return wrong;
#else
    printf("skipped: the toolkit's cuda.h is not installed\n");
    return 77;
#endif
}
