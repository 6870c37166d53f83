/* SPDX-License-Identifier: Apache-2.0 */
/* The options: berth-infer's command line. */
#ifndef BERTH_INFER_OPTIONS_H
#define BERTH_INFER_OPTIONS_H

#include "failure.h"
#include "sampler.h"

#include <stdbool.h>
#include <stddef.h>

struct berth_infer_options {
    const char *model;
    const char **prompts; /* owned array of borrowed strings */
    size_t prompt_count;
    const char *prompt_ids; /* NULL: not given */
    const char *logits_path;
    const char *end_mark; /* NULL: not given */
    struct berth_sampling sampling;
    size_t tokens_max;
    size_t threads;
    bool interactive;
    bool echo;
    bool ids_only;
    bool ignore_eos;
    bool keep_sessions;
    bool persist;
    bool stats;
    bool help;
    bool version;
};

/* -EINVAL with the failure set for a command line that makes no sense. */
int berth__infer_options_parse(int argc, char **argv, struct berth_failure *failure,
                               struct berth_infer_options *ret_options);
void berth__infer_options_done(struct berth_infer_options *options);
void berth__infer_options_help(void);

#endif
