/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: whatever the text of a policy is, it is refused with a reason, or compiled to a table that
 * shown as text compiles to itself.
 * Method: policies given as arguments, with seeded random damage. LLVMFuzzerTestOneInput is
 * libFuzzer's entry; built with -DBERTH_LIBFUZZER, main is left to it.
 */
#include "pmem/table_build.h"
#include "tests/random_numbers.h"
#include "tools/berth/policy_file.h"
#include "tools/berth/policy_show.h"
#include "tools/berth/policy_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define must(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static unsigned accepted;

static char *show(const struct berth_policy_file *file, size_t *ret_size)
{
    struct berth_table_view view;
    char why[512];
    char *text = NULL;
    FILE *to = open_memstream(&text, ret_size);

    must(to && berth__table_open(file->bytes, file->size, &view, why, sizeof(why)) == 0);
    berth__policy_show_text(&view, to);
    fclose(to);
    return text;
}

/* What a policy says, shown as text, says the same again. */
static void check_round_trip(const struct berth_policy_file *file)
{
    struct berth_complaints complaints = {0};
    struct berth_policy_file again;
    size_t size, size_again;
    char *text = show(file, &size);
    char *text_again;

    if (berth__policy_load_bytes(text, size, &complaints, &again) < 0) {
        berth__complaints_print(&complaints, "shown", false, stderr);
        must(!"what was shown compiles");
    }
    text_again = show(&again, &size_again);
    must(size == size_again && memcmp(text, text_again, size) == 0);
    berth__complaints_done(&complaints);
    free(again.bytes);
    free(text_again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct berth_complaints complaints = {0};
    struct berth_policy_file file = {0};
    char *text = malloc(size + 1);
    unsigned lines = 1;

    memcpy(text, data, size);
    text[size] = '\0';
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    if (berth__policy_load_bytes(text, size, &complaints, &file) == 0) {
        accepted++;
        if (!file.was_compiled)
            check_round_trip(&file);
        free(file.bytes);
    } else {
        must(complaints.errors > 0);
    }
    for (size_t i = 0; i < complaints.count; i++) {
        must(complaints.list[i].line <= lines);
        must(strlen(complaints.list[i].text) > 0);
    }
    berth__complaints_done(&complaints);
    free(text);
    return 0;
}

#ifndef BERTH_LIBFUZZER

/* Room for what one round inserts. */
#define INSERT_MAX 64

static size_t insert(char *text, size_t size, size_t at, const char *what, size_t length)
{
    memmove(text + at + length, text + at, size - at);
    memcpy(text + at, what, length);
    return size + length;
}

static size_t damage(char *text, size_t size)
{
    static const char *const pieces[] = {
        "{",      "}",        "=",
        "\"",     "'",        "${",
        "/*",     "*/",       "#",
        "\n",     "\\",       ",",
        "+=",     "tier",     "rule ",
        "-1",     "64K",      "${HOME}",
        "0-9",    "options ", "place = {x",
        "kind\n", "\xff",     "\r",
        "a>**",   "**!*>",    "include(\"x\")",
    };
    const char *piece = pieces[random_next() % (sizeof(pieces) / sizeof(pieces[0]))];
    size_t at = random_next() % (size + 1);
    size_t length = random_next() % 20;
    char copy[INSERT_MAX];

    switch (random_next() % 4) {
    case 0:
        if (at < size)
            text[at] = (char)random_next();
        return size;
    case 1:
        if (length > size - at)
            length = size - at;
        memmove(text + at, text + at + length, size - at - length);
        return size - length;
    case 2:
        if (length > size - at)
            length = size - at;
        memcpy(copy, text + at, length);
        return insert(text, size, random_next() % (size + 1), copy, length);
    default:
        return insert(text, size, at, piece, strlen(piece));
    }
}

static void fuzz_file(const char *path, unsigned rounds)
{
    char *original, *text;
    size_t original_size;

    must(berth__policy_read(path, &original, &original_size) == 0);
    text = malloc(original_size + 8 * INSERT_MAX);
    must(text);
    for (unsigned round = 0; round < rounds; round++) {
        unsigned hits = (unsigned)(random_next() % 4);
        size_t size = original_size;

        memcpy(text, original, size);
        while (hits-- > 0)
            size = damage(text, size);
        LLVMFuzzerTestOneInput((const uint8_t *)text, size);
    }
    free(text);
    free(original);
}

int main(int argc, char **argv)
{
    const uint64_t seed = 20260726;

    setenv("BERTH_TIER_DIR", "/tmp", 1);
    random_start(seed);
    printf("seed %llu\n", (unsigned long long)seed);
    for (int i = 2; i < argc; i++)
        fuzz_file(argv[i], (unsigned)strtoul(argv[1], NULL, 10));
    printf("%u texts were accepted\n", accepted);
    return accepted > 0 ? 0 : 1;
}

#endif
