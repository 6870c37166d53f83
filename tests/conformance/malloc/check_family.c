/* SPDX-License-Identifier: Apache-2.0 */
/* The whole family: its lesser members, what all of them promise, and who calls them. */
#include "check.h"
#include "tests/first_version.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <locale.h>
#include <malloc.h>
#include <netdb.h>
#include <pthread.h>
#include <regex.h>
#include <stdint.h>
#include <string.h>
#include <wchar.h>

#define MIB ((size_t)1 << 20)

static volatile size_t huge = (size_t)PTRDIFF_MAX;
static volatile size_t none;

/* The C library's names for its own functions; not in its headers. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void __libc_free(void *p);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void *__libc_valloc(size_t size);
extern void *__libc_pvalloc(size_t size);

static bool is_aligned(const void *p)
{
    return p && ((uintptr_t)p & (_Alignof(max_align_t) - 1)) == 0;
}

/* Also those that are too small to hold the type. */
static void the_smallest_blocks_are_aligned_for_any_type(void)
{
    for (size_t size = 0; size < 40; size++) {
        for (int i = 0; i < 20; i++) {
            void *p = NULL;

            CHECK(is_aligned(check_hide(malloc(size))));
            CHECK(is_aligned(check_hide(calloc(1, size))));
            CHECK(is_aligned(check_hide(realloc(NULL, size))));
            CHECK(is_aligned(check_hide(realloc(check_hide(malloc(100)), size + 1))));
            CHECK(is_aligned(check_hide(realloc(check_hide(malloc(5)), size + 1))));
            CHECK(is_aligned(check_hide(realloc(check_hide(malloc(100000)), size + 1))));
            CHECK(is_aligned(check_hide(reallocarray(NULL, size, 1))));
            CHECK(is_aligned(check_hide(aligned_alloc(1, size))));
            CHECK(is_aligned(check_hide(memalign(8, size))));
            CHECK(posix_memalign(&p, 8, size) == 0 && is_aligned(p));
        }
    }
}

/* A tiny block is zero, keeps its contents, and can be resized and freed by all that do so. */
static void the_smallest_blocks_are_blocks(void)
{
    for (size_t size = 1; size < 20; size++) {
        char *p = check_hide(calloc(1, size));

        for (size_t i = 0; i < size; i++)
            CHECK(p[i] == 0);
        CHECK(malloc_usable_size(p) >= size);
        check_fill(p, malloc_usable_size(p), 1);
        p = check_hide(realloc(p, 70000));
        CHECK(check_filled(p, size, 1));
        p = check_hide(realloc(p, size));
        CHECK(check_filled(p, size, 1));
        p = check_hide(realloc(p, size == 1 ? 2 : size - 1));
        CHECK(check_filled(p, size - 1, 1));
        free(p);
    }
}

static void zero_sizes_are_as_documented(void)
{
    void *p;

    errno = 4711;
    CHECK(check_hide(realloc(check_hide(malloc(100)), none)) == NULL && errno == 4711);
    CHECK(check_hide(reallocarray(check_hide(malloc(100)), none, 16)) == NULL && errno == 4711);
    CHECK(check_hide(reallocarray(check_hide(malloc(100)), huge * 2, none)) == NULL);
    CHECK(errno == 4711);
    p = check_hide(reallocarray(NULL, none, huge));
    CHECK(p && errno == 4711);
    free(p);
    p = check_hide(calloc(none, huge * 2 + 1));
    CHECK(p && errno == 4711);
    free(p);
}

static void the_c_librarys_own_names_are_the_same_heap(void)
{
    static const size_t sizes[] = {1, 100, 5000, 70000, MIB};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char *p = check_hide(__libc_malloc(sizes[i]));

        check_fill(p, sizes[i], 1);
        p = check_hide(realloc(p, sizes[i] + 100));
        CHECK(check_filled(p, sizes[i], 1) && malloc_usable_size(p) >= sizes[i] + 100);
        __libc_free(p);
        p = check_hide(malloc(sizes[i]));
        check_fill(p, sizes[i], 2);
        p = check_hide(__libc_realloc(p, 2 * sizes[i]));
        CHECK(check_filled(p, sizes[i], 2));
        free(p);
        p = check_hide(__libc_calloc(1, sizes[i]));
        CHECK(p[0] == 0 && p[sizes[i] - 1] == 0);
        free(p);
        p = check_hide(__libc_memalign(256, sizes[i]));
        CHECK(((uintptr_t)p & 255) == 0);
        free(p);
        free(check_hide(__libc_valloc(sizes[i])));
        free(check_hide(__libc_pvalloc(sizes[i])));
        __libc_free(check_hide(aligned_alloc(64, sizes[i])));
    }
}

