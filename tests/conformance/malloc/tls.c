/* SPDX-License-Identifier: Apache-2.0 */
/* A library with storage of its own in the static thread-local block. */
#include <stdlib.h>

void *tls_get(size_t size);
char *tls_storage(void);

static __thread char storage[1000] __attribute__((tls_model("initial-exec"))) = "x";

void *tls_get(size_t size)
{
    storage[1]++;
    return malloc(size);
}

char *tls_storage(void)
{
    return storage;
}
