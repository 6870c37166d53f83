/* SPDX-License-Identifier: Apache-2.0 */
/* A program that is linked to another allocator and asks for more than there is. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct nothrow {
    char empty;
};
void *_ZnwmRKSt9nothrow_t(size_t size, const struct nothrow *tag);

int main(void)
{
    static const struct nothrow tag;
    void *p = _ZnwmRKSt9nothrow_t(PTRDIFF_MAX, &tag);

    free(p);
    puts(p ? "some" : "none");
    return 0;
}
