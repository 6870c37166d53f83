/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damaged stores: each byte that is read is flipped, the file is cut at each page, its numbers are
 * forged with right checksums. Each time it is refused with its path and the reason, and never
 * crashes.
 */
#include "persist_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#define KIB ((uint64_t)1 << 10)

static unsigned char *image;
static size_t image_size;
static struct berth_persist_super super;

/* A small store of two generations: both directories were written, one is in force. */
static void make_image(void)
{
    struct berth_persist_store *store = fixture_open(true, 64 * KIB);

    fixture_put(store, "first", 5 * KIB, 1);
    fixture_put(store, "second", 9 * KIB, 2);
    berth__persist_store_close(store);
    image = fixture_read(fixture_path, &image_size);
    memcpy(&super, image, sizeof(super));
}

static int start(void **state)
{
    if (fixture_start(state) < 0)
        return -1;
    make_image();
    return 0;
}

static int finish(void **state)
{
    free(image);
    return fixture_finish(state);
}

static void patch(size_t at, const void *bytes, size_t size)
{
    FILE *file = fopen(fixture_path, "r+e");

    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static void expect_refused(const char *reason)
{
    assert_int_equal(fixture_try(fixture_path, true, false), -EINVAL);
    assert_memory_equal(fixture_why, fixture_path, strlen(fixture_path));
    if (!strstr(fixture_why, reason))
        fail_msg("'%s' instead of '%s'", fixture_why, reason);
}

static const struct berth_persist_head *head_in_force(uint64_t *ret_place)
{
    uint64_t word;

    memcpy(&word, image + BERTH_PERSIST_PAGE, sizeof(word));
    *ret_place = super.directory_offset[(uint32_t)word % 2];
    return (const void *)(image + *ret_place);
}

static void every_flipped_byte_is_refused(void **state)
{
    uint64_t place;
    const struct berth_persist_head *head = head_in_force(&place);
    const size_t ranges[][2] = {{0, 2 * BERTH_PERSIST_PAGE},
                                {place, place + sizeof(*head) + head->body_size}};

    (void)state;
    fixture_write(fixture_path, image, image_size);
    assert_int_equal(fixture_try(fixture_path, true, false), 0);
    for (int range = 0; range < 2; range++) {
        for (size_t at = ranges[range][0]; at < ranges[range][1]; at++) {
            static const unsigned char flips[] = {1, 0x80, 0xff};

            for (size_t i = 0; i < sizeof(flips); i++) {
                unsigned char byte = image[at] ^ flips[i];

                patch(at, &byte, 1);
                expect_refused("");
            }
            patch(at, &image[at], 1);
        }
    }
    assert_int_equal(fixture_try(fixture_path, true, false), 0);
}

static void zeroed_pages_are_not_taken_for_a_blank_medium(void **state)
{
    static const unsigned char zeros[BERTH_PERSIST_PAGE];

    (void)state;
    for (size_t at = 0; at < 4 * BERTH_PERSIST_PAGE; at += BERTH_PERSIST_PAGE) {
        uint64_t place;

        head_in_force(&place);
        if (at >= 2 * BERTH_PERSIST_PAGE && at != place)
            continue;
        fixture_write(fixture_path, image, image_size);
        patch(at, zeros, sizeof(zeros));
        expect_refused("");
    }
}

/* What the file's size is said to be: it is cut after it was looked at. */
static off_t told_size;

int __real_berth__fstat(int fd, struct stat *st);
int __wrap_berth__fstat(int fd, struct stat *st);

int __wrap_berth__fstat(int fd, struct stat *st)
{
    int r = __real_berth__fstat(fd, st);

    if (r == 0 && told_size > 0)
        st->st_size = told_size;
    return r;
}

/* It is read at that moment: an error, and no signal. */
static void a_file_that_is_cut_while_it_is_read_is_an_error(void **state)
{
    (void)state;
    for (size_t size = 0; size < image_size; size += 4 * KIB) {
        struct berth_persist_block *block = NULL;
        struct berth_persist_store *store;
        int r;

        fixture_write(fixture_path, image, image_size);
        store = fixture_open(false, 0);
        told_size = (off_t)image_size;
        assert_int_equal(truncate(fixture_path, (off_t)size), 0);
        r = berth__persist_store_find(store, "second", true, &block);
        assert_int_equal(r, size < 8 * KIB ? -EINVAL : -EIO);
        /* A second process that starts now. */
        r = fixture_try(fixture_path, true, false);
        assert_true(r == 0 || r == -EINVAL);
        assert_true(r == 0 || strstr(fixture_why, "cut off"));
        told_size = 0;
        berth__persist_store_close(store);
    }
}

static void a_file_that_was_cut_is_refused(void **state)
{
    (void)state;
    for (size_t size = 0; size < image_size; size += 4 * KIB) {
        fixture_write(fixture_path, image, size);
        expect_refused("cut off");
    }
    fixture_write(fixture_path, image, image_size - 1);
    expect_refused("cut off");
}

static void a_file_that_is_cut_while_it_is_open_is_told_at_the_next_find(void **state)
{
    struct berth_persist_block *block = NULL;
    struct berth_persist_store *store;

    (void)state;
    fixture_write(fixture_path, image, image_size);
    store = fixture_open(false, 0);
    assert_int_equal(truncate(fixture_path, (off_t)super.data_offset), 0);
    assert_int_equal(berth__persist_store_find(store, "second", false, &block), -EINVAL);
    assert_non_null(strstr(berth__persist_store_why(store), "'second' lies beyond the end"));
    berth__persist_store_close(store);
}

/* Nothing of what was cut is touched, which would be the end of the program. */
static void a_file_that_is_cut_under_a_block_is_told_at_its_commit(void **state)
{
    const uint64_t left[] = {super.data_offset, 4 * KIB, 0};

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct berth_persist_block *block = NULL, *other = NULL;
        struct berth_persist_store *store;

        fixture_write(fixture_path, image, image_size);
        store = fixture_open(false, 0);
        assert_int_equal(berth__persist_store_create(store, "new", KIB, false, &block), 0);
        assert_int_equal(truncate(fixture_path, (off_t)left[i]), 0);
        assert_int_equal(berth__persist_store_commit(store, block), -EINVAL);
        assert_non_null(strstr(berth__persist_store_why(store), "cut off"));
        assert_int_equal(berth__persist_store_find(store, "second", false, &other), -EINVAL);
        assert_non_null(strstr(berth__persist_store_why(store), "cut off"));
        assert_int_equal(berth__persist_store_remove(store, "first"),
                         left[i] < super.data_offset ? -EINVAL : 0);
        berth__persist_store_close(store);
    }
}

