/* SPDX-License-Identifier: Apache-2.0 */
#include "ipc/identity.h"

#include "ipc/address.h"

#include <unistd.h>

int berth__identity_read(struct berth_identity *ret)
{
    struct berth_identity identity = {.pid = getpid()};
    ssize_t n = readlink("/proc/self/exe", identity.program, sizeof(identity.program) - 1);
    int r;

    identity.program[n > 0 ? n : 0] = '\0';
    for (char *c = identity.program; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            *c = '?';
    r = berth__address_start(0, &identity.start, NULL);
    if (r == 0)
        *ret = identity;
    return r;
}
