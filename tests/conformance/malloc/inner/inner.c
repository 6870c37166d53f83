/* SPDX-License-Identifier: Apache-2.0 */
/* Found only by the RUNPATH of the library that asks for it. */
int inner_answer(void);

int inner_answer(void)
{
    return 42;
}