/* C23's, where the C library or the allocator has them; and one from before C89. */
static void free_by_other_names_frees(void)
{
    void (*sized)(void *, size_t);
    void (*aligned)(void *, size_t, size_t);
    void (*old)(void *);

    *(void **)&sized = dlsym(RTLD_DEFAULT, "free_sized");
    *(void **)&aligned = dlsym(RTLD_DEFAULT, "free_aligned_sized");
    *(void **)&old = dlsym(RTLD_DEFAULT, "cfree");
    for (size_t size = 1; size < 3 * MIB; size *= 7) {
        errno = 4711;
        if (sized)
            sized(check_hide(malloc(size)), size);
        if (aligned)
            aligned(check_hide(aligned_alloc(64, size)), 64, size);
        if (old)
            old(check_hide(malloc(size)));
        CHECK(errno == 4711);
    }
    if (sized)
        sized(NULL, 5);
    if (aligned)
        aligned(NULL, 64, 5);
}

static size_t resident(void)
{
    unsigned long total = 0, pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    CHECK(file && fscanf(file, "%lu %lu", &total, &pages) == 2);
    fclose(file);
    return pages * (size_t)getpagesize();
}

static void *many[20000];

static void fill_many(size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        many[i] = check_hide(malloc(size));
        CHECK(many[i]);
        memset(many[i], 1, size);
    }
}

static void free_many(size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(many[i]);
}

/* Memory of a device (device-dax, files mapped with MAP_SYNC) is not counted as resident. */
static bool is_on_device(void)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[512];
    bool found = false;

    while (file && !found && fgets(line, sizeof(line), file))
        found = strstr(line, " /dev/dax") != NULL ||
                (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " sf") != NULL);
    if (file)
        fclose(file);
    return found;
}

/* No symbol has an empty version. glibc looks at those of libraries that have some; a sanitizer's
 * library, which is such, ends the program there. */
static void an_empty_version_is_nobodys(void)
{
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    void *handle[] = {dlopen("libc.so.6", RTLD_LAZY), dlopen(NULL, RTLD_LAZY), RTLD_DEFAULT,
                      RTLD_NEXT};

    CHECK(handle[0] && handle[1]);
    for (int i = 0; i < 4; i++) {
        CHECK(!dlvsym(handle[i], "malloc", "") && dlerror());
        CHECK(!dlvsym(handle[i], "no_such_function", "") && dlerror());
        CHECK(dlsym(handle[i], "malloc") && !dlerror());
    }
    CHECK(dlvsym(handle[0], "malloc", FIRST_VERSION));
#endif
}

/*
 * As foreign function interfaces call the C library, by its handle: Python's ctypes and cffi, the
 * Fiddle of Ruby, P/Invoke of .NET.
 */
static void the_c_librarys_handle_has_the_same_heap(void)
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY);
    void *(*get)(size_t), *(*resize)(void *, size_t), *(*zeroed)(size_t, size_t);
    char *(*duplicate)(const char *);
    size_t (*usable)(void *);
    void (*give)(void *);
    char *p;

    CHECK(libc);
    *(void **)&get = dlsym(libc, "malloc");
    *(void **)&give = dlsym(libc, "free");
    *(void **)&resize = dlvsym(libc, "realloc", FIRST_VERSION);
    *(void **)&zeroed = dlsym(libc, "calloc");
    *(void **)&usable = dlsym(libc, "malloc_usable_size");
    *(void **)&duplicate = dlsym(libc, "strdup");
    CHECK(get && give && zeroed && usable && duplicate);
    if (!resize) /* another architecture's first version */
        *(void **)&resize = dlsym(libc, "realloc");
    for (size_t size = 1; size < 4 * MIB; size = size * 5 + 3) {
        p = check_hide(malloc(size));
        check_fill(p, size, 1);
        CHECK(usable(p) >= size);
        p = check_hide(resize(p, 2 * size));
        CHECK(p && check_filled(p, size, 1));
        give(p);
        p = check_hide(get(size));
        CHECK(p && malloc_usable_size(p) >= size);
        p = check_hide(realloc(p, 3 * size));
        CHECK(p);
        free(p);
        free(check_hide(zeroed(3, size)));
    }
    give(duplicate("a block that the C library asked for"));
    CHECK(dlsym(libc, "no_such_function") == NULL && dlerror());
    CHECK(dlclose(libc) == 0);
}

