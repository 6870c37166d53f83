/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no damage to a model's files crashes the reader, leaks, or goes unexplained.
 * Method: a seeded generator flips, cuts, inserts and swaps bytes of a good safetensors
 * header, tokenizer.json, config.json and index, and loads the result; a refusal must
 * come with a message. What loads is used once; random texts go through a good
 * tokenizer and back. Meant for the sanitizers; the seed is
 * printed, and `fuzz_infer_files DATA SEED ROUNDS` repeats a run.
 */
#include "checkpoint.h"
#include "config.h"
#include "folder.h"
#include "safetensors.h"
#include "tokenizer.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
    unsigned char *at;
    size_t size;
};

static uint64_t random_state;
static struct berth_failure failure;

static size_t random_below(size_t limit)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return limit > 0 ? (size_t)(random_state >> 33) % limit : 0;
}

static struct bytes file_read(const char *dir, const char *name)
{
    struct bytes bytes = {0};
    char path[PATH_MAX];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "r");
    if (!file) {
        perror(path);
        exit(1);
    }
    fseek(file, 0, SEEK_END);
    bytes.size = (size_t)ftell(file);
    rewind(file);
    bytes.at = malloc(bytes.size + 1);
    if (fread(bytes.at, 1, bytes.size, file) != bytes.size)
        exit(1);
    fclose(file);
    return bytes;
}

/* Bytes that mean something to the readers. */
static unsigned char telling_byte(void)
{
    static const char telling[] = "{}[]\",:0123456789-.eE\\u\xc4\xff tfn";

    return random_below(2) ? (unsigned char)telling[random_below(sizeof(telling))]
                           : (unsigned char)random_below(256);
}

/* Damages a copy; only the first `reach` bytes, where the structure is. */
static struct bytes damage(struct bytes original, size_t reach)
{
    struct bytes copy = {malloc(original.size + 64), original.size};

    memcpy(copy.at, original.at, original.size);
    if (reach > copy.size)
        reach = copy.size;
    for (size_t times = 1 + random_below(4); times > 0 && copy.size > 0; times--) {
        size_t at = random_below(reach < copy.size ? reach : copy.size), length;

        switch (random_below(5)) {
        case 0:
            copy.at[at] ^= (unsigned char)(1u << random_below(8));
            break;
        case 1:
            copy.at[at] = telling_byte();
            break;
        case 2:
            copy.size = at;
            break;
        case 3:
            length = 1 + random_below(copy.size - at < 16 ? copy.size - at : 16);
            memmove(copy.at + at, copy.at + at + length, copy.size - at - length);
            copy.size -= length;
            break;
        default:
            if (copy.size + 1 < original.size + 64) {
                memmove(copy.at + at + 1, copy.at + at, copy.size - at);
                copy.at[at] = telling_byte();
                copy.size++;
            }
            break;
        }
    }
    return copy;
}

static int refusal_check(int r, const char *what)
{
    if (r == 0 || failure.text[0] != '\0')
        return 0;
    fprintf(stderr, "%s: refused without a message\n", what);
    return 1;
}

static int checkpoint_try(const char *dir)
{
    struct berth_checkpoint *checkpoint;
    struct berth_tensor tensor;
    int r = berth__checkpoint_open(dir, &failure, &checkpoint);

    if (r < 0)
        return refusal_check(r, "checkpoint");
    if (berth__checkpoint_load_vector(checkpoint, "model.norm.weight", 64, &failure, &tensor) == 0)
        berth__tensor_done(&tensor);
    berth__checkpoint_close(checkpoint);
    return 0;
}

static int tokenizer_try(const char *dir)
{
    static const char text[] = "Hello <|eot_id|> w\xc3\xb6rld 123\xff \n";
    struct berth_id_list list = {0};
    struct berth_tokenizer *tokenizer;
    int r = berth__tokenizer_load(dir, 0, &failure, &tokenizer);

    if (r < 0)
        return refusal_check(r, "tokenizer");
    r = berth__tokenizer_encode(tokenizer, text, sizeof(text) - 1, true, &failure, &list);
    for (size_t i = 0; i < list.count; i++) {
        size_t size;

        berth__tokenizer_bytes(tokenizer, list.ids[i], &size);
    }
    berth__id_list_done(&list);
    berth__tokenizer_free(tokenizer);
    return refusal_check(r, "tokenizer");
}

