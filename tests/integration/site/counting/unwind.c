/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For short_threads.c: answers to libunwind's name, reads no stack, and tells the program of each
 * call. Berth's libunwind is nobody else's, but what it calls by name is the program's.
 */
void unwind_was_asked(void);
int unw_backtrace(void **frames, int count);

int unw_backtrace(void **frames, int count)
{
    (void)count;
    frames[0] = __builtin_return_address(0);
    unwind_was_asked();
    return 1;
}
