/* SPDX-License-Identifier: Apache-2.0 */
#include "generator.h"

#include "clock.h"
#include "id_list.h"
#include "kernels.h"
#include "memory.h"
#include "model.h"
#include "probe.h"
#include "sampler.h"
#include "session.h"
#include "stats.h"
#include "text_stream.h"
#include "thread_pool.h"
#include "tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The probe takes its turn after this many decode steps. */
#define STEPS_PER_PROBE 4

struct berth_generator {
    const struct berth_infer_options *options;
    const struct berth_kernels *kernels;
    struct berth_thread_pool *pool;
    struct berth_model *model;
    struct berth_tokenizer *tokenizer; /* NULL where only ids are wanted */
    struct berth_probe *probe;         /* NULL without --stats */
    FILE *logits_file;                 /* NULL without --logits */
    struct berth_session **kept;       /* with --keep-sessions: those of earlier prompts */
    size_t kept_count;
    struct berth_infer_stats stats;
};

/* One prompt on its way. */
struct answer {
    struct berth_generator *generator;
    struct berth_session *session;
    struct berth_sampler *sampler;
    struct berth_text_stream stream;
    struct berth_failure *failure;
    size_t written; /* tokens */
};

static int kernels_choose(struct berth_failure *failure, const struct berth_kernels **ret_kernels)
{
    const char *name = getenv("BERTH_INFER_ISA");
    const struct berth_kernels *kernels = berth__kernels_choose(name && name[0] ? name : NULL);

    if (!kernels)
        return berth__failure_set(failure, EINVAL,
                                  "BERTH_INFER_ISA: is \"%s\"; expected scalar, avx2 or avx512, "
                                  "as far as this CPU has it",
                                  name);
    *ret_kernels = kernels;
    return 0;
}

static int logits_open(struct berth_generator *generator, struct berth_failure *failure)
{
    const char *path = generator->options->logits_path;

    if (!path)
        return 0;
    generator->logits_file = fopen(path, "we");
    if (!generator->logits_file)
        return berth__failure_set(failure, errno, "--logits %s: %s", path, strerror(errno));
    return 0;
}

static int model_load(struct berth_generator *generator, struct berth_failure *failure)
{
    const struct berth_weight_source source = {.dir = generator->options->model,
                                               .persist = generator->options->persist};
    uint64_t begin = berth__clock_ns();
    int r = berth__model_load(&source, failure, &generator->model);

    generator->stats.weights_ns = berth__clock_ns() - begin;
    if (r == 0 && generator->model->image)
        generator->stats.weights_in = generator->model->found ? "found" : "kept";
    return r;
}

static int parts_load(struct berth_generator *generator, struct berth_failure *failure)
{
    const struct berth_infer_options *options = generator->options;
    uint64_t begin = berth__clock_ns();
    int r;

    r = kernels_choose(failure, &generator->kernels);
    if (r == 0)
        r = logits_open(generator, failure);
    if (r == 0)
        r = model_load(generator, failure);
    if (r == 0 && !(options->prompt_ids && options->ids_only))
        r = berth__tokenizer_load(options->model, generator->model->config.bos, failure,
                                  &generator->tokenizer);
    if (r == 0)
        r = berth__thread_pool_new(options->threads, failure, &generator->pool);
    generator->stats.load_ns = berth__clock_ns() - begin;
    generator->stats.weight_bytes = berth__memory_held(BERTH_TAG_WEIGHT);
    if (r == 0 && options->stats)
        r = berth__probe_new(generator->kernels, generator->pool, failure, &generator->probe);
    return r;
}

int berth__generator_new(const struct berth_infer_options *options, struct berth_failure *failure,
                         struct berth_generator **ret_generator)
{
    struct berth_generator *generator = calloc(1, sizeof(*generator));
    int r;

    if (!generator)
        return berth__failure_no_memory(failure, "generator", sizeof(*generator));
    generator->options = options;
    r = parts_load(generator, failure);
    if (r < 0) {
        berth__generator_free(generator);
        return r;
    }
    *ret_generator = generator;
    return 0;
}

void berth__generator_free(struct berth_generator *generator)
{
    if (!generator)
        return;
    for (size_t i = 0; i < generator->kept_count; i++)
        berth__session_free(generator->kept[i]);
    free(generator->kept);
    berth__probe_free(generator->probe);
    berth__thread_pool_free(generator->pool);
    berth__tokenizer_free(generator->tokenizer);
    berth__model_free(generator->model);
    berth__infer_stats_done(&generator->stats);
    if (generator->logits_file)
        fclose(generator->logits_file);
    free(generator);
}

static int output_check(int written, struct berth_failure *failure)
{
    if (written >= 0 && fflush(stdout) == 0)
        return 0;
    return berth__failure_set(failure, EIO, "stdout: %s", strerror(errno));
}

/* As text, in whole characters; or as ids with spaces between. */
static int token_write(struct answer *answer, uint32_t token)
{
    const struct berth_generator *generator = answer->generator;
    const unsigned char *bytes;
    size_t size;
    int written;

    if (generator->options->ids_only) {
        written = printf("%s%u", answer->written > 0 ? " " : "", token);
    } else {
        bytes = berth__tokenizer_bytes(generator->tokenizer, token, &size);
        written = berth__text_stream_write(&answer->stream, bytes, size);
    }
    answer->written++;
    return output_check(written, answer->failure);
}

static void logits_write(const struct answer *answer, const uint32_t *ids, size_t count)
{
    const struct berth_generator *generator = answer->generator;
    const float *logits = berth__session_logits(answer->session);
    FILE *file = generator->logits_file;

    if (!file)
        return;
    fputs("{\"prompt_ids\":[", file);
    for (size_t i = 0; i < count; i++)
        fprintf(file, "%s%u", i > 0 ? "," : "", ids[i]);
    fputs("],\"logits_last\":[", file);
    for (size_t i = 0; i < generator->model->config.vocab; i++)
        fprintf(file, "%s%.9g", i > 0 ? "," : "", (double)logits[i]);
    fputs("]}\n", file);
}