static int config_try(const char *dir)
{
    struct berth_config config;

    return refusal_check(berth__config_load(dir, &failure, &config), "config");
}

static int file_fuzz(const char *dir, const char *name, size_t reach, size_t rounds,
                     int (*attempt)(const char *dir))
{
    struct bytes original = file_read(dir, name);
    char *scratch = folder_new();
    int failures = 0;

    for (size_t round = 0; round < rounds; round++) {
        struct bytes damaged = damage(original, reach);

        failure.text[0] = '\0';
        folder_write(scratch, name, damaged.at, damaged.size);
        failures += attempt(scratch);
        free(damaged.at);
    }
    folder_free(scratch);
    free(original.at);
    return failures;
}

/* Bytes of random text, half of it characters that the pre-tokenizer tells apart. */
static size_t text_draw(char *text, size_t max)
{
    static const char *const telling[] = {" ",
                                          "\n",
                                          "\r\n",
                                          "a",
                                          "'s",
                                          "Z",
                                          "12",
                                          "!",
                                          "\t",
                                          "\xc3\xa9",
                                          "\xe6\x97\xa5",
                                          "\xe2\x80\x83",
                                          "\xf0\x9f\x98\x80",
                                          "\xc2\xa0"};
    size_t size = 0, pieces = random_below(40);

    for (size_t i = 0; i < pieces && size + 8 < max; i++) {
        if (random_below(4) == 0) {
            text[size++] = (char)random_below(256);
        } else {
            const char *piece = telling[random_below(sizeof(telling) / sizeof(telling[0]))];

            memcpy(text + size, piece, strlen(piece));
            size += strlen(piece);
        }
    }
    return size;
}

/* Every text, also what is no text, comes back from its tokens byte for byte. */
static int texts_fuzz(const char *dir, size_t rounds)
{
    struct berth_tokenizer *tokenizer;
    int failures = 0;

    if (berth__tokenizer_load(dir, 0, &failure, &tokenizer) < 0) {
        fprintf(stderr, "%s\n", failure.text);
        return 1;
    }
    for (size_t round = 0; round < rounds; round++) {
        char text[512];
        size_t size = text_draw(text, sizeof(text)), at = 0;
        struct berth_id_list list = {0};
        int r = berth__tokenizer_encode(tokenizer, text, size, false, &failure, &list);

        for (size_t i = 0; r == 0 && i < list.count; i++) {
            size_t length;
            const unsigned char *bytes = berth__tokenizer_bytes(tokenizer, list.ids[i], &length);

            if (length > size - at || memcmp(bytes, text + at, length) != 0)
                r = 1;
            at += length;
        }
        if (r != 0 || at != size) {
            fprintf(stderr, "round %zu: a text of %zu bytes does not come back\n", round, size);
            failures++;
        }
        berth__id_list_done(&list);
    }
    berth__tokenizer_free(tokenizer);
    return failures;
}

int main(int argc, char **argv)
{
    const char *data = argc > 1 ? argv[1] : "data";
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    size_t rounds = argc > 3 ? (size_t)strtoull(argv[3], NULL, 0) : 200;
    char dir[PATH_MAX];
    int failures = 0;

    printf("seed %llu, %zu rounds\n", (unsigned long long)seed, rounds);
    random_state = seed;
    snprintf(dir, sizeof(dir), "%s/f32_tied_llama3", data);
    failures += file_fuzz(dir, "config.json", SIZE_MAX, 4 * rounds, config_try);
    failures += file_fuzz(dir, "model.safetensors", 2048, 4 * rounds, checkpoint_try);
    snprintf(dir, sizeof(dir), "%s/f16_untied_sharded", data);
    failures +=
        file_fuzz(dir, "model.safetensors.index.json", SIZE_MAX, 2 * rounds, checkpoint_try);
    snprintf(dir, sizeof(dir), "%s/tokenizer_ignore_merges", data);
    /* The start holds the tokens and the steps; the rest is vocabulary. */
    failures += file_fuzz(dir, "tokenizer.json", 4096, rounds / 2, tokenizer_try);
    failures += file_fuzz(dir, "tokenizer.json", SIZE_MAX, rounds / 2, tokenizer_try);
    failures += texts_fuzz(dir, 20 * rounds);
    return failures > 0;
}