/* Each number is right by itself: the size is one that no extents could have. */
static void a_block_of_all_addresses_is_refused(void **state)
{
    uint64_t place;
    const struct berth_persist_head *head = head_in_force(&place);
    struct berth_persist_record record = {.size = UINT64_MAX, .generation = 1, .name_length = 1};
    struct berth_persist_head forged;
    char body[sizeof(record) + 8] = "";

    (void)state;
    fixture_write(fixture_path, image, image_size);
    memcpy(body, &record, sizeof(record));
    body[sizeof(record)] = 'x';
    berth__persist_head_make(&forged, &super, head->generation, 1, body, sizeof(body));
    patch(place, &forged, sizeof(forged));
    patch(place + sizeof(forged), body, sizeof(body));
    expect_refused("a record that cannot be");
}

static void a_renamed_file_stays_usable_and_its_name_is_free(void **state)
{
    struct berth_persist_store *store;
    char renamed[80];

    (void)state;
    fixture_write(fixture_path, image, image_size);
    store = fixture_open(false, 0);
    snprintf(renamed, sizeof(renamed), "%s.old", fixture_path);
    assert_int_equal(rename(fixture_path, renamed), 0);
    fixture_expect(store, "first", 5 * KIB, 1);
    fixture_put(store, "third", 3 * KIB, 3);
    assert_int_equal(fixture_try(fixture_path, false, false), -ENOENT);
    berth__persist_store_close(store);
    assert_int_equal(rename(renamed, fixture_path), 0);
    store = fixture_open(false, 0);
    fixture_expect(store, "third", 3 * KIB, 3);
    berth__persist_store_close(store);
}