static int prompt_feed(struct answer *answer, const uint32_t *ids, size_t count)
{
    struct berth_generator *generator = answer->generator;
    uint64_t begin = berth__clock_ns();
    int r;

    r = berth__session_feed(answer->session, ids, count, answer->failure);
    if (r < 0)
        return r;
    generator->stats.prefill_tokens += count;
    generator->stats.prefill_ns += berth__clock_ns() - begin;
    logits_write(answer, ids, count);
    if (generator->logits_file && fflush(generator->logits_file) != 0)
        return berth__failure_set(answer->failure, EIO, "--logits: %s", strerror(errno));
    return 0;
}

static int token_feed(struct answer *answer, uint32_t token)
{
    struct berth_generator *generator = answer->generator;
    struct berth_infer_stats *stats = &generator->stats;
    uint64_t begin = berth__clock_ns(), read_bytes;
    int r;

    berth_step();
    r = berth__session_feed(answer->session, &token, 1, answer->failure);
    if (r < 0)
        return r;
    berth__series_add(&stats->decode_ns, berth__clock_ns() - begin);
    read_bytes = berth__model_bytes_per_token(generator->model) +
                 berth__session_kv_bytes_per_token(answer->session);
    stats->read_bytes += read_bytes;
    if (generator->probe && stats->decode_ns.count % STEPS_PER_PROBE == 1)
        berth__probe_sample(generator->probe, read_bytes);
    return 0;
}

static int tokens_generate(struct answer *answer)
{
    const struct berth_infer_options *options = answer->generator->options;
    const struct berth_config *config = &answer->generator->model->config;
    int r = 0;

    while (r == 0 && answer->written < options->tokens_max) {
        uint32_t token =
            berth__sampler_pick(answer->sampler, berth__session_logits(answer->session));

        if (!options->ignore_eos && berth__config_is_eos(config, token))
            break;
        r = token_write(answer, token);
        /* The last token's successor is nobody's business. */
        if (r < 0 || answer->written == options->tokens_max)
            break;
        if (berth__session_position(answer->session) == config->context_max) {
            fprintf(stderr, "berth-infer: the context of %zu tokens is full\n",
                    config->context_max);
            break;
        }
        r = token_feed(answer, token);
    }
    return r;
}

static void held_note(struct berth_infer_stats *stats)
{
    uint64_t kv = berth__memory_held(BERTH_TAG_KV);
    uint64_t activation = berth__memory_held(BERTH_TAG_ACTIVATION);

    if (kv > stats->kv_bytes)
        stats->kv_bytes = kv;
    if (activation > stats->activation_bytes)
        stats->activation_bytes = activation;
}

/* Ends a session, or keeps it as a server keeps a conversation that may go on. */
static void session_end(struct berth_generator *generator, struct berth_session *session)
{
    struct berth_session **kept = NULL;

    if (session && generator->options->keep_sessions)
        kept = realloc(generator->kept, (generator->kept_count + 1) * sizeof(kept[0]));
    if (!kept) {
        berth__session_free(session);
        return;
    }
    kept[generator->kept_count++] = session;
    generator->kept = kept;
}

/* What follows an answer's text: a newline, and the mark that a program waits for. */
static int end_write(const struct berth_generator *generator, struct berth_failure *failure)
{
    const char *mark = generator->options->end_mark;
    int written = mark ? printf("\n%s\n", mark) : putchar('\n');

    return output_check(written, failure);
}

int berth__generator_answer_ids(struct berth_generator *generator, const uint32_t *ids,
                                size_t count, struct berth_failure *failure)
{
    struct answer answer = {.generator = generator, .failure = failure, .stream = {.file = stdout}};
    int r;

    if (count == 0)
        return berth__failure_set(failure, EINVAL, "the prompt: has no tokens; expected some text");
    /* A step begins before the session's memory is allocated, so that a rule which names a
     * sequence range matches the same of it in every answer. */
    berth_step();
    r = berth__session_new(generator->model, generator->kernels, generator->pool, count, failure,
                           &answer.session);
    if (r == 0)
        r = berth__sampler_new(&generator->options->sampling, generator->model->config.vocab,
                               failure, &answer.sampler);
    if (r == 0)
        r = prompt_feed(&answer, ids, count);
    if (r == 0)
        r = tokens_generate(&answer);
    if (r == 0)
        r = output_check(berth__text_stream_finish(&answer.stream), failure);
    if (r == 0)
        r = end_write(generator, failure);
    held_note(&generator->stats);
    berth__sampler_free(answer.sampler);
    session_end(generator, answer.session);
    return r;
}

int berth__generator_answer_text(struct berth_generator *generator, const char *text, size_t size,
                                 struct berth_failure *failure)
{
    struct berth_id_list list = {0};
    int r;

    r = berth__tokenizer_encode(generator->tokenizer, text, size, true, failure, &list);
    if (r == 0 && generator->options->echo && !generator->options->ids_only)
        r = output_check(fwrite(text, 1, size, stdout) == size ? 0 : -1, failure);
    if (r == 0)
        r = berth__generator_answer_ids(generator, list.ids, list.count, failure);
    berth__id_list_done(&list);
    return r;
}

void berth__generator_print_stats(struct berth_generator *generator)
{
    if (generator->probe)
        generator->stats.bandwidth = berth__probe_bandwidth(generator->probe);
    berth__infer_stats_print(&generator->stats, generator->kernels->name,
                             berth__thread_pool_size(generator->pool), stderr);
}
