/* SPDX-License-Identifier: Apache-2.0 */
/* The members of the family that take an alignment. */
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>

static volatile size_t huge = (size_t)PTRDIFF_MAX;
/* The least alignment that no address can have. */
static volatile size_t impossible = SIZE_MAX / 2 + 2;

static const size_t sizes[] = {0, 1, 8, 100, 4096, 5000, 65536, 70000, 1 << 20};
#define SIZE_COUNT (sizeof(sizes) / sizeof(sizes[0]))

static bool is_aligned(const void *p, size_t alignment)
{
    return ((uintptr_t)p & (alignment - 1)) == 0;
}

static void malloc_is_aligned_for_any_type(void)
{
    for (size_t size = 16; size < 200000; size += size < 5000 ? 8 : 1001) {
        void *p = check_hide(malloc(size));

        CHECK(p && is_aligned(p, _Alignof(max_align_t)));
        free(p);
    }
}

static void posix_memalign_refuses_wrong_alignments(void)
{
    static const size_t wrong[] = {0, 1, 2, 3, 4, 7, 9, 12, 24, 40, 100, 4095};

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        void *p = (void *)0x1234;

        errno = 4711;
        CHECK(posix_memalign(&p, wrong[i], 100) == EINVAL);
        CHECK(p == (void *)0x1234 && errno == 4711);
        CHECK(posix_memalign(&p, wrong[i], 100000) == EINVAL);
        CHECK(p == (void *)0x1234 && errno == 4711);
    }
}

static void posix_memalign_aligns(void)
{
    for (size_t alignment = sizeof(void *); alignment <= (size_t)4 << 20; alignment <<= 1) {
        for (size_t i = 0; i < SIZE_COUNT; i++) {
            void *p = NULL;

            CHECK(posix_memalign(&p, alignment, sizes[i]) == 0);
            CHECK(p && is_aligned(p, alignment));
            check_fill(p, sizes[i], 1);
            CHECK(check_filled(p, sizes[i], 1));
            free(p);
        }
    }
}

static void posix_memalign_of_too_much_changes_nothing(void)
{
    void *p = (void *)0x1234;

    errno = 0;
    CHECK(posix_memalign(&p, 64, huge) == ENOMEM && p == (void *)0x1234);
    /* Programs print it by %m. */
    CHECK(errno == ENOMEM);
    errno = 0;
    CHECK(posix_memalign(&p, 64, huge - 65536) == ENOMEM && p == (void *)0x1234);
    CHECK(errno == ENOMEM);
}

static void aligned_alloc_takes_any_size(void)
{
    for (size_t alignment = 8; alignment <= 65536; alignment <<= 1) {
        for (size_t i = 0; i < SIZE_COUNT; i++) {
            void *p = check_hide(aligned_alloc(alignment, sizes[i]));

            CHECK(p && is_aligned(p, alignment) && malloc_usable_size(p) >= sizes[i]);
            check_fill(p, malloc_usable_size(p), 2);
            free(p);
        }
    }
    errno = 0;
    CHECK(check_hide(aligned_alloc(64, huge)) == NULL && errno == ENOMEM);
}

static void memalign_rounds_the_alignment_up(void)
{
    static const size_t odd[] = {0, 1, 3, 5, 17, 24, 33, 48, 100, 1000, 5000};

    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        for (size_t j = 0; j < SIZE_COUNT; j++) {
            size_t alignment = 1;
            void *p = check_hide(memalign(odd[i], sizes[j]));

            while (alignment < odd[i])
                alignment <<= 1;
            CHECK(p && is_aligned(p, alignment));
            check_fill(p, sizes[j], 3);
            free(p);
        }
    }
}

static void memalign_refuses_impossible_alignments(void)
{
    errno = 0;
    CHECK(check_hide(memalign(impossible, 10)) == NULL && errno == EINVAL);
    errno = 0;
    CHECK(check_hide(memalign(impossible - 1, 10)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(check_hide(memalign(4096, huge - 100)) == NULL && errno == ENOMEM);
}

static void valloc_is_page_aligned(void)
{
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        void *p = check_hide(valloc(sizes[i]));

        CHECK(p && is_aligned(p, (size_t)getpagesize()));
        check_fill(p, sizes[i], 4);
        free(p);
    }
    errno = 0;
    CHECK(check_hide(valloc(huge)) == NULL && errno == ENOMEM);
}

static void pvalloc_gives_whole_pages(void)
{
    size_t page = (size_t)getpagesize();

    for (size_t i = 0; i < SIZE_COUNT; i++) {
        size_t rounded = (sizes[i] + page - 1) & ~(page - 1);
        void *p = check_hide(pvalloc(sizes[i]));

        CHECK(p && is_aligned(p, page));
        CHECK(malloc_usable_size(p) >= rounded);
        check_fill(p, rounded, 5);
        free(p);
    }
    errno = 0;
    CHECK(check_hide(pvalloc(SIZE_MAX - 10)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(check_hide(pvalloc(huge)) == NULL && errno == ENOMEM);
}

static void realloc_takes_aligned_blocks(void)
{
    for (size_t alignment = 64; alignment <= 65536; alignment <<= 2) {
        for (size_t i = 1; i < SIZE_COUNT; i++) {
            char *p = check_hide(aligned_alloc(alignment, sizes[i]));

            check_fill(p, sizes[i], 6);
            p = check_hide(realloc(p, sizes[i] * 3));
            CHECK(p && check_filled(p, sizes[i], 6));
            p = check_hide(realloc(p, sizes[i]));
            CHECK(p && check_filled(p, sizes[i], 6));
            free(p);
        }
    }
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check align_checks[] = {
    ENTRY(malloc_is_aligned_for_any_type),
    ENTRY(posix_memalign_refuses_wrong_alignments),
    ENTRY(posix_memalign_aligns),
    ENTRY(posix_memalign_of_too_much_changes_nothing),
    ENTRY(aligned_alloc_takes_any_size),
    ENTRY(memalign_rounds_the_alignment_up),
    ENTRY(memalign_refuses_impossible_alignments),
    ENTRY(valloc_is_page_aligned),
    ENTRY(pvalloc_gives_whole_pages),
    ENTRY(realloc_takes_aligned_blocks),
    {NULL, NULL},
};
