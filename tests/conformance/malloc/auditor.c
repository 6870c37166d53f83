/* SPDX-License-Identifier: Apache-2.0 */
/* A library for LD_AUDIT that looks on. */
#include <link.h>

unsigned la_version(unsigned version)
{
    return version;
}
