/* SPDX-License-Identifier: Apache-2.0 */
/* Links the driver and, in one build, a library that uses it before main; or opens that. */
#include "cuda_api.h"

#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

#ifdef EARLY_LINKED
int early_result(void); /* early.c */
#endif

int main(int argc, char **argv)
{
    int version = 0;

    (void)version;
    alarm(30);
#ifndef EARLY_NO_DRIVER
    printf("version %d\n", cuDriverGetVersion(&version));
#endif
#ifdef EARLY_LINKED
    printf("allocated before main: %d\n", early_result());
#endif
    if (argc > 1 && !dlopen(argv[1], RTLD_NOW))
        printf("%s\n", dlerror());
    return 0;
}
