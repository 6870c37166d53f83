/* SPDX-License-Identifier: Apache-2.0 */
/* A library that calls what nobody has. */
int nobody_has_this(void);
int unbound_call(void);

int unbound_call(void)
{
    return nobody_has_this();
}
