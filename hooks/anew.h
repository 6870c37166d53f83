/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that cannot have what is preloaded into it is started anew without that, before
 * anything of it has run, which is said in one line. Its children inherit that.
 *
 * This happens while the loader relocates this library (early.c). No function of another library is
 * called here.
 */
#ifndef BERTH_HOOKS_ANEW_H
#define BERTH_HOOKS_ANEW_H

#include <stdbool.h>

/* What it is started without; ascending. */
enum berth_anew_without { BERTH_ANEW_AS_IT_IS, BERTH_ANEW_WITHOUT_MALLOC, BERTH_ANEW_WITHOUT_ALL };

/* What the program is started with. */
struct berth_anew_start {
    const char *program;
    char **argv;
    char **envp; /* with room for two more */
};

/* The beginning of the line that says so: a sentence, with a name in its midst. */
struct berth_anew_why {
    const char *before, *name, *behind;
};

/* False: it cannot be told. */
bool berth__anew_ask(struct berth_anew_start *ret);
/* Whether this process was started anew before, as this or as another program. */
bool berth__anew_was_started(const struct berth_anew_start *start);
/*
 * Comes back where the program cannot be started anew. That its LD_PRELOAD has changed sees to it
 * that this is tried once, unless the program puts back what was taken out.
 */
void berth__anew_start(struct berth_anew_start *start, enum berth_anew_without without,
                       const struct berth_anew_why *why);

#endif
