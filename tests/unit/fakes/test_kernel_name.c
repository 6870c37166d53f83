/* SPDX-License-Identifier: Apache-2.0 */
/* Argument sizes read from mangled names: wrong ones would corrupt a kernel's
 * arguments, so what is not understood must be "not known". */
#include "fixture.h"
#include "tests/fakes/cuda/module.h"

#include <stdlib.h>

static void expect_sizes(const char *name, size_t count, const size_t *expected)
{
    size_t *sizes = NULL, sizes_count = 99;

    assert_true(kernel_name_sizes(name, &sizes, &sizes_count));
    assert_int_equal(sizes_count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(sizes[i], expected[i]);
    free(sizes);
}

#define EXPECT_SIZES(name, ...)                                                                    \
    expect_sizes(name, sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t), (size_t[]){__VA_ARGS__})

static void plain_arguments_are_sized(void **state)
{
    EXPECT_SIZES("_Z5saxpyfPKfPfi", 4, 8, 8, 4);
    EXPECT_SIZES("_Z3addPKfS0_Pfi", 8, 8, 8, 4);
    EXPECT_SIZES("_Z1kbchstmdxy", 1, 1, 1, 2, 2, 8, 8, 8, 8);
    EXPECT_SIZES("_Z1kPPKvS0_", 8, 8);
    expect_sizes("_Z5emptyv", 0, NULL);
}

static void named_and_nested_ones_too(void **state)
{
    EXPECT_SIZES("_ZN3app5inner4workEPii", 8, 4);
    EXPECT_SIZES("_ZN3app4workEPNS_4DataE6float4", 8, 16);
    EXPECT_SIZES("_Z4half6__halfPS_S0_", 2, 8, 8);
}

static void template_parameters_are_followed(void **state)
{
    EXPECT_SIZES("_Z5shiftIdEvPT_S0_m", 8, 8, 8);
    EXPECT_SIZES("_Z5scaleIfiEvPT_T0_S0_", 8, 4, 4);
    EXPECT_SIZES("_Z4tileILi16EfEvPT0_i", 8, 4);
}

static void what_the_name_does_not_tell_is_not_known(void **state)
{
    static const char *const names[] = {"plain_c",         "_Z1k4Data",  "_Z1kSt6vectorIfSaIfEE",
                                        "_Z1kN3app4DataE", "_Z",         "_Z9999999999999k",
                                        "_Z1kS5_",         "_Z1kPFvivE", "_Z1k3VecIfE",
                                        "_Z1kT_",          "_ZN3app",    "_Z4tileILi",
                                        "_Z1kP",           "_Z1kA4_f",   "_Z1k6float"};
    size_t *sizes, count;

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        assert_false(kernel_name_sizes(names[i], &sizes, &count));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_arguments_are_sized),
        cmocka_unit_test(named_and_nested_ones_too),
        cmocka_unit_test(template_parameters_are_followed),
        cmocka_unit_test(what_the_name_does_not_tell_is_not_known),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
