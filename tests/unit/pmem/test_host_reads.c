/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel tells of a process's own reads. */
#include "pmem/host_reads.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define STRETCH ((size_t)64 << 12)
#define STRETCHES 8u

static char *memory;

static void read_pages(unsigned stretch, unsigned pages)
{
    const volatile char *at = memory + stretch * STRETCH;

    for (unsigned page = 0; page < pages; page++)
        (void)at[(size_t)page << 12];
}

static void list_stretches(struct berth_watched stretches[STRETCHES])
{
    for (unsigned i = 0; i < STRETCHES; i++)
        stretches[i] = (struct berth_watched){(uintptr_t)memory + i * STRETCH,
                                              (uintptr_t)memory + (i + 1) * STRETCH, 0};
}

static unsigned count_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    unsigned lines = 0;

    assert_non_null(maps);
    for (int c; (c = getc(maps)) != EOF;)
        lines += c == '\n';
    fclose(maps);
    return lines;
}

/* False where the kernel does not tell. */
static bool make(void)
{
    struct berth_watched stretches[STRETCHES];

    /* One more at each end, so that the stretches are amid a mapping. */
    memory = mmap(NULL, (STRETCHES + 2) * STRETCH, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    memset(memory, 1, (STRETCHES + 2) * STRETCH);
    memory += STRETCH;
    list_stretches(stretches);
    if (!berth__host_reads_watch(stretches, STRETCHES))
        return false;
    read_pages(0, 64);
    berth__host_reads_end(stretches, STRETCHES);
    return stretches[0].read == STRETCH;
}

static void what_was_read_is_told(void **state)
{
    struct berth_watched stretches[STRETCHES];
    unsigned mappings;

    (void)state;
    list_stretches(stretches);
    mappings = count_mappings();
    assert_true(berth__host_reads_watch(stretches, STRETCHES));
    assert_true(count_mappings() > mappings);
    read_pages(1, 64);
    read_pages(4, 3);
    memory[5 * STRETCH] = 2; /* a write counts, too */
    berth__host_reads_end(stretches, STRETCHES);
    assert_true(stretches[0].read == 0);
    assert_true(stretches[1].read == STRETCH);
    assert_true(stretches[2].read == 0 && stretches[3].read == 0);
    assert_true(stretches[4].read == (size_t)3 << 12);
    assert_true(stretches[5].read == (size_t)1 << 12);
    /* And nothing is left of it. */
    assert_int_equal(count_mappings(), mappings);
}

/* Who looks before the end forgets nothing. */
static void what_was_read_so_far_is_told(void **state)
{
    struct berth_watched stretches[STRETCHES];
    unsigned mappings;

    (void)state;
    list_stretches(stretches);
    assert_true(berth__host_reads_watch(stretches, STRETCHES));
    mappings = count_mappings();
    read_pages(1, 64);
    berth__host_reads_peek(stretches, STRETCHES);
    assert_true(stretches[0].read == 0);
    assert_true(stretches[1].read == STRETCH);
    assert_int_equal(count_mappings(), mappings);
    read_pages(4, 3);
    berth__host_reads_end(stretches, STRETCHES);
    assert_true(stretches[0].read == 0);
    assert_true(stretches[1].read == STRETCH);
    assert_true(stretches[4].read == (size_t)3 << 12);
    assert_true(count_mappings() < mappings);
}

static void what_is_gone_is_unknown(void **state)
{
    struct berth_watched stretches[STRETCHES];

    (void)state;
    list_stretches(stretches);
    assert_true(berth__host_reads_watch(stretches, STRETCHES));
    assert_int_equal(munmap(memory + 2 * STRETCH, STRETCH), 0);
    assert_int_equal(munmap(memory + 6 * STRETCH, STRETCH / 2), 0);
    read_pages(7, 64);
    berth__host_reads_end(stretches, STRETCHES);
    assert_true(stretches[2].read == BERTH_READ_UNKNOWN);
    assert_true(stretches[6].read == BERTH_READ_UNKNOWN);
    assert_true(stretches[1].read == 0);
    assert_true(stretches[7].read == STRETCH);
}

/* Of the mapping that begins at `p`: "sr", read in order. */
static bool is_read_in_order(const void *p)
{
    FILE *smaps = fopen("/proc/self/smaps", "r");
    char line[512], start[32];
    bool found = false, in_order = false;

    assert_non_null(smaps);
    snprintf(start, sizeof(start), "%lx-", (unsigned long)p);
    while (fgets(line, sizeof(line), smaps) && !(found && strncmp(line, "VmFlags:", 8) == 0))
        found = found || strncmp(line, start, strlen(start)) == 0;
    in_order = found && strstr(line, " sr") != NULL;
    fclose(smaps);
    return in_order;
}

/* A file's tier has a reason for what it has told the kernel (pmem/file_pages.h). */
static void files_are_read_as_before(void **state)
{
    struct berth_watched stretches[2];
    int fd = memfd_create("reads", MFD_CLOEXEC);
    char *p;

    (void)state;
    assert_int_equal(ftruncate(fd, (off_t)(4 * STRETCH)), 0);
    p = mmap(NULL, 4 * STRETCH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    memset(p, 1, 4 * STRETCH);
    assert_int_equal(madvise(p, 4 * STRETCH, MADV_SEQUENTIAL), 0);
    for (unsigned i = 0; i < 2; i++)
        stretches[i] =
            (struct berth_watched){(uintptr_t)p + i * STRETCH, (uintptr_t)p + (i + 1) * STRETCH, 0};
    assert_true(berth__host_reads_watch(stretches, 2));
    berth__host_reads_end(stretches, 2);
    assert_true(is_read_in_order(p));
    munmap(p, 4 * STRETCH);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_read_is_told),
        cmocka_unit_test(what_was_read_so_far_is_told),
        cmocka_unit_test(files_are_read_as_before),
        cmocka_unit_test(what_is_gone_is_unknown),
    };

    if (getpagesize() != 4096 || !make()) {
        puts("this kernel does not tell which pages were read");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
