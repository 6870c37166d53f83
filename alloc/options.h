/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one table of options. It feeds BERTH_OPTIONS="k=v,...", the `options` section of a policy,
 * `berth run -o k=v`, `berth run --help`, libberth(7) and the start-up dump (BERTH_DEBUG=info).
 *
 * Precedence: default < policy < environment < command. Values are set before threads exist or by
 * the control thread, and read with relaxed atomic loads: each is a number that is right by itself.
 */
#ifndef BERTH_ALLOC_OPTIONS_H
#define BERTH_ALLOC_OPTIONS_H

#include "alloc/types.h"

#include <stdatomic.h>

enum berth_option_type { BERTH_OPTION_SIZE, BERTH_OPTION_COUNT_TYPE, BERTH_OPTION_CHOICE };

/* Choices of the option `classifier`. */
enum berth_classifier_choice {
    BERTH_CLASSIFIER_OFF,
    BERTH_CLASSIFIER_ON,
    BERTH_CLASSIFIER_BLIND /* the program's own tags are not heeded; to measure it by them */
};
/* Choices of the option `control`. */
enum berth_control { BERTH_CONTROL_AUTO, BERTH_CONTROL_ALWAYS, BERTH_CONTROL_NEVER };
/* Choices of the option `sites`. */
enum berth_sites { BERTH_SITES_POLICY, BERTH_SITES_ALWAYS };
/* Choices of the option `host`. */
enum berth_host { BERTH_HOST_AUTO, BERTH_HOST_ON, BERTH_HOST_OFF };
/* Choices of the option `segments`; see alloc/pool.h. */
enum berth_segments { BERTH_SEGMENTS_OWN, BERTH_SEGMENTS_SHARED, BERTH_SEGMENTS_EXPANDABLE };

/* More than any device has, so that a mistyped unit is told. */
#define BERTH_OPTION_DEVICE_MAX ((uint64_t)1 << 50) /* 1 PiB */

/* Choices of the option `free`. */
enum berth_free { BERTH_FREE_SYNC, BERTH_FREE_LAZY };

/*
 * X(identifier, "name", type, default, least, most, "choices", "unit", "help")
 *
 * A size or count is refused outside [least, most]; a choice is one of the `|`-joined words, and
 * its value is the word's index.
 */
#define BERTH_OPTIONS(X)                                                                           \
    X(RECORD_THRESHOLD, "record-threshold", SIZE, 64 * BERTH_KIB, 0, BERTH_GIB, "", "bytes",       \
      "Blocks of at least this size are accounted one by one, and their call sites are read.")     \
    X(SITE_DEPTH, "site-depth", COUNT_TYPE, 32, 1, 128, "", "frames",                              \
      "How many frames of a call path are read.")                                                  \
    X(SITES, "sites", CHOICE, BERTH_SITES_POLICY, 0, 0, "policy|always", "",                       \
      "Whether the call sites of blocks are read: where the policy names some, or always.")        \
    X(SITE_SAMPLE, "site-sample", SIZE, 512 * BERTH_KIB, 0, BERTH_GIB, "", "bytes",                \
      "With sites=always, of smaller blocks one in so many bytes is read, too; 0: none.")          \
    X(CONTROL, "control", CHOICE, BERTH_CONTROL_AUTO, 0, 0, "auto|always|never", "",               \
      "When the control socket opens: at the first cuInit or placed block, always, or never.")     \
    X(HOST, "host", CHOICE, BERTH_HOST_AUTO, 0, 0, "auto|on|off", "",                              \
      "Whether `berth run` preloads the malloc side: when the policy has a host rule, or as "      \
      "said.")                                                                                     \
    X(SEGMENT_SIZE, "segment-size", SIZE, 32 * BERTH_MIB, 2 * BERTH_MIB, 64 * BERTH_GIB, "",       \
      "bytes",                                                                                     \
      "Device blocks below ipc-min share segments, which double from 2 MiB to this size.")         \
    X(HISTORY, "history", COUNT_TYPE, 0, 0, (uint64_t)1 << 26, "", "records",                      \
      "How many of the newest device allocations and frees are kept for `berth snapshot`.")        \
    X(CLASSIFIER, "classifier", CHOICE, BERTH_CLASSIFIER_OFF, 0, 0, "off|on|blind", "",            \
      "Whether large blocks that nobody tagged are tagged by how they are used; blind: even the "  \
      "others.")                                                                                   \
    X(TRACE_PATHS, "trace-paths", CHOICE, 0, 0, 0, "off|on", "",                                   \
      "Whether call paths are read for BERTH_TRACE and for the history.")                          \
    X(THREAD_CACHE, "thread-cache", SIZE, 32 * BERTH_MIB, 0, 64 * BERTH_GIB, "", "bytes",          \
      "How much of free device blocks each thread keeps for itself, at most 256K unless "          \
      "segments = own; 0: nothing, every call locks.")                                             \
    X(IPC_MIN, "ipc-min", SIZE, 2 * BERTH_MIB, 0, 64 * BERTH_GIB, "", "bytes",                     \
      "Device blocks of at least this size have a driver allocation of their own, as IPC needs.")  \
    X(FREE, "free", CHOICE, BERTH_FREE_SYNC, 0, 0, "sync|lazy", "",                                \
      "Whether cuMemFree waits for the device, as the driver does, or returns at once.")           \
    X(WAITING_MAX, "waiting-max", SIZE, BERTH_GIB, 0, 1024 * BERTH_GIB, "", "bytes",               \
      "With free = lazy: so much may be freed and not ready for reuse yet, in each pool.")         \
    X(SEGMENTS, "segments", CHOICE, BERTH_SEGMENTS_OWN, 0, 0, "own|shared|expandable", "",         \
      "Whether large device blocks own a driver allocation, share some, or lie in a growing "      \
      "range.")                                                                                    \
    X(SPARE, "spare", COUNT_TYPE, 100, 0, 1000000, "", "per cent",                                 \
      "With segments = own: so much more than ever lived at once may be kept, and 128 MiB in any " \
      "case; 0: nothing.")                                                                         \
    X(DEVICE_FLOOR, "device-floor", SIZE, 0, 0, BERTH_OPTION_DEVICE_MAX, "", "bytes",              \
      "When a device has less free memory than this, what is cached on it is given back; 0: "      \
      "never.")                                                                                    \
    X(DEVICE_FLOOR_INTERVAL, "device-floor-interval", COUNT_TYPE, 1000, 10, 3600000, "",           \
      "milliseconds",                                                                              \
      "How often the device's free memory is looked at, where device-floor is set.")               \
    X(DEVICE_LIMIT, "device-limit", SIZE, 0, 0, BERTH_OPTION_DEVICE_MAX, "", "bytes",              \
      "The most device memory that the process may take from the driver; 0: no limit.")            \
    X(DEVICE_LIMIT_UNTAGGED, "device-limit-untagged", SIZE, 0, 0, BERTH_OPTION_DEVICE_MAX, "",     \
      "bytes", "The most device memory that untagged blocks may hold; 0: no limit.")               \
    X(DEVICE_LIMIT_WEIGHT, "device-limit-weight", SIZE, 0, 0, BERTH_OPTION_DEVICE_MAX, "",         \
      "bytes", "The same for blocks of the tag weight.")                                           \
    X(DEVICE_LIMIT_ACTIVATION, "device-limit-activation", SIZE, 0, 0, BERTH_OPTION_DEVICE_MAX, "", \
      "bytes", "The same for blocks of the tag activation.")                                       \
    X(DEVICE_LIMIT_KV, "device-limit-kv", SIZE, 0, 0, BERTH_OPTION_DEVICE_MAX, "", "bytes",        \
      "The same for blocks of the tag kv.")                                                        \
    X(DEVICE_LIMIT_WORKSPACE, "device-limit-workspace", SIZE, 0, 0, BERTH_OPTION_DEVICE_MAX, "",   \
      "bytes", "The same for blocks of the tag workspace.")

