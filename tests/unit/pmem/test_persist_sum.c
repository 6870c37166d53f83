/* SPDX-License-Identifier: Apache-2.0 */
/* The checksums: the published value, the same with and without the instruction, no flip unseen. */
#include "persist_fixture.h"

static void the_check_value_is_the_published_one(void **state)
{
    (void)state;
    assert_int_equal(berth__persist_crc(0, "123456789", 9), 0xe3069283);
    assert_int_equal(berth__persist_crc_plain(0, "123456789", 9), 0xe3069283);
}

static void the_instruction_and_the_table_agree(void **state)
{
    unsigned char data[300];

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * 37 + 11);
    for (size_t at = 0; at < 9; at++)
        for (size_t size = 0; size <= sizeof(data) - at; size++)
            assert_int_equal(berth__persist_crc(7, data + at, size),
                             berth__persist_crc_plain(7, data + at, size));
}

static struct berth_persist_sum sum(const void *data, size_t size)
{
    struct berth_persist_sum s = berth__persist_sum_start();

    berth__persist_sum_add(&s, data, size);
    return s;
}

static void pieces_sum_as_the_whole_does(void **state)
{
    unsigned char data[331];
    struct berth_persist_sum whole, pieces = berth__persist_sum_start();

    (void)state;
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * i);
    whole = sum(data, sizeof(data));
    berth__persist_sum_add(&pieces, data, 96);
    berth__persist_sum_add(&pieces, data + 96, 32);
    berth__persist_sum_add(&pieces, data + 128, sizeof(data) - 128);
    assert_true(berth__persist_sum_equal(&whole, &pieces));
}

static void every_flipped_bit_and_every_swap_of_words_is_seen(void **state)
{
    uint64_t data[33];
    struct berth_persist_sum whole;

    (void)state;
    for (size_t i = 0; i < 33; i++)
        data[i] = i * UINT64_C(0x9e3779b97f4a7c15);
    whole = sum(data, sizeof(data) - 3);
    for (size_t bit = 0; bit < 8 * (sizeof(data) - 3); bit++) {
        struct berth_persist_sum other;

        ((unsigned char *)data)[bit / 8] ^= (unsigned char)(1 << bit % 8);
        other = sum(data, sizeof(data) - 3);
        assert_false(berth__persist_sum_equal(&whole, &other));
        ((unsigned char *)data)[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    for (size_t i = 1; i < 32; i++) {
        struct berth_persist_sum other;
        uint64_t word = data[i];

        data[i] = data[i - 1];
        data[i - 1] = word;
        other = sum(data, sizeof(data) - 3);
        assert_false(berth__persist_sum_equal(&whole, &other));
        data[i - 1] = data[i];
        data[i] = word;
    }
}

static void zeros_of_another_length_sum_otherwise(void **state)
{
    static const unsigned char zeros[96];
    struct berth_persist_sum a = sum(zeros, 64), b = sum(zeros, 96), c = sum(zeros, 65);

    (void)state;
    assert_false(berth__persist_sum_equal(&a, &b));
    assert_false(berth__persist_sum_equal(&a, &c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_check_value_is_the_published_one),
        cmocka_unit_test(the_instruction_and_the_table_agree),
        cmocka_unit_test(pieces_sum_as_the_whole_does),
        cmocka_unit_test(every_flipped_bit_and_every_swap_of_words_is_seen),
        cmocka_unit_test(zeros_of_another_length_sum_otherwise),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
