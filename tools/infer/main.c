/* SPDX-License-Identifier: Apache-2.0 */
/*
 * berth-infer: a Llama decoder on the CPU that tells Berth what its memory is for.
 * Exit: 0; 1 when an input is wrong or a prompt could not be answered; 2 for a command
 * line that makes no sense.
 */
#include "generator.h"
#include "id_list.h"
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void failure_print(const struct berth_failure *failure)
{
    fprintf(stderr, "berth-infer: %s\n", failure->text);
}

/* A prompt that cannot be answered is reported, and the next one has its turn; but nothing more
 * is tried when nobody takes the output. */
static int failure_note(int r, const struct berth_failure *failure, int *exit_code)
{
    if (r == 0)
        return 0;
    failure_print(failure);
    *exit_code = 1;
    return r == -EIO ? r : 0;
}

static int ids_parse(const char *text, struct berth_failure *failure, struct berth_id_list *list)
{
    const char *at = text;

    do {
        unsigned long long id;
        char *end;

        errno = 0;
        id = strtoull(at, &end, 10);
        if (*at < '0' || *at > '9' || errno != 0 || id > UINT32_MAX || (*end != ',' && *end))
            return berth__failure_set(
                failure, EINVAL, "--prompt-ids: is \"%s\"; expected ids with commas between", text);
        if (berth__id_list_append(list, (uint32_t)id) < 0)
            return berth__failure_no_memory(failure, "--prompt-ids", strlen(text));
        at = *end == ',' ? end + 1 : NULL;
    } while (at);
    return 0;
}

static int ids_answer(struct berth_generator *generator, const char *text, int *exit_code)
{
    struct berth_failure failure;
    struct berth_id_list list = {0};
    int r;

    r = ids_parse(text, &failure, &list);
    if (r == 0)
        r = berth__generator_answer_ids(generator, list.ids, list.count, &failure);
    berth__id_list_done(&list);
    return failure_note(r, &failure, exit_code);
}

static int text_answer(struct berth_generator *generator, const char *text, size_t size,
                       int *exit_code)
{
    struct berth_failure failure;
    int r = berth__generator_answer_text(generator, text, size, &failure);

    return failure_note(r, &failure, exit_code);
}

/* Every line that is not empty is a prompt of its own. */
static void lines_answer(struct berth_generator *generator, int *exit_code)
{
    int terminal = isatty(STDIN_FILENO), r = 0;
    size_t room = 0;
    char *line = NULL;
    ssize_t size;

    while (r == 0) {
        if (terminal)
            fputs("> ", stderr);
        size = getline(&line, &room, stdin);
        if (size < 0)
            break;
        while (size > 0 && (line[size - 1] == '\n' || line[size - 1] == '\r'))
            size--;
        if (size > 0)
            r = text_answer(generator, line, (size_t)size, exit_code);
    }
    if (ferror(stdin)) {
        fprintf(stderr, "berth-infer: stdin: %s\n", strerror(errno));
        *exit_code = 1;
    }
    free(line);
}

static int prompts_answer(struct berth_generator *generator,
                          const struct berth_infer_options *options)
{
    int exit_code = 0, r = 0;

    if (options->prompt_ids)
        r = ids_answer(generator, options->prompt_ids, &exit_code);
    for (size_t i = 0; r == 0 && i < options->prompt_count; i++)
        r = text_answer(generator, options->prompts[i], strlen(options->prompts[i]), &exit_code);
    if (r == 0 && (options->interactive || (!options->prompt_ids && options->prompt_count == 0)))
        lines_answer(generator, &exit_code);
    if (options->stats)
        berth__generator_print_stats(generator);
    return exit_code;
}

static int run(const struct berth_infer_options *options)
{
    struct berth_generator *generator;
    struct berth_failure failure;
    int exit_code;

    if (berth__generator_new(options, &failure, &generator) < 0) {
        failure_print(&failure);
        return 1;
    }
    exit_code = prompts_answer(generator, options);
    berth__generator_free(generator);
    return exit_code;
}

int main(int argc, char **argv)
{
    struct berth_infer_options options;
    struct berth_failure failure;
    int exit_code = 0;

    if (berth__infer_options_parse(argc, argv, &failure, &options) < 0) {
        failure_print(&failure);
        return 2;
    }
    if (options.help)
        berth__infer_options_help();
    else if (options.version)
        puts("berth-infer " BERTH_VERSION);
    else
        exit_code = run(&options);
    berth__infer_options_done(&options);
    return exit_code;
}
