/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include "thread_pool.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum option_code {
    OPTION_MODEL = 0x100,
    OPTION_PROMPT,
    OPTION_PROMPT_IDS,
    OPTION_INTERACTIVE,
    OPTION_MAX_TOKENS,
    OPTION_TEMPERATURE,
    OPTION_TOP_K,
    OPTION_TOP_P,
    OPTION_SEED,
    OPTION_THREADS,
    OPTION_ECHO,
    OPTION_IDS,
    OPTION_IGNORE_EOS,
    OPTION_KEEP_SESSIONS,
    OPTION_PERSIST,
    OPTION_END_MARK,
    OPTION_LOGITS,
    OPTION_STATS,
    OPTION_HELP,
    OPTION_VERSION,
};

static const struct option long_options[] = {
    {"model", required_argument, NULL, OPTION_MODEL},
    {"prompt", required_argument, NULL, OPTION_PROMPT},
    {"prompt-ids", required_argument, NULL, OPTION_PROMPT_IDS},
    {"interactive", no_argument, NULL, OPTION_INTERACTIVE},
    {"max-tokens", required_argument, NULL, OPTION_MAX_TOKENS},
    {"temperature", required_argument, NULL, OPTION_TEMPERATURE},
    {"top-k", required_argument, NULL, OPTION_TOP_K},
    {"top-p", required_argument, NULL, OPTION_TOP_P},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"threads", required_argument, NULL, OPTION_THREADS},
    {"echo", no_argument, NULL, OPTION_ECHO},
    {"ids", no_argument, NULL, OPTION_IDS},
    {"ignore-eos", no_argument, NULL, OPTION_IGNORE_EOS},
    {"persist", no_argument, NULL, OPTION_PERSIST},
    {"keep-sessions", no_argument, NULL, OPTION_KEEP_SESSIONS},
    {"end-mark", required_argument, NULL, OPTION_END_MARK},
    {"logits", required_argument, NULL, OPTION_LOGITS},
    {"stats", no_argument, NULL, OPTION_STATS},
    {"help", no_argument, NULL, OPTION_HELP},
    {"version", no_argument, NULL, OPTION_VERSION},
    {NULL, 0, NULL, 0},
};

void berth__infer_options_help(void)
{
    puts("usage: berth-infer --model DIR [OPTION]...\n"
         "Continues text with a Llama model. Prompts come from --prompt, or are lines on stdin.\n"
         "\n"
         "  --model DIR        folder with config.json, model.safetensors and tokenizer.json\n"
         "  --prompt TEXT      a prompt; may be given several times\n"
         "  --prompt-ids LIST  one prompt as token ids, with commas between; no tokenizer needed\n"
         "  --interactive      after the prompts, answer lines on stdin\n"
         "  --max-tokens N     tokens per answer (default 128)\n"
         "  --temperature T    0 takes the likeliest token (default 0)\n"
         "  --top-k K          draw from the K likeliest tokens; 0 for all (default 0)\n"
         "  --top-p P          draw from the likeliest tokens that make up P (default 1)\n"
         "  --seed N           where the draws start, anew for each prompt (default 0)\n"
         "  --threads N        threads (default: the CPUs that the process may use)\n"
         "  --echo             write the prompt before its answer\n"
         "  --ids              write token ids instead of text\n"
         "  --ignore-eos       do not stop at the model's end tokens\n"
         "  --keep-sessions    keep each prompt's keys, values and activations until the end\n"
         "  --persist          keep the weights in Berth's persistent memory for the next start\n"
         "  --end-mark TEXT    write this line after each answer\n"
         "  --logits FILE      write each prompt's ids and last logits to FILE, as lines of JSON\n"
         "  --stats            write speeds and sizes to stderr\n"
         "  --help, --version\n"
         "\n"
         "BERTH_INFER_ISA=scalar|avx2|avx512 overrides the choice of instruction set.");
}

static int refuse(struct berth_failure *failure, const char *option, const char *text,
                  const char *expected)
{
    return berth__failure_set(failure, EINVAL, "--%s: is \"%s\"; expected %s", option, text,
                              expected);
}

static int whole_parse(struct berth_failure *failure, const char *option, const char *text,
                       unsigned long long min, unsigned long long max,
                       unsigned long long *ret_value)
{
    unsigned long long value;
    char expected[80], *end;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < min ||
        value > max) {
        snprintf(expected, sizeof(expected), "a whole number from %llu to %llu", min, max);
        return refuse(failure, option, text, expected);
    }
    *ret_value = value;
    return 0;
}