static void malloc_trim_gives_memory_back(void)
{
    static const size_t sizes[] = {2000, 5000, 100000, 4 * MIB};

    fill_many(100, sizes[0]);
    free_many(100);
    if (is_on_device()) {
        CHECK(malloc_trim(0) >= 0);
        return;
    }
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t share = (size_t)check_rounds(64) * MIB;
        size_t count = share / sizes[i] > 20000 ? 20000 : share / sizes[i];
        size_t held = count * sizes[i];
        size_t before, full, after;
        int answer;

        malloc_trim(0);
        before = resident();
        fill_many(count, sizes[i]);
        full = resident();
        CHECK(full >= before + held * 3 / 4);
        free_many(count);
        answer = malloc_trim(0);
        after = resident();
        CHECK(after < before + held / 4);
        CHECK(answer == 0 || answer == 1);
    }
}

/* Deprecated, and used. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static void mallinfo2_adds_up(void)
{
    struct mallinfo2 before, full, after;
    struct mallinfo narrow;

    fill_many(10, 10000);
    free_many(10);
    before = mallinfo2();
    fill_many(1000, 10000);
    full = mallinfo2();
    /* What a thread keeps at hand for each tier counts as in use. */
    CHECK(full.uordblks + full.hblkhd >= before.uordblks + before.hblkhd + 8000000);
    CHECK(full.uordblks + full.fordblks == full.arena);
    CHECK(full.keepcost <= full.fordblks);
    free_many(1000);
    after = mallinfo2();
    CHECK(after.uordblks + after.hblkhd <= full.uordblks + full.hblkhd - 8000000);
    CHECK(after.uordblks + after.fordblks == after.arena);
    narrow = mallinfo();
    CHECK(after.arena > INT_MAX || narrow.uordblks + narrow.fordblks == narrow.arena);
}

/* Wherever they are: from 32 MiB on the C library always gives a block a mapping of its own. */
static void mallinfo2_counts_large_blocks_apart(void)
{
    struct mallinfo2 before = mallinfo2(), full, after;
    char *p = check_hide(malloc(64 * MIB));

    CHECK(p);
    full = mallinfo2();
    CHECK(full.hblks == before.hblks + 1);
    CHECK(full.hblkhd >= before.hblkhd + 64 * MIB && full.hblkhd <= before.hblkhd + 80 * MIB);
    CHECK(full.uordblks <= before.uordblks + MIB);
    free(p);
    after = mallinfo2();
    CHECK(after.hblks == before.hblks && after.hblkhd == before.hblkhd);
}

/* The text that `print` writes to descriptor 2. */
static void read_stderr(void (*print)(void), char *text, size_t size)
{
    int fd[2], saved = dup(2);
    ssize_t n;

    CHECK(saved >= 0 && pipe(fd) == 0 && dup2(fd[1], 2) == 2);
    print();
    dup2(saved, 2);
    close(fd[1]);
    n = read(fd[0], text, size - 1);
    CHECK(n > 0);
    text[n] = '\0';
    close(fd[0]);
    close(saved);
}

static void malloc_stats_tells_what_is_in_use(void)
{
    char text[4096];
    const char *at;
    unsigned long use = 0;
    void *p = check_hide(malloc(3 * MIB));

    read_stderr(malloc_stats, text, sizeof(text));
    at = strstr(text, "Total (incl. mmap):");
    CHECK(at && strstr(at, "system bytes"));
    at = strstr(at, "in use bytes     =");
    CHECK(at && sscanf(at, "in use bytes     = %lu", &use) == 1 && use >= 3 * MIB);
    free(p);
}

static void *be_told_while_cancelled(void *argument)
{
    (void)argument;
    pthread_cancel(pthread_self());
    malloc_stats();
    pthread_testcancel();
    return NULL;
}

static void tell_from_a_thread(void)
{
    static char kept[4096];
    void *answer = NULL;
    pthread_t thread;

    /* What the program does with its stream counts for these lines, too. */
    setvbuf(stderr, kept, _IOFBF, sizeof(kept));
    fputs("before\n", stderr);
    CHECK(pthread_create(&thread, NULL, be_told_while_cancelled, NULL) == 0);
    CHECK(pthread_join(thread, &answer) == 0 && answer == PTHREAD_CANCELED);
    fputs("after\n", stderr);
    CHECK(fflush(stderr) == 0);
    setvbuf(stderr, NULL, _IONBF, 0);
}

static void malloc_stats_is_told_whole_and_in_turn(void)
{
    char text[4096];

    read_stderr(tell_from_a_thread, text, sizeof(text));
    CHECK(strncmp(text, "before\nArena 0:\n", 16) == 0);
    CHECK(strstr(text, "max mmap bytes   = ") && strcmp(strchr(text, 0) - 7, "\nafter\n") == 0);
}

