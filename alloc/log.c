/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc/log.h"

#include "alloc/log_output.h"
#include "alloc/types.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[BERTH_LOG_LEVEL_COUNT] = {"none", "error", "warning", "info",
                                                               "debug"};
static const char *const topic_names[BERTH_TOPIC_COUNT] = {
    "options", "policy", "tier", "malloc", "fork",      "site",
    "pool",    "cuda",   "ipc",  "move",   "classifier"};

/*
 * The level of each topic, plus one, so that zero-initialised memory means "the default". Written
 * by berth__log_configure() before threads exist, or by the control thread; a torn read is
 * impossible for a byte.
 */
BERTH_SHARED _Atomic unsigned char berth__log_levels[BERTH_TOPIC_COUNT];

static int index_of(const char *const *names, int count, const char *text, size_t length)
{
    for (int i = 0; i < count; i++)
        if (strlen(names[i]) == length && memcmp(names[i], text, length) == 0)
            return i;
    return -1;
}

/* Says which names there are: "A, B or C". */
static void complain(const char *text, size_t length, const char *const *names, int count)
{
    char expected[BERTH_LOG_LINE_MAX / 2] = "";
    size_t used = 0;

    for (int i = 0; i < count && used < sizeof(expected); i++)
        used += (size_t)snprintf(expected + used, sizeof(expected) - used, "%s%s",
                                 i == 0           ? ""
                                 : i == count - 1 ? " or "
                                                  : ", ",
                                 names[i]);
    berth__log(BERTH_LOG_WARNING, BERTH_TOPIC_OPTIONS,
               "BERTH_DEBUG: '%.*s' is not known; expected %s", (int)length, text, expected);
}

static void configure_part(const char *part, size_t length)
{
    const char *colon = memchr(part, ':', length);
    const char *level_text = colon ? colon + 1 : part;
    size_t level_length = (size_t)(part + length - level_text);
    int level = index_of(level_names, BERTH_LOG_LEVEL_COUNT, level_text, level_length);
    int topic = -1;

    if (level < 0) {
        complain(level_text, level_length, level_names, BERTH_LOG_LEVEL_COUNT);
        return;
    }
    if (colon) {
        topic = index_of(topic_names, BERTH_TOPIC_COUNT, part, (size_t)(colon - part));
        if (topic < 0) {
            complain(part, (size_t)(colon - part), topic_names, BERTH_TOPIC_COUNT);
            return;
        }
    }
    for (int i = 0; i < BERTH_TOPIC_COUNT; i++)
        if (topic < 0 || topic == i)
            berth__log_levels[i] = (unsigned char)(level + 1);
}

void berth__log_configure(const char *spec)
{
    while (spec && *spec) {
        size_t length = strcspn(spec, ",");

        configure_part(spec, length);
        spec += length;
        if (*spec == ',')
            spec++;
    }
}

int berth__log_enabled(enum berth_level level, enum berth_topic topic)
{
    unsigned char stored = atomic_load_explicit(&berth__log_levels[topic], memory_order_relaxed);
    int limit = stored ? stored - 1 : BERTH_LOG_WARNING;

    return (int)level <= limit;
}

void berth__log(enum berth_level level, enum berth_topic topic, const char *format, ...)
{
    int saved_errno = errno;
    char line[BERTH_LOG_LINE_MAX];
    size_t used;
    va_list args;
    int n;

    if (!berth__log_enabled(level, topic))
        return;
    n = snprintf(line, sizeof(line), "berth[%d]: %s: ", (int)getpid(), topic_names[topic]);
    used = n > 0 ? (size_t)n : 0;
    va_start(args, format);
    n = vsnprintf(line + used, sizeof(line) - used, format, args);
    va_end(args);
    if (n > 0)
        used += (size_t)n;
    if (used > sizeof(line) - 1) {
        used = sizeof(line) - 1;
        memcpy(line + used - 3, "...", 3);
    }
    /* A name with a line feed in it does not make two lines. */
    for (size_t i = 0; i < used; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[used++] = '\n';
    berth__log_output(line, used);
    errno = saved_errno;
}