static int size_parse(struct berth_failure *failure, const char *option, const char *text,
                      size_t min, size_t max, size_t *ret_value)
{
    unsigned long long value;
    int r = whole_parse(failure, option, text, min, max, &value);

    if (r == 0)
        *ret_value = (size_t)value;
    return r;
}

static int real_parse(struct berth_failure *failure, const char *option, const char *text,
                      double min, double max, const char *expected, double *ret_value)
{
    double value;
    char *end;

    value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < min || value > max)
        return refuse(failure, option, text, expected);
    *ret_value = value;
    return 0;
}

static int sampling_parse(int code, const char *text, struct berth_failure *failure,
                          struct berth_sampling *sampling)
{
    unsigned long long seed;
    int r;

    switch (code) {
    case OPTION_TEMPERATURE:
        return real_parse(failure, "temperature", text, 0, 1e6, "a number from 0 to 1000000",
                          &sampling->temperature);
    case OPTION_TOP_K:
        return size_parse(failure, "top-k", text, 0, (size_t)1 << 24, &sampling->top_k);
    case OPTION_TOP_P:
        return real_parse(failure, "top-p", text, 0, 1, "a number from 0 to 1", &sampling->top_p);
    default:
        r = whole_parse(failure, "seed", text, 0, UINT64_MAX, &seed);
        if (r == 0)
            sampling->seed = seed;
        return r;
    }
}

static void flag_set(int code, struct berth_infer_options *options)
{
    switch (code) {
    case OPTION_INTERACTIVE:
        options->interactive = true;
        break;
    case OPTION_ECHO:
        options->echo = true;
        break;
    case OPTION_IDS:
        options->ids_only = true;
        break;
    case OPTION_IGNORE_EOS:
        options->ignore_eos = true;
        break;
    case OPTION_PERSIST:
        options->persist = true;
        break;
    case OPTION_KEEP_SESSIONS:
        options->keep_sessions = true;
        break;
    case OPTION_STATS:
        options->stats = true;
        break;
    case OPTION_HELP:
        options->help = true;
        break;
    default:
        options->version = true;
        break;
    }
}

static int option_take(int code, const char *text, struct berth_failure *failure,
                       struct berth_infer_options *options)
{
    switch (code) {
    case OPTION_MODEL:
        options->model = text;
        return 0;
    case OPTION_PROMPT:
        options->prompts[options->prompt_count++] = text;
        return 0;
    case OPTION_PROMPT_IDS:
        options->prompt_ids = text;
        return 0;
    case OPTION_LOGITS:
        options->logits_path = text;
        return 0;
    case OPTION_END_MARK:
        options->end_mark = text;
        return 0;
    case OPTION_MAX_TOKENS:
        return size_parse(failure, "max-tokens", text, 0, (size_t)1 << 30, &options->tokens_max);
    case OPTION_THREADS:
        return size_parse(failure, "threads", text, 1, BERTH_THREADS_MAX, &options->threads);
    case OPTION_TEMPERATURE:
    case OPTION_TOP_K:
    case OPTION_TOP_P:
    case OPTION_SEED:
        return sampling_parse(code, text, failure, &options->sampling);
    default:
        flag_set(code, options);
        return 0;
    }
}

int berth__infer_options_parse(int argc, char **argv, struct berth_failure *failure,
                               struct berth_infer_options *ret_options)
{
    struct berth_infer_options options = {
        .sampling = {.top_p = 1},
        .tokens_max = 128,
        .threads = berth__thread_pool_online(),
    };
    int code, r = 0;

    options.prompts = calloc((size_t)argc + 1, sizeof(options.prompts[0]));
    if (!options.prompts)
        return berth__failure_no_memory(failure, "options", (size_t)argc);
    optind = 1;
    opterr = 0;
    while (r == 0 && (code = getopt_long(argc, argv, ":", long_options, NULL)) != -1) {
        if (code == '?' || code == ':')
            r = berth__failure_set(failure, EINVAL, "%s: %s; see --help", argv[optind - 1],
                                   code == '?' ? "is no option of berth-infer"
                                               : "needs a value after it");
        else
            r = option_take(code, optarg, failure, &options);
    }
    if (r == 0 && optind < argc)
        r = berth__failure_set(failure, EINVAL, "%s: is not expected here; see --help",
                               argv[optind]);
    if (r == 0 && !options.model && !options.help && !options.version)
        r = berth__failure_set(failure, EINVAL, "--model: is missing; expected a folder");
    if (r < 0) {
        berth__infer_options_done(&options);
        return r;
    }
    *ret_options = options;
    return 0;
}

void berth__infer_options_done(struct berth_infer_options *options)
{
    free(options->prompts);
    options->prompts = NULL;
}