static void malloc_info_is_a_document(void)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    CHECK(file && malloc_info(0, file) == 0 && fclose(file) == 0);
    CHECK(strncmp(text, "<malloc version=\"1\">", 20) == 0);
    CHECK(strstr(text, "<heap nr=\"0\">") && strstr(text, "<system type=\"current\" size=\""));
    CHECK(strcmp(text + size - 10, "</malloc>\n") == 0);
    free(text);
    errno = 0;
    CHECK(malloc_info(1, stderr) == EINVAL && malloc_info(-1, stderr) == EINVAL && errno == 0);
}

/* Who is told that blocks are filled looks at what is in them; of those in caches none is, ever. */
static void blocks_are_filled_or_the_answer_is_no(void)
{
    unsigned char *p;

    CHECK(mallopt(M_PERTURB, 0) == 1);
    if (mallopt(M_PERTURB, 0x55) == 0)
        return;
    p = check_hide(malloc(30000));
    CHECK(p && p[0] == 0xaa && p[29999] == 0xaa);
    free(p);
    CHECK(mallopt(M_PERTURB, 0) == 1);
}

static void mallopt_answers_as_ever(void)
{
    CHECK(mallopt(M_MXFAST, 160) == 1 && mallopt(M_MXFAST, 0) == 1);
    CHECK(mallopt(M_MXFAST, 161) == 0 && mallopt(M_MXFAST, -1) == 0);
    CHECK(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1 && mallopt(M_ARENA_MAX, 2) == 1);
    CHECK(mallopt(M_MMAP_MAX, 100) == 1 && mallopt(M_TOP_PAD, 4096) == 1);
}

static void strings_and_lines(void)
{
    char *line = NULL;
    size_t room = 0;
    char *text = NULL;
    size_t size = 0;
    wchar_t *wide = wcsdup(L"wide");
    char *part = strndup("partial", 4);
    FILE *stream = open_memstream(&text, &size);

    CHECK(stream && wide && part && strcmp(part, "part") == 0);
    for (int i = 0; i < 30000; i++)
        fprintf(stream, "%d;", i);
    CHECK(fclose(stream) == 0 && size > 100000);
    stream = fmemopen(text, size, "r");
    for (int i = 0; i < 30000; i++)
        CHECK(getdelim(&line, &room, ';', stream) > 0 && atoi(line) == i);
    fclose(stream);
    free(line);
    free(text);
    free(wide);
    free(part);
}

/* Blocks that the C library makes and the program frees, or the other way round. */
static void the_c_librarys_users(void)
{
    struct dirent **entries;
    char *path = getcwd(NULL, 0);
    int count = scandir("/proc/self", &entries, NULL, alphasort);
    locale_t locale = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);
    glob_t names;
    regex_t expression;
    regmatch_t match[2];
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *address;

    CHECK(path && path[0] == '/' && count > 10);
    free(path);
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    if (locale)
        freelocale(locale);
    CHECK(glob("/proc/self/*", 0, NULL, &names) == 0 && names.gl_pathc > 10);
    globfree(&names);
    CHECK(regcomp(&expression, "(b+)c", REG_EXTENDED) == 0);
    CHECK(regexec(&expression, "aabbbc", 2, match, 0) == 0 && match[1].rm_eo == 5);
    regfree(&expression);
    CHECK(getaddrinfo("127.0.0.1", "80", &hints, &address) == 0);
    freeaddrinfo(address);
    CHECK(setenv("CHECK_NAME", "value", 1) == 0 && strcmp(getenv("CHECK_NAME"), "value") == 0);
    CHECK(unsetenv("CHECK_NAME") == 0);
}

#define ENTRY(name)                                                                                \
    {                                                                                              \
#name, name                                                                                \
    }

const struct check family_checks[] = {
    ENTRY(the_smallest_blocks_are_aligned_for_any_type),
    ENTRY(the_smallest_blocks_are_blocks),
    ENTRY(zero_sizes_are_as_documented),
    ENTRY(the_c_librarys_own_names_are_the_same_heap),
    ENTRY(free_by_other_names_frees),
    ENTRY(the_c_librarys_handle_has_the_same_heap),
    ENTRY(an_empty_version_is_nobodys),
    ENTRY(malloc_trim_gives_memory_back),
    ENTRY(mallinfo2_adds_up),
    ENTRY(mallinfo2_counts_large_blocks_apart),
    ENTRY(malloc_stats_tells_what_is_in_use),
    ENTRY(malloc_stats_is_told_whole_and_in_turn),
    ENTRY(malloc_info_is_a_document),
    ENTRY(mallopt_answers_as_ever),
    ENTRY(blocks_are_filled_or_the_answer_is_no),
    ENTRY(strings_and_lines),
    ENTRY(the_c_librarys_users),
    {NULL, NULL},
};
