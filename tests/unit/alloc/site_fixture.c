/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A library with known functions, whose addresses stand for return addresses in the tests. With
 * SITE_FIXTURE_OTHER it is another build, of the same layout, with other names.
 */
#ifdef SITE_FIXTURE_OTHER
#define NAME(x) other_##x
#else
#define NAME(x) fixture_##x
#endif

#define FUNCTION(x)                                                                                \
    int NAME(x)(int n);                                                                            \
    __attribute__((noinline)) int NAME(x)(int n)                                                   \
    {                                                                                              \
        __asm__ volatile("" : "+r"(n));                                                            \
        return n * 3 + 1;                                                                          \
    }

FUNCTION(inner)
FUNCTION(middle)
FUNCTION(outer)

/* Two names of one function, and a weak one: the shortest global one is to be told. */
#ifndef SITE_FIXTURE_OTHER
extern __typeof__(fixture_middle) fixture_middle_alias __attribute__((alias("fixture_middle")));
extern __typeof__(fixture_outer) outer_weak __attribute__((weak, alias("fixture_outer")));
extern __typeof__(fixture_inner) __fixture_in __attribute__((alias("fixture_inner")));
#endif

/* Not exported: its name is in the symbol table of the file, not in the dynamic one. */
FUNCTION(hidden_body)
#define HIDDEN static __attribute__((noinline, used))
HIDDEN int secret(int n)
{
    __asm__ volatile("" : "+r"(n));
    return n - 7;
}

void *site_fixture_secret(void);
void *site_fixture_secret(void)
{
    return (void *)secret;
}
