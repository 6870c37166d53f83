/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, errors, contents: malloc, calloc, realloc, free. */
#include "check.h"

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>

static volatile size_t huge = (size_t)PTRDIFF_MAX;

static const size_t sizes[] = {1,     2,     8,      15,     16,     17,      100,     512,
                               1024,  4000,  4096,   5000,   8192,   14336,   16384,   20000,
                               65535, 65536, 100000, 131072, 500000, 1 << 20, 5000000, 16 << 20};
#define SIZE_COUNT (sizeof(sizes) / sizeof(sizes[0]))

static void malloc_of_0_is_a_block(void)
{
    void *a = check_hide(malloc(0));
    void *b = check_hide(malloc(0));

    CHECK(a && b && a != b);
    free(a);
    free(b);
}

static void malloc_of_too_much_is_ENOMEM(void)
{
    errno = 0;
    CHECK(check_hide(malloc(huge)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(check_hide(malloc(huge + 1)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(check_hide(malloc(huge * 2 + 1)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(check_hide(malloc(huge - 4096)) == NULL && errno == ENOMEM);
}

static void calloc_overflow_is_ENOMEM(void)
{
    errno = 0;
    CHECK(check_hide(calloc(huge, 4)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(check_hide(calloc(huge / 4 + 1, 8)) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(check_hide(calloc(1, huge)) == NULL && errno == ENOMEM);
}

static void calloc_of_0_is_a_block(void)
{
    void *a = check_hide(calloc(0, 16));
    void *b = check_hide(calloc(16, 0));

    CHECK(a && b && a != b);
    free(a);
    free(b);
}

static bool is_zero(const char *p, size_t size)
{
    return size == 0 || (p[0] == 0 && memcmp(p, p + 1, size - 1) == 0);
}

static void calloc_is_zero_after_reuse(void)
{
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < SIZE_COUNT; i++) {
            char *p = check_hide(malloc(sizes[i]));

            CHECK(p);
            memset(p, 0xa5, sizes[i]);
            free(p);
            p = check_hide(calloc(1, sizes[i]));
            CHECK(p && is_zero(p, sizes[i]));
            memset(p, 0x5a, sizes[i]);
            free(p);
        }
    }
}

static void calloc_is_zero_after_trim(void)
{
    size_t size = 3 << 20;

    for (int round = 0; round < 4; round++) {
        char *p = check_hide(malloc(size));
        char *q;

        CHECK(p);
        memset(p, 0xff, size);
        free(p);
        malloc_trim(0);
        q = check_hide(calloc(size / 2, 1));
        CHECK(q && is_zero(q, size / 2));
        free(q);
    }
}

static void realloc_of_NULL_allocates(void)
{
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        void *p = check_hide(realloc(NULL, sizes[i]));

        CHECK(p);
        check_fill(p, sizes[i], 1);
        free(p);
    }
}

static void realloc_to_0_frees(void)
{
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        void *p = check_hide(malloc(sizes[i]));

        CHECK(p && check_hide(realloc(p, 0)) == NULL);
    }
}

static void realloc_of_NULL_to_0_is_a_block(void)
{
    void *p = check_hide(realloc(NULL, 0));

    CHECK(p);
    free(p);
}

static void realloc_to_too_much_keeps_the_block(void)
{
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        void *p = check_hide(malloc(sizes[i]));

        CHECK(p);
        check_fill(p, sizes[i], 2);
        errno = 0;
        CHECK(check_hide(realloc(p, huge)) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(check_hide(realloc(p, huge - 8192)) == NULL && errno == ENOMEM);
        CHECK(check_filled(p, sizes[i], 2));
        free(p);
    }
}

static void realloc_keeps_contents(void)
{
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        for (size_t j = 0; j < SIZE_COUNT; j++) {
            size_t both = sizes[i] < sizes[j] ? sizes[i] : sizes[j];
            char *p = check_hide(malloc(sizes[i]));

            CHECK(p);
            check_fill(p, sizes[i], 3);
            p = check_hide(realloc(p, sizes[j]));
            CHECK(p && check_filled(p, both, 3));
            check_fill(p, sizes[j], 4);
            CHECK(check_filled(p, sizes[j], 4));
            free(p);
        }
    }
}

static void realloc_grows_byte_by_byte(void)
{
    char *p = NULL;

    for (size_t size = 1; size < 200000; size += size < 3000 ? 1 : 997) {
        p = check_hide(realloc(p, size));
        CHECK(p);
        p[size - 1] = (char)size;
    }
    for (size_t size = 1; size < 3000; size++)
        CHECK(p[size - 1] == (char)size);
    free(p);
}

static void realloc_crosses_the_threshold_both_ways(void)
{
    char *p = check_hide(malloc(60000));

    CHECK(p);
    check_fill(p, 60000, 5);
    for (int i = 0; i < 20; i++) {
        p = check_hide(realloc(p, 70000));
        CHECK(p && check_filled(p, 60000, 5));
        p = check_hide(realloc(p, 60000));
        CHECK(p && check_filled(p, 60000, 5));
    }
    free(p);
}

static void reallocarray_checks_the_product(void)
{
    char *p = check_hide(malloc(100));

    check_fill(p, 100, 6);
    errno = 0;
    CHECK(reallocarray(check_hide(p), huge, 4) == NULL && errno == ENOMEM);
    CHECK(check_filled(check_hide(p), 100, 6));
    p = check_hide(reallocarray(check_hide(p), 1000, 100));
    CHECK(p && check_filled(p, 100, 6));
    free(p);
}

static void free_keeps_errno(void)
{
    static void *p[200];

    free(NULL);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        for (int k = 0; k < check_rounds(20); k++)
            p[k] = check_hide(malloc(sizes[i]));
        for (int k = 0; k < check_rounds(20); k++) {
            errno = 4711;
            free(p[k]);
            CHECK(errno == 4711);
        }
    }
}

static void success_keeps_errno(void)
{
    errno = 4711;
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        void *p = check_hide(malloc(sizes[i]));

        p = check_hide(realloc(p, sizes[i] * 2));
        CHECK(p && errno == 4711);
        free(p);
    }
}

static void usable_size_is_usable(void)
{
    CHECK(malloc_usable_size(NULL) == 0);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        char *p = check_hide(malloc(sizes[i]));
        size_t usable = malloc_usable_size(p);

        CHECK(p && usable >= sizes[i]);
        check_fill(p, usable, 7);
        p = check_hide(realloc(p, usable + 1));
        CHECK(p && check_filled(p, sizes[i], 7));
        free(p);
    }
}

static void the_c_library_allocates_too(void)
{
    char *text = strdup("some text");
    char *line = NULL;
    size_t room = 0;
    char *printed;
    char *path;
    FILE *file = tmpfile();

    CHECK(text && asprintf(&printed, "%s %070000d", text, 1) > 70000);
    CHECK(file && fputs(printed, file) >= 0 && fputc('\n', file) == '\n');
    rewind(file);
    CHECK(getline(&line, &room, file) == (ssize_t)strlen(printed) + 1);
    CHECK(strncmp(line, printed, strlen(printed)) == 0);
    path = realpath("/", NULL);
    CHECK(path && strcmp(path, "/") == 0);
    free(path);
    free(line);
    free(printed);
    free(text);
    fclose(file);
}

/* A pseudo-random churn of blocks of all sizes, each filled and checked. */
static void blocks_do_not_overlap(void)
{
    enum { SLOTS = 500, STEPS = 20000 };
    static void *block[SLOTS];
    static size_t size[SLOTS];
    unsigned state = 12345;

    for (int step = 0; step < STEPS; step++) {
        unsigned slot;

        state = state * 1103515245 + 12345;
        slot = (state >> 8) % SLOTS;
        if (block[slot]) {
            CHECK(check_filled(block[slot], size[slot], slot));
            free(block[slot]);
        }
        state = state * 1103515245 + 12345;
        size[slot] = (state >> 6) % (step % 50 == 0 ? 300000 : 3000);
        block[slot] = check_hide(malloc(size[slot]));
        CHECK(block[slot]);
        check_fill(block[slot], size[slot], slot);
    }
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        CHECK(!block[slot] || check_filled(block[slot], size[slot], slot));
        free(block[slot]);
    }
}

