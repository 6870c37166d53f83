/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/berth/policy_move.h"

#include "alloc/quantity.h"
#include "tools/berth/tool.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How often it is asked how far the job is. */
#define ASK_NS 50000000 /* 50 ms */

/* "3 blocks, 1.5 MiB" */
static const char *count_text(const json_t *count, char *text, size_t size)
{
    char bytes[BERTH_QUANTITY_TEXT_MAX];
    long long blocks = (long long)json_integer_value(json_object_get(count, "blocks"));

    berth__quantity_format((uint64_t)json_integer_value(json_object_get(count, "bytes")), bytes);
    snprintf(text, size, "%lld block%s, %s", blocks, blocks == 1 ? "" : "s", bytes);
    return text;
}

static void show_progress(const json_t *state, bool last)
{
    char done[96], total[96], copied[BERTH_QUANTITY_TEXT_MAX];

    if (!isatty(STDERR_FILENO))
        return;
    berth__quantity_format((uint64_t)json_integer_value(json_object_get(state, "copied")), copied);
    if (last)
        fputs("\r\033[K", stderr);
    else
        fprintf(stderr, "\r%s of %s; %s of the next one\033[K",
                count_text(json_object_get(state, "done"), done, sizeof(done)),
                count_text(json_object_get(state, "total"), total, sizeof(total)), copied);
}

static volatile sig_atomic_t interrupted;

static void note_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* The first interrupt cancels the move, which then ends soon; a second one ends this command. */
static void handle_interrupts(void)
{
    struct sigaction action = {.sa_handler = note_interrupt, .sa_flags = SA_RESETHAND};

    sigaction(SIGINT, &action, NULL);
}

/* Another conversation with a process that did not answer in time; false after one line. */
static bool reopen(struct berth_session *session, const struct berth_process *process)
{
    int r;

    do {
        berth__session_close(session);
        r = berth__session_open(session, process, 1);
    } while (r == -ETIMEDOUT);
    return r == 0 || berth__session_open(session, process, 0) == 0;
}

/*
 * The answer to a question about moves, or NULL after one line. What a process has begun goes on in
 * it whoever asks: one that is stopped, or has no time for an answer, is asked again.
 */
static json_t *ask(const struct berth_process *process, struct berth_session *session,
                   const char *operation)
{
    for (bool waits = false;; waits = true) {
        json_t *request = json_pack("{s:s}", "op", operation);
        json_t *answer = berth__session_request(session, request, -1, waits);

        if (answer || (session->error != -ETIMEDOUT && !waits))
            return answer;
        if (!waits)
            fputs("berth: the move goes on when it does; waiting for it\n", stderr);
        if (!reopen(session, process))
            return NULL;
    }
}

/* Asks until the job that runs has ended; the last state, or NULL after one line. */
static json_t *wait_for_job(const struct berth_process *process, struct berth_session *session)
{
    const struct timespec pause = {.tv_nsec = ASK_NS};
    const char *operation = "move.state";
    json_t *state;

    while ((state = ask(process, session, operation))) {
        bool running = json_is_true(json_object_get(state, "running"));

        show_progress(state, !running);
        if (!running)
            break;
        json_decref(state);
        nanosleep(&pause, NULL);
        operation = interrupted ? "move.cancel" : "move.state";
    }
    return state;
}

/* A job that somebody else has begun ends first. */
static bool wait_for_others(const struct berth_process *process, struct berth_session *session)
{
    json_t *state = ask(process, session, "move.state");
    bool running = json_is_true(json_object_get(state, "running"));

    if (running) {
        fprintf(stderr, "berth: another move is under way in process %d; waiting for its end\n",
                (int)process->pid);
        json_decref(state);
        state = wait_for_job(process, session);
    }
    json_decref(state);
    return state;
}

/* Codes of blocks that nobody wants to be elsewhere. */
static bool is_no_refusal(const char *code)
{
    return strcmp(code, "there") == 0 || strcmp(code, "gone") == 0 || strcmp(code, "no-place") == 0;
}

static void print_tiers(json_t *tiers)
{
    const char *name;
    json_t *tier;

    json_object_foreach(tiers, name, tier)
    {
        char into[96], out_of[96];

        printf("  %s: %s in; %s out\n", name,
               count_text(json_object_get(tier, "into"), into, sizeof(into)),
               count_text(json_object_get(tier, "out_of"), out_of, sizeof(out_of)));
    }
}

static int print_refused(const json_t *state)
{
    const char *detail = json_string_value(json_object_get(state, "detail"));
    int status = 0;
    size_t i;
    json_t *entry;

    json_array_foreach(json_object_get(state, "refused"), i, entry)
    {
        const char *code = json_string_value(json_object_get(entry, "code"));
        const char *why = json_string_value(json_object_get(entry, "why"));
        char text[96];

        printf("  not moved: %s: %s\n", count_text(entry, text, sizeof(text)), why ? why : "");
        if (code && !is_no_refusal(code))
            status = BERTH_EXIT_FAILURE;
    }
    if (status != 0 && detail && *detail)
        printf("  the last refusal: %s\n", detail);
    if (json_is_true(json_object_get(state, "waits_for_quiescence")))
        puts("  what is left is tried again when the program calls berth_step_quiescent()");
    return status;
}

int berth__policy_move(const struct berth_process *process, struct berth_session *session)
{
    char text[96];
    json_t *state;
    int status;

    if (!wait_for_others(process, session))
        return BERTH_EXIT_FAILURE;
    handle_interrupts();
    state = berth__session_request(session, json_pack("{s:s}", "op", "move"), -1, 0);
    json_decref(state);
    if (!state)
        return BERTH_EXIT_FAILURE;
    state = wait_for_job(process, session);
    if (!state)
        return BERTH_EXIT_FAILURE;
    printf("process %d: moved %s\n", (int)process->pid,
           count_text(json_object_get(state, "moved"), text, sizeof(text)));
    print_tiers(json_object_get(state, "tiers"));
    status = print_refused(state);
    json_decref(state);
    return status;
}
