/* SPDX-License-Identifier: Apache-2.0 */
/* A program without a loader: berth doctor must say that nothing of it can be seen. */
int main(void)
{
    return 0;
}