enum berth_option {
#define X(identifier, ...) BERTH_OPTION_##identifier,
    BERTH_OPTIONS(X)
#undef X
        BERTH_OPTION_COUNT
};

enum berth_origin {
    BERTH_ORIGIN_DEFAULT,
    BERTH_ORIGIN_POLICY,
    BERTH_ORIGIN_ENVIRONMENT,
    BERTH_ORIGIN_COMMAND /* somebody asked for it while the process runs */
};

struct berth_option_info {
    const char *name;
    enum berth_option_type type;
    uint64_t fallback; /* the default */
    uint64_t least, most;
    const char *choices;
    const char *unit;
    const char *help;
};

extern const struct berth_option_info berth__option_info[BERTH_OPTION_COUNT];

/* In force, the defaults included: several are read at each allocation. */
extern BERTH_SHARED _Atomic uint64_t berth__option_values[BERTH_OPTION_COUNT];
static inline uint64_t berth__option(enum berth_option option)
{
    return atomic_load_explicit(&berth__option_values[option], memory_order_relaxed);
}

/*
 * Which of the options device-limit-TAG are not 0, one bit per tag, and device-limit by the bit
 * after them: for paths that ask each time.
 */
extern BERTH_SHARED _Atomic unsigned berth__option_limit_bits;
static inline unsigned berth__option_limits(void)
{
    return atomic_load_explicit(&berth__option_limit_bits, memory_order_relaxed);
}

enum berth_origin berth__option_origin(enum berth_option option);

/* Room for any reason that the functions below give. */
#define BERTH_OPTION_WHY_MAX 256

/*
 * Checks "name" and "value", and sets the option unless a stronger origin has set it, or `origin`
 * is BERTH_ORIGIN_DEFAULT, which checks only. 0, or -ENOENT (no such option), -EINVAL, -ERANGE with
 * the reason in `why` ("what is wrong; what was expected"); nothing is changed then.
 */
int berth__option_set(const char *name, size_t name_length, const char *value, size_t value_length,
                      enum berth_origin origin, char why[BERTH_OPTION_WHY_MAX]);

/* Takes back what `origin` has set: the option has its default again. Else nothing is changed. */
void berth__option_unset(enum berth_option option, enum berth_origin origin);

/*
 * Reads "k=v,k=v". Each part that is wrong is passed to `complain` (may be NULL) and skipped; the
 * others are set. Returns how many were wrong.
 */
int berth__options_parse(const char *list, enum berth_origin origin,
                         void (*complain)(const char *why, void *context), void *context);

/* The value as text ("64.0 KiB", "32", "auto"); returns `buffer`. */
#define BERTH_OPTION_TEXT_MAX 64
const char *berth__option_text(enum berth_option option, char buffer[BERTH_OPTION_TEXT_MAX]);
const char *berth__origin_name(enum berth_origin origin);

#endif
