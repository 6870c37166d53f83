/* SPDX-License-Identifier: Apache-2.0 */
#include "persist_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

char fixture_path[64];
char fixture_why[BERTH_PERSIST_WHY_MAX];
static char directory[] = "/tmp/berth-persist-XXXXXX";

int fixture_start(void **state)
{
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(fixture_path, sizeof(fixture_path), "%s/weights", directory);
    return 0;
}

int fixture_clear(void **state)
{
    (void)state;
    unlink(fixture_path);
    return 0;
}

int fixture_finish(void **state)
{
    fixture_clear(state);
    return rmdir(directory);
}

struct berth_persist_store *fixture_open(bool create, uint64_t capacity)
{
    const struct berth_persist_options options = {
        .path = fixture_path, .name = "weights", .create = create, .capacity = capacity};
    struct berth_persist_store *store = NULL;

    if (berth__persist_store_open(&options, &store, fixture_why, sizeof(fixture_why)) < 0)
        fail_msg("%s", fixture_why);
    return store;
}

int fixture_try(const char *path, bool create, bool read_only)
{
    const struct berth_persist_options options = {
        .path = path, .name = "weights", .create = create, .read_only = read_only};
    struct berth_persist_store *store = NULL;
    int r;

    fixture_why[0] = '\0';
    r = berth__persist_store_open(&options, &store, fixture_why, sizeof(fixture_why));
    if (r == 0)
        berth__persist_store_close(store);
    return r;
}

static uint64_t word_at(uint64_t seed, uint64_t i)
{
    uint64_t x = seed * UINT64_C(0x9e3779b97f4a7c15) + i;

    x ^= x >> 31;
    return x * UINT64_C(0xbf58476d1ce4e5b9);
}

void fixture_fill(struct berth_persist_block *block, uint64_t seed)
{
    unsigned char *p = block->p;

    for (uint64_t i = 0; i < block->size; i += 8) {
        uint64_t word = word_at(seed, i);

        memcpy(p + i, &word, block->size - i < 8 ? block->size - i : 8);
    }
}

bool fixture_holds(const struct berth_persist_block *block, uint64_t size, uint64_t seed)
{
    const unsigned char *p = block->p;

    for (uint64_t i = 0; i < size; i += 8) {
        uint64_t word = word_at(seed, i);

        if (memcmp(p + i, &word, size - i < 8 ? size - i : 8) != 0)
            return false;
    }
    return block->size == size;
}

void fixture_put(struct berth_persist_store *store, const char *name, uint64_t size, uint64_t seed)
{
    struct berth_persist_block *block = NULL;

    assert_int_equal(berth__persist_store_create(store, name, size, true, &block), 0);
    fixture_fill(block, seed);
    assert_int_equal(berth__persist_store_commit(store, block), 0);
    berth__persist_store_detach(store, block);
}

void fixture_expect(struct berth_persist_store *store, const char *name, uint64_t size,
                    uint64_t seed)
{
    struct berth_persist_block *block = NULL;

    assert_int_equal(berth__persist_store_find(store, name, true, &block), 0);
    assert_true(fixture_holds(block, size, seed));
    berth__persist_store_detach(store, block);
}

void fixture_expect_none(struct berth_persist_store *store, const char *name)
{
    struct berth_persist_block *block = NULL;

    assert_int_equal(berth__persist_store_find(store, name, true, &block), -ENOENT);
}

unsigned char *fixture_read(const char *path, size_t *ret_size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    unsigned char *data;
    struct stat st;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    data = malloc((size_t)st.st_size);
    assert_non_null(data);
    assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
    close(fd);
    *ret_size = (size_t)st.st_size;
    return data;
}

void fixture_write(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, size), size);
    close(fd);
}
