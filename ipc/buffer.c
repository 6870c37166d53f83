/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/buffer.h"

#include <string.h>
#include <sys/mman.h>

char *berth__buffer_make(const void *bytes, size_t length)
{
    char *buffer = berth__buffer_resize(NULL, 0, length);

    if (buffer)
        memcpy(buffer, bytes, length);
    return buffer;
}

char *berth__buffer_resize(char *buffer, size_t old_size, size_t size)
{
    void *p = buffer ? mremap(buffer, old_size, size, MREMAP_MAYMOVE)
                     : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

void berth__buffer_free(char *buffer, size_t size)
{
    if (buffer)
        munmap(buffer, size);
}
