/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line on stderr, without malloc and without stdio: it may be called from inside malloc.
 *
 * BERTH_DEBUG="level[,topic:level...]" sets what is printed; the default is `warning`, so that a
 * healthy process prints nothing. A line that does not fit in BERTH_LOG_LINE_MAX ends in "...".
 */
#ifndef BERTH_ALLOC_LOG_H
#define BERTH_ALLOC_LOG_H

#include <stdatomic.h>
#include <stddef.h>

enum berth_level {
    BERTH_LOG_NONE = 0,
    BERTH_LOG_ERROR,
    BERTH_LOG_WARNING,
    BERTH_LOG_INFO,
    BERTH_LOG_DEBUG,
    BERTH_LOG_LEVEL_COUNT
};

enum berth_topic {
    BERTH_TOPIC_OPTIONS,
    BERTH_TOPIC_POLICY, /* tables: loading, swapping, matching */
    BERTH_TOPIC_TIER,   /* host tiers and windows */
    BERTH_TOPIC_MALLOC, /* the malloc family */
    BERTH_TOPIC_FORK,
    BERTH_TOPIC_SITE, /* call sites */
    BERTH_TOPIC_POOL, /* the device pool */
    BERTH_TOPIC_CUDA, /* the CUDA hooks */
    BERTH_TOPIC_IPC,  /* socket and protocol */
    BERTH_TOPIC_MOVE, /* blocks that change their tier */
    BERTH_TOPIC_CLASSIFIER,
    BERTH_TOPIC_COUNT
};

#define BERTH_LOG_LINE_MAX 1024

/* Reads a BERTH_DEBUG text; NULL keeps the default. A part that is wrong is said and skipped. */
void berth__log_configure(const char *spec);

int berth__log_enabled(enum berth_level level, enum berth_topic topic);

/*
 * Prints "berth[PID]: topic: message\n" at once, or not at all where stderr would not take it
 * unnoticed (log_output.h). Keeps errno.
 */
void berth__log(enum berth_level level, enum berth_topic topic, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same, but only the first time for this `*said`. */
#define berth__log_once(said, level, topic, ...)                                                   \
    do {                                                                                           \
        if (!atomic_exchange_explicit((said), 1, memory_order_relaxed))                            \
            berth__log((level), (topic), __VA_ARGS__);                                             \
    } while (0)

#endif