static void a_large_block_holds_what_is_written(void)
{
    size_t size = (size_t)check_rounds(200) << 20;
    char *p = check_hide(malloc(size));

    CHECK(p);
    for (size_t i = 0; i < size; i += 4096)
        p[i] = (char)(i >> 12);
    for (size_t i = 0; i < size; i += 4096)
        CHECK(p[i] == (char)(i >> 12));
    free(p);
}

/*
 * With little address space left, what fits must still be had, and what does not be refused. Never
 * more than half of the machine's memory: the kernel may put huge pages behind what is touched.
 */
static void little_address_space_is_enough(void)
{
    rlim_t half = (rlim_t)sysconf(_SC_PHYS_PAGES) * (rlim_t)sysconf(_SC_PAGESIZE) / 2;
    rlim_t size = half < (rlim_t)2 << 30 ? half : (rlim_t)2 << 30;
    struct rlimit limit = {size, size};
    pid_t pid = fork();

    if (pid == 0) {
        setrlimit(RLIMIT_AS, &limit);
        execl(check_file("limited"), "limited", (char *)NULL);
        _exit(127);
    }
    check_child(pid);
}

static void heap_questions_have_answers(void)
{
    FILE *file = tmpfile();
    void *p = check_hide(malloc(1 << 20));
    struct mallinfo2 info;
    char start[16] = "";

    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    info = mallinfo2();
    CHECK(info.uordblks + info.hblkhd >= (size_t)1 << 20);
    CHECK(info.arena + info.hblkhd >= (size_t)1 << 20);
    CHECK(malloc_info(0, file) == 0);
    rewind(file);
    CHECK(fgets(start, sizeof(start), file) && strncmp(start, "<malloc", 7) == 0);
    CHECK(malloc_info(1, file) == EINVAL || errno == EINVAL);
    fclose(file);
    free(p);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check basic_checks[] = {
    ENTRY(malloc_of_0_is_a_block),
    ENTRY(malloc_of_too_much_is_ENOMEM),
    ENTRY(calloc_overflow_is_ENOMEM),
    ENTRY(calloc_of_0_is_a_block),
    ENTRY(calloc_is_zero_after_reuse),
    ENTRY(calloc_is_zero_after_trim),
    ENTRY(realloc_of_NULL_allocates),
    ENTRY(realloc_to_0_frees),
    ENTRY(realloc_of_NULL_to_0_is_a_block),
    ENTRY(realloc_to_too_much_keeps_the_block),
    ENTRY(realloc_keeps_contents),
    ENTRY(realloc_grows_byte_by_byte),
    ENTRY(realloc_crosses_the_threshold_both_ways),
    ENTRY(reallocarray_checks_the_product),
    ENTRY(free_keeps_errno),
    ENTRY(success_keeps_errno),
    ENTRY(usable_size_is_usable),
    ENTRY(the_c_library_allocates_too),
    ENTRY(blocks_do_not_overlap),
    ENTRY(a_large_block_holds_what_is_written),
    ENTRY(little_address_space_is_enough),
    ENTRY(heap_questions_have_answers),
    {NULL, NULL},
};