/* What a newer or an older Berth has written: its checksums are right. */
static void other_versions_are_named(void **state)
{
    struct berth_persist_super other = super;

    (void)state;
    fixture_write(fixture_path, image, image_size);
    other.version = 2;
    patch(0, &other, sizeof(other));
    expect_refused("version 2 of the format; expected 1");
    other.version = 0;
    patch(0, &other, sizeof(other));
    expect_refused("version 0 of the format; expected 1");
    other.magic = __builtin_bswap64(super.magic);
    patch(0, &other, sizeof(other));
    expect_refused("other byte order");
}

static void write_super(struct berth_persist_super forged)
{
    static unsigned char page[BERTH_PERSIST_PAGE];

    forged.crc = 0;
    memcpy(page, &forged, sizeof(forged));
    forged.crc = berth__persist_crc(0, page, sizeof(page));
    fixture_write(fixture_path, image, image_size);
    patch(0, &forged, sizeof(forged));
}

static void a_forged_superblock_is_refused(void **state)
{
    static const uint64_t values[] = {0,          1,          4095,      4096,       8192,
                                      65536,      1 << 20,    INT64_MAX, UINT64_MAX, 1ULL << 32,
                                      1ULL << 63, 0xfffff000, 12288,     3 << 20};
    static const size_t fields[] = {
        offsetof(struct berth_persist_super, granule),
        offsetof(struct berth_persist_super, directory_offset[0]),
        offsetof(struct berth_persist_super, directory_offset[1]),
        offsetof(struct berth_persist_super, directory_size),
        offsetof(struct berth_persist_super, data_offset),
        offsetof(struct berth_persist_super, size),
    };

    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        for (size_t k = 0; k < sizeof(values) / sizeof(values[0]); k++) {
            struct berth_persist_super forged = super;

            memcpy((char *)&forged + fields[i], &values[k], sizeof(values[k]));
            write_super(forged);
            /* Some values make sense by chance: then it opens, or not; it does not crash. */
            (void)fixture_try(fixture_path, true, false);
        }
    }
}

/* Random records with right checksums: the numbers in them are checked one by one. */
static void a_forged_directory_never_crashes(void **state)
{
    uint64_t place, seed = 7;
    const struct berth_persist_head *head = head_in_force(&place);
    unsigned char body[4096];
    int opened = 0;

    (void)state;
    fixture_write(fixture_path, image, image_size);
    for (int round = 0; round < 20000; round++) {
        struct berth_persist_head forged;
        size_t at;

        memcpy(body, image + place + sizeof(*head), head->body_size);
        seed = seed * UINT64_C(6364136223846793005) + 1;
        at = (size_t)(seed >> 33) % head->body_size & ~(size_t)7;
        seed = seed * UINT64_C(6364136223846793005) + 1;
        if (seed >> 63)
            body[at + (seed >> 40) % 8] ^= (unsigned char)(1 << (seed >> 50) % 8);
        else
            memcpy(body + at, &seed, 8);
        berth__persist_head_make(&forged, &super, head->generation, head->record_count, body,
                                 head->body_size);
        patch(place, &forged, sizeof(forged));
        patch(place + sizeof(forged), body, head->body_size);
        opened += fixture_try(fixture_path, true, true) == 0;
    }
    assert_true(opened > 0 && opened < 20000);
}

#define TEST(name) cmocka_unit_test_teardown(name, fixture_clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_flipped_byte_is_refused),
        TEST(zeroed_pages_are_not_taken_for_a_blank_medium),
        TEST(a_file_that_was_cut_is_refused),
        TEST(a_file_that_is_cut_while_it_is_read_is_an_error),
        TEST(a_file_that_is_cut_while_it_is_open_is_told_at_the_next_find),
        TEST(a_file_that_is_cut_under_a_block_is_told_at_its_commit),
        TEST(a_block_of_all_addresses_is_refused),
        TEST(a_renamed_file_stays_usable_and_its_name_is_free),
        TEST(other_versions_are_named),
        TEST(a_forged_superblock_is_refused),
        TEST(a_forged_directory_never_crashes),
    };

    return cmocka_run_group_tests(tests, start, finish);
}
